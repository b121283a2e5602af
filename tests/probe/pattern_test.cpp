// SPDX-License-Identifier: MIT
// Probes by pattern: on what is loaded, on what comes later, before its constructors.
#include <dynfunc/probe_pattern.hpp>

#include <dlfcn.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <thread>

#include "address_space.hpp"
#include "child.hpp"
#include "surroundings.hpp"

extern "C" {
int pattern_calls = 0;  // of pattern_first(), by what is loaded
int pattern_of_the_program(int x) {
    asm volatile("" : "+r"(x));
    return x + 7;
}
}
static int (*volatile call_of_the_program)(int) = &pattern_of_the_program;

namespace dynfunc {
namespace {

std::atomic<int> hits{0};
AfterHit count_hit(ProbeHit&) {
    ++hits;
    return AfterHit::keep;
}
constexpr ProbeOptions counting{.on_hit = &count_hit};
constexpr const char* plugin_name = "*pattern_plugin*";

class Plugin {
public:
    Plugin() : handle_(dlopen(DYNFUNC_TEST_PLUGIN, RTLD_NOW | RTLD_LOCAL)) {}
    Plugin(Plugin&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    ~Plugin() {
        if (handle_ != nullptr) dlclose(handle_);
    }
    int call(const char* name, int x) const { return reinterpret_cast<int (*)(int)>(dlsym(handle_, name))(x); }
    int from_constructor() const { return *static_cast<int*>(dlsym(handle_, "from_constructor")); }

private:
    void* handle_;
};

const PatternMatch* find(const std::vector<PatternMatch>& matches, const char* function) {
    const auto found = std::ranges::find(matches, function, &PatternMatch::function);
    return found == matches.end() ? nullptr : &*found;
}

class PatternTest : public testing::Test {
protected:
    static void SetUpTestSuite() { test::signal_that_may_change = SIGTRAP; }
    void SetUp() override {
        if (test::emulated) GTEST_SKIP() << test::no_other_memory_in_emulator;
        hits = 0;
        if (const auto any = ProbePattern::attach("nothing", "nothing", counting); !any) {
            ASSERT_EQ(any.error().code, Errc::text_not_writable) << any.error().message();
            GTEST_SKIP() << "this process cannot patch code";
        }
    }
};

TEST_F(PatternTest, WhatIsLoaded) {
    auto pattern = ProbePattern::attach("libc.so*", "strverscm?", counting);
    ASSERT_TRUE(pattern);
    ASSERT_EQ(pattern->matches().size(), 1U);
    EXPECT_NE(pattern->matches()[0].module.find("libc.so"), std::string::npos);
    EXPECT_LT(strverscmp("a9", "a10"), 0);
    EXPECT_EQ(pattern->matches()[0].hits, 1U);
}

TEST_F(PatternTest, TheProgramItself) {
    auto pattern = ProbePattern::attach("*", "pattern_of_the_*", counting);
    ASSERT_TRUE(pattern);
    ASSERT_EQ(pattern->matches().size(), 1U);
    EXPECT_EQ(call_of_the_program(1), 8);
    EXPECT_EQ(pattern->matches()[0].hits, 1U);
    const auto none = ProbePattern::attach("libz*", "pattern_of_the_*", counting);
    EXPECT_TRUE(none->matches().empty());
}

TEST_F(PatternTest, WhatComesLaterBeforeItsConstructors) {
    auto pattern = ProbePattern::attach(plugin_name, "pattern_*", counting);
    ASSERT_TRUE(pattern);
    EXPECT_TRUE(pattern->matches().empty());
    for (int round = 1; round <= 3; ++round) {
        const Plugin plugin;
        EXPECT_EQ(plugin.from_constructor(), 42);
        EXPECT_EQ(hits.exchange(0), 1) << "the constructor's call, round " << round;
        EXPECT_EQ(plugin.call("pattern_second", 5), 13);
        EXPECT_EQ(plugin.call("other_function", 5), 4);
        EXPECT_EQ(hits.exchange(0), 1);
        const auto matches = pattern->matches();
        ASSERT_NE(find(matches, "pattern_first"), nullptr);
        EXPECT_EQ(find(matches, "pattern_first")->hits, 1U);
        EXPECT_EQ(find(matches, "pattern_second")->hits, 1U);
        EXPECT_EQ(find(matches, "other_function"), nullptr);
    }
    EXPECT_TRUE(pattern->matches().empty()) << "it was unloaded";
    EXPECT_EQ(pattern->missed_objects(), 0U);
}

TEST_F(PatternTest, WhatIsRefusedIsListed) {
    ProbeOptions options = counting;
    options.breakpoint = AllowBreakpoint::never;
    auto pattern = ProbePattern::attach(plugin_name, "pattern_*", options);
    ASSERT_TRUE(pattern);
    const Plugin plugin;
    const auto refused = pattern->refused();
    ASSERT_EQ(refused.size(), 1U);
    EXPECT_EQ(refused[0].function, "pattern_tiny");
    // x86: one byte; arm64: a call through the register that gets the return address.
    const Errc why = refused[0].error.code;
    EXPECT_TRUE(why == Errc::too_short || why == Errc::not_movable) << refused[0].error.message();
    EXPECT_EQ(pattern->matches().size(), 2U);
    EXPECT_EQ(hits, 1) << "the constructor's call";
    EXPECT_FALSE(ProbePattern::attach("*", "x", {}));
}

TEST_F(PatternTest, DetachEndsIt) {
    auto pattern = ProbePattern::attach(plugin_name, "pattern_*", counting);
    ASSERT_TRUE(pattern);
    {
        const Plugin plugin;
        hits = 0;
        pattern->detach();
        EXPECT_FALSE(*pattern);
        EXPECT_EQ(plugin.call("pattern_first", 1), 2);
    }
    const Plugin again;
    EXPECT_EQ(again.call("pattern_first", 1), 2);
    EXPECT_EQ(hits, 0);
}

TEST_F(PatternTest, AChildOfAForkGoesOn) {
    auto pattern = ProbePattern::attach(plugin_name, "pattern_*", counting);
    ASSERT_TRUE(pattern);
    const auto ended = test::in_child([&] {
        const Plugin plugin;
        if (hits != 1 || plugin.call("pattern_second", 5) != 13 || hits != 2) return 1;
        return find(pattern->matches(), "pattern_second")->hits == 1 ? 0 : 2;
    });
    EXPECT_EQ(ended.status, 0);
    EXPECT_EQ(hits, 0);
}

// A thread loads and unloads while another attaches and detaches patterns, which keeps the object loaded now and then; every
// call is counted by the pattern that is there all the time.
TEST_F(PatternTest, LoadingAndAttachingAtOnce) {
    if (test::thread_sanitizer) GTEST_SKIP() << "the sanitizer does not see the dynamic linker's lock";
    auto always = ProbePattern::attach(plugin_name, "pattern_first", counting);
    ASSERT_TRUE(always);
    std::atomic<bool> over{false};
    const int before = pattern_calls;
    std::thread loading([&] {
        for (int i = 0; i < 300; ++i) {
            const Plugin plugin;
            if (plugin.call("pattern_first", i) != i + 1) std::abort();
        }
        over = true;
    });
    std::atomic<int> others{0};
    static std::atomic<int> seen_by_others{0};
    std::thread attaching([&] {
        while (!over) {
            auto pattern = ProbePattern::attach(plugin_name, "pattern_*", {.on_hit = [](ProbeHit&) {
                                                    ++seen_by_others;
                                                    return AfterHit::keep;
                                                }});
            if (!pattern) std::abort();
            static_cast<void>(pattern->matches());
            ++others;
        }
    });
    loading.join();
    attaching.join();
    EXPECT_EQ(hits, pattern_calls - before);
    EXPECT_GT(hits, 300) << "constructors too";
    EXPECT_GT(others, 0);
    EXPECT_EQ(always->missed_objects(), 0U);
}

}  // namespace
}  // namespace dynfunc
