// SPDX-License-Identifier: MIT
// What the tests of return probes have in common.
#pragma once

#include <gtest/gtest.h>
#include <dynfunc/grace_period.hpp>
#include <dynfunc/return_probe.hpp>

#include <atomic>
#include <cstring>
#include <string>
#include <vector>

#include "address_space.hpp"
#include "return_functions.hpp"
#include "surroundings.hpp"

namespace dynfunc::test {

// By the word of the stack that has the return address. Where that is in a register, a function keeps it where it likes.
#if defined(__x86_64__)
inline constexpr bool finds_left_calls = true, stubs_have_unwind_information = true;
inline constexpr std::size_t return_address_bytes = sizeof(void*);  // on the stack
#else
inline constexpr bool finds_left_calls = false, stubs_have_unwind_information = false;
inline constexpr std::size_t return_address_bytes = 0;
#endif
inline constexpr const char* not_found =
    "calls that longjmp left, or that went with their stacks, are not found on this machine";

// What the handlers of a ReturnProbe have seen.
struct Seen {
    std::atomic<std::uint64_t> entries{0}, returns{0}, unwinds{0};
    std::atomic<std::uint64_t> strangers{0};  // ends of calls whose data were another's
    std::uint64_t ends() const { return returns + unwinds; }
};

struct Call {
    Seen* seen = nullptr;
    const void* stack = nullptr;  // the caller's stack pointer; null between calls
};

// Handlers that count, and confirm that an end belongs to its entry.
inline ReturnOptions<Call> counting(Seen& seen, std::size_t max_active = 0) {
    return {
        .on_entry =
            [](Call& call, Registers& registers) {
                ++call.seen->entries;
                if (call.stack != nullptr) ++call.seen->strangers;
                call.stack = reinterpret_cast<const void*>(registers.stack_pointer());
                return Track::track;
            },
        .on_return =
            [](Call& call, Registers& registers) {
                ++call.seen->returns;
                if (registers.stack_pointer() - Registers::stack_arguments_at != reinterpret_cast<std::uintptr_t>(call.stack))
                    ++call.seen->strangers;
                call.stack = nullptr;
            },
        .on_unwind =
            [](Call& call) {
                ++call.seen->unwinds;
                if (call.stack == nullptr) ++call.seen->strangers;
                call.stack = nullptr;
            },
        .max_active = max_active,
        .on_create = [&seen](Call& call) { call.seen = &seen; }};
}
// The same for calls that may be left by longjmp: their instances come back with what was in them.
inline ReturnOptions<Call> counting_also_left(Seen& seen, std::size_t max_active = 0) {
    ReturnOptions<Call> options = counting(seen, max_active);
    options.on_entry = [](Call& call, Registers& registers) {
        ++call.seen->entries;
        call.stack = reinterpret_cast<const void*>(registers.stack_pointer());
        return Track::track;
    };
    return options;
}

// Overwrites what was below its caller: an instance that no call gives back is found by that.
inline void overwrite_stack() { return_overwrite_stack(65'536); }

inline std::vector<std::byte> bytes_at(Address at, std::size_t size) {
    return {at.as<const std::byte*>(), at.as<const std::byte*>() + size};
}

inline std::vector<ProbeTarget> targets_of(std::span<const Chain::Function> functions) {
    return {functions.begin(), functions.end()};
}

// Of all functions of Chain.
inline ReturnProbe<Call> attach_to_chain(Seen& seen, std::size_t max_active = 0) {
    auto probe = ReturnProbe<Call>::attach(targets_of(Chain::functions), counting(seen, max_active));
    EXPECT_TRUE(probe) << probe.error().message() << ", element " << probe.error().element;
    return probe ? std::move(*probe) : ReturnProbe<Call>();
}
template <class Function>
ReturnProbe<Call> attach_counting(Function* function, Seen& seen, std::size_t max_active = 0) {
    auto probe = ReturnProbe<Call>::attach(function, counting(seen, max_active));
    EXPECT_TRUE(probe) << probe.error().message();
    return probe ? std::move(*probe) : ReturnProbe<Call>();
}

// Every call that began has ended, each with its own data, and gave its instance back.
inline void expect_all_ended(const ReturnProbe<Call>& probe, const Seen& seen, std::uint64_t calls) {
    EXPECT_EQ(seen.entries, calls);
    EXPECT_EQ(seen.ends(), calls);
    EXPECT_EQ(seen.strangers, 0u);
    const ReturnCounts counts = probe.counts();
    EXPECT_EQ(counts.calls, calls);
    EXPECT_EQ(counts.missed, 0u);
    EXPECT_EQ(counts.unwound, seen.unwinds);
    EXPECT_EQ(counts.stale, 0u);
    EXPECT_EQ(probe.in_flight(), 0u);
}

class Returns : public testing::Test {
protected:
    static void SetUpTestSuite() { signal_that_may_change = SIGTRAP; }
    void SetUp() override {
        const ReturnOptions<NoCallData> any{.on_return = [](NoCallData&, Registers&) {}};
        if (const auto probe = ReturnProbe<>::attach(&return_twice, any); !probe) {
            ASSERT_EQ(probe.error().code, Errc::text_not_writable) << probe.error().message();
            GTEST_SKIP() << "this process cannot patch code";
        }
    }
};

}  // namespace dynfunc::test
