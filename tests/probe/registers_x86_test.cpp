// SPDX-License-Identifier: MIT
// Every register survives a probe, is what the handler sees, and becomes what the handler makes it.
#include <dynfunc/probe.hpp>

#include <gtest/gtest.h>

#include <cerrno>
#include <cmath>
#include <complex>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <string>

#include "address_space.hpp"
#include "register_state_x86.hpp"

namespace dynfunc {
namespace {

using namespace test;  // register_state_x86.hpp

struct Seen {
    Registers registers;
    std::vector<std::byte> vectors;
    Address at;
    int hits = 0;
    State* give = nullptr;  // the handler makes the registers these
};

// Also spoils whatever a compiled handler may use.
AfterHit look(ProbeHit& hit) {
    Seen& seen = *static_cast<Seen*>(hit.data);
    Registers& registers = hit.registers;
    seen.registers = registers;
    seen.at = hit.at;
    ++seen.hits;
    if (registers.vectors != nullptr) seen.vectors.assign(registers.vectors, registers.vectors + 16 * registers.vector_bytes);
    if (seen.give != nullptr) give_registers(registers, *seen.give);
    spoil();
    return AfterHit::keep;
}

// For handlers that promise to leave vector registers alone.
[[gnu::target("general-regs-only")]] AfterHit look_without_vectors(ProbeHit& hit) {
    Seen& seen = *static_cast<Seen*>(hit.data);
    for (std::size_t i = 0; i < sizeof(Registers) / 8; ++i)
        reinterpret_cast<std::uint64_t*>(&seen.registers)[i] = reinterpret_cast<const std::uint64_t*>(&hit.registers)[i];
    seen.at.value = hit.at.value;
    ++seen.hits;
    spoil_without_vectors();
    return AfterHit::keep;
}

struct Case {
    const char* name;
    const void* function;
    Address probe;
    SiteClass expected;
    AllowBreakpoint breakpoint;
};

std::vector<Case> cases() {
    const auto of = [](auto* f) { return reinterpret_cast<const void*>(f); };
    const auto at = [](auto* f) { return Address::of(f); };
    constexpr auto if_needed = AllowBreakpoint::if_needed, always = AllowBreakpoint::always;
    return {{"whole", of(&quiet_whole), at(&quiet_whole), SiteClass::whole, if_needed},
            {"guarded", of(&quiet_guarded), at(&quiet_guarded), SiteClass::guarded, if_needed},
            {"punned", of(&quiet_punned), at(quiet_middle), SiteClass::guarded, if_needed},
            {"inside the red zone", of(&quiet_punned), at(quiet_red_zone), SiteClass::whole, if_needed},
            {"trap", of(&quiet_guarded), at(&quiet_guarded), SiteClass::breakpoint, always},
            {"trap inside", of(&quiet_punned), at(quiet_red_zone), SiteClass::breakpoint, always}};
}

class RegistersTest : public testing::Test {
protected:
    static void SetUpTestSuite() { test::signal_that_may_change = SIGTRAP; }
    // The class of a place is decided when it is probed for the first time.
    static bool probes_exist() {
        Seen seen;
        const auto probe = Probe::attach(&quiet_whole, {.on_hit = &look, .data = &seen});
        if (probe) return true;
        std::printf("no probes here: %s\n", probe.error().message().c_str());
        return false;
    }
};

TEST_F(RegistersTest, SurviveAndAreSeen) {
    if (!probes_exist()) GTEST_SKIP() << "this process cannot patch code";
    RandomState random;
    for (const Case& each : cases()) {
        for (const Needs needs : {Needs::vectors, Needs::registers}) {
            Seen seen;
            const auto probe = Probe::attach(each.probe, {.on_hit = needs == Needs::vectors ? &look : &look_without_vectors,
                                                          .data = &seen,
                                                          .needs = needs,
                                                          .breakpoint = each.breakpoint});
            ASSERT_TRUE(probe) << each.name << ": " << probe.error().message();
            const bool is_begin = each.probe == Address::of(each.function);
            constexpr int rounds = 500;
            for (int round = 0; round < rounds; ++round) {
                random.fill(state_in, !is_begin);
                state_target = each.function;
                errno = 12;
                run_with_state(has_ymm());
                ASSERT_EQ(errno, 12);
                expect_same(state_in, state_out, each.name);
                ASSERT_EQ(seen.hits, round + 1) << each.name;
                ASSERT_EQ(seen.at, each.probe);
                ASSERT_EQ(seen.registers.rip, each.probe.value);
                for (int i = 0; i < gprs; ++i)
                    ASSERT_TRUE(i == rsp || gpr_of(seen.registers, i) == state_in.gpr[i]) << each.name << " saw register " << i;
                ASSERT_EQ(seen.registers.rsp, reinterpret_cast<std::uintptr_t>(state_stack) - 8);
                const std::uint64_t flags = is_begin ? status_flags : status_flags | direction_flag;
                ASSERT_EQ(seen.registers.rflags & flags, state_in.rflags & flags) << each.name;
                if (needs == Needs::registers) {
                    ASSERT_EQ(seen.registers.vectors, nullptr);
                    continue;
                }
                const std::size_t width = seen.registers.vector_bytes,
                                  compared = std::min<std::size_t>(width, has_ymm() ? 32 : 16);
                for (std::size_t i = 0; i < 16; ++i)
                    ASSERT_EQ(std::memcmp(seen.vectors.data() + i * width, state_in.ymm[i], compared), 0)
                        << each.name << " vector " << i;
                if (HasFailure()) return;
            }
            EXPECT_EQ(probe->hits(), static_cast<std::uint64_t>(rounds));
            EXPECT_EQ(probe->missed(), 0u);
        }
    }
}

TEST_F(RegistersTest, BecomeWhatTheHandlerMakesThem) {
    if (!probes_exist()) GTEST_SKIP() << "this process cannot patch code";
    RandomState random;
    for (const Case& each : cases()) {
        if (Address::of(&quiet_punned) == Address::of(each.function)) continue;  // it reads two of them again from the stack
        State given;
        Seen seen{.registers = {}, .vectors = {}, .at = {}, .give = &given};
        const auto probe = Probe::attach(each.probe, {.on_hit = &look, .data = &seen, .breakpoint = each.breakpoint});
        ASSERT_TRUE(probe) << each.name << ": " << probe.error().message();
        for (int round = 0; round < 500; ++round) {
            random.fill(state_in, false);
            random.fill(given, false);
            std::memcpy(given.fx, state_in.fx, 160);  // x87 and MXCSR are not the handler's
            state_target = each.function;
            run_with_state(has_ymm());
            expect_same(given, state_out, each.name);
            if (HasFailure()) return;
        }
    }
}

// The negative control: what the test would say of a stub that saves too little.
TEST_F(RegistersTest, TheTestSeesARegisterThatIsLost) {
    static const auto loses_one = [] { asm volatile("mov $1,%%r10d" : : : "r10"); };
    RandomState random;
    random.fill(state_in, false);
    state_target = reinterpret_cast<const void*>(+loses_one);
    run_with_state(has_ymm());
    EXPECT_NE(state_in.gpr[r10], state_out.gpr[r10]);
    EXPECT_EQ(state_in.gpr[r11], state_out.gpr[r11]);
}

// Where the thread goes on: elsewhere, back to the caller, with another stack pointer; all registers as they were.
AfterHit go_elsewhere(ProbeHit& hit) {
    look(hit);
    hit.registers.rip = reinterpret_cast<std::uintptr_t>(&quiet_guarded);
    return AfterHit::keep;
}
AfterHit go_back(ProbeHit& hit) {
    look(hit);
    hit.registers.return_now(hit.registers.rax);
    return AfterHit::keep;
}

TEST_F(RegistersTest, SurviveAChangeOfWhereToGoOn) {
    if (!probes_exist()) GTEST_SKIP() << "this process cannot patch code";
    RandomState random;
    for (const auto handler : {&go_elsewhere, &go_back}) {
        for (const AllowBreakpoint breakpoint : {AllowBreakpoint::if_needed, AllowBreakpoint::always}) {
            Seen seen;
            const auto probe = Probe::attach(&quiet_whole, {.on_hit = handler, .data = &seen, .breakpoint = breakpoint});
            ASSERT_TRUE(probe) << probe.error().message();
            for (int round = 0; round < 200; ++round) {
                random.fill(state_in, false);
                state_target = reinterpret_cast<const void*>(&quiet_whole);
                run_with_state(has_ymm());
                expect_same(state_in, state_out, "elsewhere");
                ASSERT_EQ(state_out.gpr[rsp], reinterpret_cast<std::uintptr_t>(state_stack));
                if (HasFailure()) return;
            }
            EXPECT_EQ(seen.hits, 200);
        }
    }
}

// Signatures: what the compiler passes where, and what it keeps in registers over calls of local functions (-fipa-ra).
[[gnu::noinline]] double sum_of_doubles(double a, double b, double c, double d, double e, double f, double g, double h,
                                        double i) {
    asm volatile("");
    return a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g + 8 * h + 9 * i;
}
[[gnu::noinline]] long double long_double_of(long double a, long double b) {
    asm volatile("");
    return a / b;
}
[[gnu::noinline]] std::complex<double> complex_of(std::complex<double> a, std::complex<float> b) {
    asm volatile("");
    return a * std::complex<double>(b);
}
struct Large {
    std::uint64_t words[9];
};
[[gnu::noinline]] Large large_of(Large a, int b, Large c) {
    asm volatile("");
    for (std::size_t i = 0; i < std::size(a.words); ++i) a.words[i] = a.words[i] * static_cast<std::uint64_t>(b) + c.words[i];
    return a;
}
struct Mixed {
    double x;
    std::int64_t n;
};
[[gnu::noinline]] Mixed mixed_of(Mixed a, float b) {
    asm volatile("");
    return {a.x + static_cast<double>(b), a.n - 1};
}
[[gnu::noinline, gnu::format(printf, 2, 3)]] int variadic_of(std::string* to, const char* format, ...) {
    char text[200];
    va_list arguments;
    va_start(arguments, format);
    const int length = std::vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    *to = text;
    return length;
}
typedef float Wide __attribute__((vector_size(16)));
[[gnu::noinline]] Wide wide_of(Wide a, Wide b) {
    asm volatile("");
    return a * b;
}
// Touches few registers, so that its caller keeps others over the call.
[[gnu::noinline]] int few_registers(int a) {
    asm volatile("" : "+r"(a));
    return a + 1;
}
[[gnu::noinline]] std::uint64_t keeps_over_calls(std::uint64_t seed, double x) {
    std::uint64_t a = seed * 3, b = seed * 5, c = seed * 7, d = seed * 11, e = seed * 13;
    double y = x * 1.5, z = x * 2.5;
    for (int i = 0; i < 20; ++i) {
        a += static_cast<std::uint64_t>(few_registers(i));
        b ^= a << 1;
        c += b ^ d;
        d = d * 31 + e;
        e += c;
        y = y * z + 0.25;
        z = z * 0.5 + y * 1e-3;
    }
    return a ^ b ^ c ^ d ^ e ^ static_cast<std::uint64_t>(y * 16) ^ static_cast<std::uint64_t>(z * 16);
}

std::string results_of_all_signatures() {
    std::string text, variadic;
    const auto add = [&](auto value) { text += std::to_string(value) + ' '; };
    add(sum_of_doubles(1, 2, 3, 4, 5, 6, 7, 8, 9.5));
    add(long_double_of(10, 3));
    const auto product = complex_of({1.5, 2}, {0.5f, -3});
    add(product.real());
    add(product.imag());
    Large a, b;
    for (std::size_t i = 0; i < 9; ++i) a.words[i] = i, b.words[i] = 100 * i;
    for (const auto word : large_of(a, 3, b).words) add(word);
    const Mixed mixed = mixed_of({1.25, 7}, 2.5f);
    add(mixed.x);
    add(mixed.n);
    add(variadic_of(&variadic, "%d %.3f %s %Lg %lld", 5, 2.5, "text", 1.25L, 1LL << 40));
    text += variadic + ' ';
    const Wide wide = wide_of(Wide{1, 2, 3, 4}, Wide{5, 6, 7, 8});
    for (int i = 0; i < 4; ++i) add(wide[i]);
    for (std::uint64_t seed = 1; seed < 50; ++seed) add(keeps_over_calls(seed, static_cast<double>(seed) / 7));
    return text;
}

TEST_F(RegistersTest, SignaturesOfEveryKind) {
    if (!probes_exist()) GTEST_SKIP() << "this process cannot patch code";
    const std::string expected = results_of_all_signatures();
    Seen seen;
    std::vector<ProbeRequest> requests;
    const auto add = [&](auto* function) { requests.push_back({function, {.on_hit = &look, .data = &seen}}); };
    add(&sum_of_doubles);
    add(&long_double_of);
    add(&complex_of);
    add(&large_of);
    add(&mixed_of);
    add(&wide_of);
    add(&few_registers);
    add(&keeps_over_calls);
    requests.push_back({Address::of(&variadic_of), {.on_hit = &look, .data = &seen}});
    auto probes = Probe::attach(requests);
    ASSERT_TRUE(probes) << probes.error().message() << " " << probes.error().element;
    for (int round = 0; round < 20; ++round) ASSERT_EQ(results_of_all_signatures(), expected);
    for (const Probe& probe : *probes) EXPECT_GE(probe.hits(), 20u);
    EXPECT_EQ(seen.hits, 20 * (7 + 49 * 21));
    Probe::detach(*probes);
    EXPECT_EQ(results_of_all_signatures(), expected);
    EXPECT_EQ(seen.hits, 20 * (7 + 49 * 21));
}

AfterHit read_arguments(ProbeHit& hit) {
    auto& text = *static_cast<std::string*>(hit.data);
    for (unsigned i = 0; i < 6; ++i) text += std::to_string(hit.registers.integer(i)) + ' ';
    for (unsigned i = 0; i < 8; ++i) text += std::to_string(hit.registers.floating(i)) + ' ';
    for (std::size_t i = 0; i < 2; ++i) text += std::to_string(hit.registers.stack_word(i)) + ' ';
    hit.registers.integer(1) = 1000;
    hit.registers.floating(7) = 0.5;
    hit.registers.stack_word(1) = 7000;
    return AfterHit::keep;
}

[[gnu::noinline]] double many_arguments(long a, long b, long c, long d, long e, long f, long g, long h, double i, double j,
                                        double k, double l, double m, double n, double o, double p) {
    asm volatile("");
    return static_cast<double>(a + b + c + d + e + f + g + h) + i + j + k + l + m + n + o + p;
}

TEST_F(RegistersTest, ArgumentsByTheCallingConvention) {
    if (!probes_exist()) GTEST_SKIP() << "this process cannot patch code";
    std::string text;
    const auto probe = Probe::attach(&many_arguments, {.on_hit = &read_arguments, .data = &text});
    ASSERT_TRUE(probe) << probe.error().message();
    EXPECT_EQ(many_arguments(1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8), 36 - 2 + 1000 - 8 + 7000 + 36 - 8 + 0.5);
    EXPECT_EQ(text, "1 2 3 4 5 6 1.000000 2.000000 3.000000 4.000000 5.000000 6.000000 7.000000 8.000000 7 8 ");
}

}  // namespace
}  // namespace dynfunc
