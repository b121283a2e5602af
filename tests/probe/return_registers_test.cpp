// SPDX-License-Identifier: MIT
// Every register survives a call that is tracked, skipped or missed, at its entry and at its return; handlers see what is in
// them, and the caller finds what they make of it. Compilers keep values in any register over calls of functions that they know
// (-fipa-ra), and pass arguments and results of every kind in every one.
#include <algorithm>
#include <cerrno>
#include <complex>

#include DYNFUNC_TEST_REGISTER_STATE
#include "returns.hpp"

namespace dynfunc {
namespace {

using namespace test;  // register_state_<machine>.hpp

struct Look {
    Registers registers{};
    std::vector<std::byte> vectors;
    int times = 0;
    const State* give = nullptr;  // the handler makes the registers these

    void operator()(Registers& now) {
        registers = now;
        ++times;
        if (now.vectors != nullptr) vectors.assign(now.vectors, now.vectors + vector_registers * now.vector_bytes);
        if (give != nullptr) give_registers(now, *give);
    }
};

struct Looks {
    Look entry, end;
    Track track = Track::track;
};
using Data = Looks*;

ReturnOptions<Data> looking(Looks& looks) {
    return {.on_entry =
                [](Data& data, Registers& registers) {
                    data->entry(registers);
                    const Track track = data->track;
                    spoil();
                    return track;
                },
            .on_return =
                [](Data& data, Registers& registers) {
                    data->end(registers);
                    spoil();
                },
            .on_create = [&looks](Data& data) { data = &looks; }};
}

// For handlers that promise to leave vector registers alone.
[[gnu::target("general-regs-only")]] void copy_registers(Look& look, const Registers& now) {
    for (std::size_t i = 0; i < sizeof(Registers) / 8; ++i)
        reinterpret_cast<std::uint64_t*>(&look.registers)[i] = reinterpret_cast<const std::uint64_t*>(&now)[i];
    ++look.times;
    spoil_without_vectors();
}
[[gnu::target("general-regs-only")]] Track enter_without_vectors(Data& data, Registers& registers) {
    copy_registers(data->entry, registers);
    return data->track;
}
[[gnu::target("general-regs-only")]] void leave_without_vectors(Data& data, Registers& registers) {
    copy_registers(data->end, registers);
}
ReturnOptions<Data> looking_without_vectors(Looks& looks) {
    return {.on_entry = &enter_without_vectors,
            .on_return = &leave_without_vectors,
            .on_create = [&looks](Data& data) { data = &looks; },
            .needs = Needs::registers};
}

class ReturnRegisters : public Returns {
protected:
    static void expect_same(const State& before, State after, const char* what) {
        forget_what_calls_change(before, after, what);
        test::expect_same(before, after, what);
    }

    void run(const QuietFunction& each) {
        random_.fill(state_in, false);
        state_target = reinterpret_cast<const void*>(each.function);
        errno = 12;
        run_state();
        EXPECT_EQ(errno, 12);
    }
    // The function changes no register: each is the same everywhere.
    static void expect_seen(const Look& look, const char* what) {
        for (int i = 0; i < gprs; ++i) {
            Registers copy = look.registers;
            EXPECT_TRUE(!is_kept(i) || gpr_of(copy, i) == state_in.gpr[i]) << what << " saw register " << i;
        }
        if (look.vectors.empty()) return;
        const std::size_t width = look.registers.vector_bytes, compared = std::min(width, known_vector_bytes());
        for (std::size_t i = 0; i < vector_registers; ++i)
            EXPECT_EQ(std::memcmp(look.vectors.data() + i * width, vector_of(state_in, i), compared), 0)
                << what << " vector " << i;
    }

    RandomState random_;
};

TEST_F(ReturnRegisters, SurviveAndAreSeen) {
    for (const QuietFunction& each : quiet_functions) {
        for (const Needs needs : {Needs::vectors, Needs::registers}) {
            Looks looks;
            auto options = needs == Needs::vectors ? looking(looks) : looking_without_vectors(looks);
            options.breakpoint = each.breakpoint;
            const auto probe = ReturnProbe<Data>::attach(each.function, options);
            ASSERT_TRUE(probe) << each.name << ": " << probe.error().message();
            constexpr int rounds = 500;
            for (int round = 0; round < rounds && !HasFailure(); ++round) {
                run(each);
                expect_same(state_in, state_out, each.name);
                ASSERT_EQ(looks.entry.times, round + 1) << each.name;
                ASSERT_EQ(looks.end.times, round + 1) << each.name;
                expect_seen(looks.entry, "entry");
                expect_seen(looks.end, "return");
                const auto stack = reinterpret_cast<std::uintptr_t>(state_stack);
                EXPECT_EQ(looks.entry.registers.stack_pointer(), stack - return_address_bytes);
                EXPECT_EQ(looks.entry.registers.instruction_pointer(), Address::of(each.function).value);
                EXPECT_EQ(looks.end.registers.stack_pointer(), stack) << "the caller's";
                const std::uint64_t back = looks.end.registers.instruction_pointer(),
                                    begin = Address::of(&run_with_state).value;
                EXPECT_TRUE(begin < back && back < begin + 1000) << "where the caller goes on";
                EXPECT_EQ(looks.end.registers.vectors != nullptr, needs == Needs::vectors);
            }
            EXPECT_EQ(probe->counts().calls, static_cast<std::uint64_t>(rounds));
            EXPECT_EQ(probe->in_flight(), 0u);
        }
    }
}

// No instance is free, or on_entry does not want the call: nothing else may differ.
TEST_F(ReturnRegisters, SurviveCallsThatAreNotTracked) {
    for (const QuietFunction& each : quiet_functions) {
        Looks looks;
        looks.track = Track::skip;
        auto options = looking(looks);
        options.breakpoint = each.breakpoint;
        auto skips = ReturnProbe<Data>::attach(each.function, options);
        ASSERT_TRUE(skips) << skips.error().message();
        for (int round = 0; round < 100; ++round) {
            run(each);
            expect_same(state_in, state_out, each.name);
            if (HasFailure()) return;
        }
        EXPECT_EQ(looks.entry.times, 100);
        EXPECT_EQ(looks.end.times, 0);
        skips->detach();

        looks.track = Track::track;
        options.max_active = 1;
        const ProbeTarget targets[] = {each.function, &return_around};
        const auto misses = ReturnProbe<Data>::attach(targets, options);
        ASSERT_TRUE(misses) << misses.error().message();
        around([&] {
            for (int round = 0; round < 100 && !HasFailure(); ++round) {
                run(each);
                expect_same(state_in, state_out, each.name);
            }
            return 0;
        });
        EXPECT_EQ(misses->counts().missed, 100u);
        EXPECT_EQ(looks.end.times, 1);
    }
}

TEST_F(ReturnRegisters, BecomeWhatTheHandlersMakeThem) {
    for (const QuietFunction& each : quiet_functions) {
        for (const bool at_entry : {false, true}) {
            State given;
            Looks looks;
            (at_entry ? looks.entry : looks.end).give = &given;
            auto options = looking(looks);
            options.breakpoint = each.breakpoint;
            const auto probe = ReturnProbe<Data>::attach(each.function, options);
            ASSERT_TRUE(probe) << each.name << ": " << probe.error().message();
            for (int round = 0; round < 300 && !HasFailure(); ++round) {
                random_.fill(given, false);
                random_.fill(state_in, false);
                keep_control(given, state_in);
                state_target = reinterpret_cast<const void*>(each.function);
                run_state();
                expect_same(given, state_out, each.name);
            }
        }
    }
}

// Some need vector registers, some do not: all see the same, and the caller too.
TEST_F(ReturnRegisters, SurviveSeveralProbes) {
    Looks looks[4];
    std::vector<ReturnProbe<Data>> probes;
    for (int i = 0; i < 4; ++i) {
        auto options = i % 2 == 0 ? looking(looks[i]) : looking_without_vectors(looks[i]);
        options.priority = -i;
        options.breakpoint = quiet_functions[1].breakpoint;
        auto probe = ReturnProbe<Data>::attach(quiet_functions[1].function, options);
        ASSERT_TRUE(probe) << probe.error().message();
        probes.push_back(std::move(*probe));
    }
    for (int round = 1; round <= 300 && !HasFailure(); ++round) {
        run(quiet_functions[1]);
        expect_same(state_in, state_out, "several");
        for (Looks& each : looks) {
            EXPECT_EQ(each.end.times, round);
            expect_seen(each.entry, "entry");
            expect_seen(each.end, "return");
            EXPECT_EQ(each.end.registers.stack_pointer(), reinterpret_cast<std::uintptr_t>(state_stack));
        }
    }
}

// Signatures.

DYNFUNC_TEST_WIDE_TARGET void add_wide(std::string& text) {
    const Wide wide = returns_wide(Wide{1, 2, 3, 4, 5, 6, 7, 8}, Wide{5, 6, 7, 8, 9, 10, 11, 12});
    float parts[8];
    std::memcpy(parts, &wide, sizeof parts);
    for (const float part : parts) text += std::to_string(part) + ' ';
}

std::string results_of_all_signatures() {
    std::string text, variadic;
    const auto add = [&](auto value) { text += std::to_string(value) + ' '; };
    const auto add_complex = [&](auto value) {
        add(value.real());
        add(value.imag());
    };
    add(returns_sum_of_nine(1, 2, 3, 4, 5, 6, 7, 8, 9.5));
    add(returns_long_double(10, 3));
    add_complex(returns_complex_float({1.5f, 2}, {0.5, -3}));
    add_complex(returns_complex({1.5, 2}, {0.5f, -3}));
    add_complex(returns_complex_long({1.5L, 2}, {0.5, -3}));
    Large a, b;
    for (std::size_t i = 0; i < 9; ++i) a.words[i] = i, b.words[i] = 100 * i;
    for (const auto word : returns_large(a, 3, b).words) add(word);
    add(returns_sum_of_stack(1, 2, 3, 4, 5, 6, 7, b, 9));
    const TwoWords words = returns_two_words(3, 4);
    add(words.a);
    add(words.b);
    const TwoDoubles doubles = returns_two_doubles(3, 4);
    add(doubles.x);
    add(doubles.y);
    const Mixed mixed = returns_mixed({1.25, 7}, 2.5f);
    add(mixed.x);
    add(mixed.n);
    const NotTrivial object = returns_not_trivial(41);
    add(object.n);
    add(object.self == &object);
    add(returns_float(1.25f, 0.5));
    add(returns_bool(5));
    add(returns_bool(2));
    add(returns_variadic(&variadic, "%d %.3f %s %Lg %lld", 5, 2.5, "text", 1.25L, 1LL << 40));
    text += variadic + ' ';
    if (has_wide()) add_wide(text);
    for (std::uint64_t seed = 1; seed < 50; ++seed) add(returns_kept_over_calls(seed, static_cast<double>(seed) / 7));
    return text;
}

struct Ends {
    int returns = 0;
};
TEST_F(ReturnRegisters, SignaturesOfEveryKind) {
    const std::string expected = results_of_all_signatures();
    Ends ends;
    const std::vector<ProbeTarget> targets{Address::of(&returns_sum_of_nine),   Address::of(&returns_long_double),
                                           Address::of(&returns_complex_float), Address::of(&returns_complex),
                                           Address::of(&returns_complex_long),  Address::of(&returns_large),
                                           Address::of(&returns_sum_of_stack),  Address::of(&returns_two_words),
                                           Address::of(&returns_two_doubles),   Address::of(&returns_mixed),
                                           Address::of(&returns_not_trivial),   Address::of(&returns_float),
                                           Address::of(&returns_bool),          Address::of(&returns_variadic),
                                           Address::of(&returns_few),           Address::of(&returns_kept_over_calls),
                                           Address::of(&returns_wide)};
    auto probe = ReturnProbe<Ends*>::attach(targets, {.on_entry =
                                                          [](Ends*&, Registers&) {
                                                              spoil_everything();
                                                              return Track::track;
                                                          },
                                                      .on_return =
                                                          [](Ends*& data, Registers&) {
                                                              ++data->returns;
                                                              spoil_everything();
                                                          },
                                                      .on_create = [&](Ends*& data) { data = &ends; }});
    ASSERT_TRUE(probe) << probe.error().message() << " " << probe.error().element;
    for (int round = 0; round < 20; ++round) ASSERT_EQ(results_of_all_signatures(), expected);
    const int each_round = 15 + (has_wide() ? 1 : 0) + 49 * 21;
    EXPECT_EQ(ends.returns, 20 * each_round);
    EXPECT_EQ(probe->counts().missed, 0u);
    EXPECT_EQ(probe->in_flight(), 0u);
    probe->detach();
    EXPECT_EQ(results_of_all_signatures(), expected);
    EXPECT_EQ(ends.returns, 20 * each_round);
}

TEST_F(ReturnRegisters, TheCallersAreKept) {
    const std::uint64_t expected = return_keeps_registers([](std::uint64_t a, std::uint64_t b) { return a + b; }, 20, 22);
    ASSERT_EQ(expected, 42u);
    const auto probe =
        ReturnProbe<NoCallData>::attach(&return_twice, {.on_entry =
                                                            [](NoCallData&, Registers&) {
                                                                spoil_everything();
                                                                return Track::track;
                                                            },
                                                        .on_return = [](NoCallData&, Registers&) { spoil_everything(); }});
    ASSERT_TRUE(probe) << probe.error().message();
    EXPECT_EQ(return_keeps_registers([](std::uint64_t a, std::uint64_t) { return return_twice(a); }, 20, 22), 40u);
    EXPECT_EQ(probe->counts().calls, 1u);
}

}  // namespace
}  // namespace dynfunc
