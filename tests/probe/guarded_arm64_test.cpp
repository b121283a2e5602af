// SPDX-License-Identifier: MIT
// Probes on guarded pages (BTI), where an indirect branch comes to landing pads alone, and on functions that sign their return
// addresses (PAC). The plug-in is compiled for both; its pages are guarded by the test.
//
// The control: a branch in the place of a landing pad on a guarded page ends the process.
#include <dynfunc/probe.hpp>
#include <dynfunc/probe_pattern.hpp>
#include <dynfunc/return_probe.hpp>
#include <dynfunc/typed_wrap.hpp>

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <link.h>
#include <sys/mman.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <string>
#include <vector>

#include "address_space.hpp"
#include "child.hpp"
#include "guarded_page.hpp"
#include "stack_walk.hpp"

namespace dynfunc {
namespace {

using test::Walk;
using Int = int (*)(int);
using Inside = std::uint64_t (*)(void*);

constexpr std::uint32_t b_next = 0x1400'0001;

int hits = 0;
AfterHit count_hit(ProbeHit&) {
    ++hits;
    return AfterHit::keep;
}
const ProbeOptions counting{.on_hit = &count_hit};

std::uint32_t word_at(Address at) { return *at.as<const std::uint32_t*>(); }
bool is_landing_pad(Address at) {
    const std::uint32_t word = word_at(at);
    return word == 0xd503'245f || word == 0xd503'249f || word == 0xd503'24df || word == 0xd503'233f || word == 0xd503'237f;
}

// Where the object has code.
AddressRange text_around(Address at) {
    struct Found {
        Address at;
        AddressRange text;
    } found{at, {}};
    dl_iterate_phdr(
        [](dl_phdr_info* info, std::size_t, void* data) {
            auto& wanted = *static_cast<Found*>(data);
            for (int i = 0; i < info->dlpi_phnum; ++i) {
                const auto& header = info->dlpi_phdr[i];
                const Address begin{info->dlpi_addr + header.p_vaddr};
                const AddressRange range{begin, begin + static_cast<std::ptrdiff_t>(header.p_memsz)};
                if (header.p_type == PT_LOAD && (header.p_flags & PF_X) != 0 && range.contains(wanted.at)) wanted.text = range;
            }
            return 0;
        },
        &found);
    return found.text;
}

class GuardedTest : public testing::Test {
protected:
    static void SetUpTestSuite() { test::signal_that_may_change = SIGTRAP; }
    void SetUp() override {
        if (const char* why = test::why_not_guarded()) GTEST_SKIP() << why;
        plugin_ = dlopen(DYNFUNC_TEST_PLUGIN, RTLD_NOW);
        ASSERT_NE(plugin_, nullptr) << dlerror();
        text_ = text_around(at("guarded_twice"));
        ASSERT_TRUE(test::guard_pages(text_));
        hits = 0;
        if (const auto probe = Probe::attach(at("guarded_plain"), counting); !probe) {
            ASSERT_EQ(probe.error().code, Errc::text_not_writable) << probe.error().message();
            GTEST_SKIP() << "this process cannot patch code";
        }
    }
    // What the C library's own files put into it has no landing pads, and runs when it is unloaded.
    void TearDown() override {
        if (plugin_ == nullptr) return;
        ASSERT_TRUE(test::guard_pages(text_, false));
        dlclose(plugin_);
    }

    Address at(const char* name) const { return Address::of(dlsym(plugin_, name)); }
    template <class Function = Int>
    Function function(const char* name) const {
        return reinterpret_cast<Function>(dlsym(plugin_, name));
    }
    AddressRange range_of(const char* name) const {
        Dl_info info;
        const ElfW(Sym)* symbol = nullptr;
        EXPECT_NE(
            dladdr1(dlsym(plugin_, name), &info, reinterpret_cast<void**>(const_cast<ElfW(Sym)**>(&symbol)), RTLD_DL_SYMENT),
            0);
        return {at(name), at(name) + static_cast<std::ptrdiff_t>(symbol->st_size)};
    }

    void* plugin_ = nullptr;
    AddressRange text_{};
};

constexpr const char* pads[] = {"guarded_bti_c", "guarded_bti_jc", "guarded_paciasp", "guarded_pacibsp"};

// By hand, as a probe must not do it.
TEST_F(GuardedTest, ABranchInThePlaceOfALandingPadEndsTheProcess) {
    for (const char* name : pads)
        for (const bool is_guarded : {true, false}) {
            const auto ended = test::in_child([&] {
                const Address pad = at(name);
                const std::uint32_t former = word_at(pad);
                if (mprotect(text_.begin.as<void*>(), text_.size(), PROT_READ | PROT_WRITE) != 0) return 1;
                // The landing pad itself does nothing where it does not sign.
                const bool signs = former == 0xd503'233f || former == 0xd503'237f;
                *pad.as<std::uint32_t*>() = b_next;
                if (signs) {
                    // bl guarded_plain, and home: without a signature there is none to be checked.
                    *(pad + 4).as<std::uint32_t*>() = 0xaa1e'03e9;   // mov x9, x30
                    *(pad + 12).as<std::uint32_t*>() = 0xd65f'0120;  // ret x9
                }
                __builtin___clear_cache(text_.begin.as<char*>(), text_.end.as<char*>());
                if (!test::guard_pages(text_, is_guarded)) return 2;
                return function(name)(5) == 16 ? 0 : 3;
            });
            EXPECT_EQ(ended.signal, is_guarded ? SIGILL : 0) << name;
            EXPECT_EQ(ended.status, is_guarded ? -1 : 0) << name;
        }
}

TEST_F(GuardedTest, LandingPadsHaveBreakpointsAndCallersComeThere) {
    for (const char* name : pads) {
        hits = 0;
        const auto probe = Probe::attach(at(name), counting);
        ASSERT_TRUE(probe) << probe.error().message();
        EXPECT_EQ(probe->info().site_class, SiteClass::breakpoint);
        EXPECT_NE(probe->info().reason.find("indirect branches"), std::string::npos) << probe->info().reason;
        for (int i = 0; i < 100; ++i) ASSERT_EQ(function(name)(i), 3 * i + 1) << name;
        EXPECT_EQ(hits, 100) << name;
        ProbeOptions never = counting;
        never.breakpoint = AllowBreakpoint::never;
        const auto refused = Probe::attach(at(name), never);
        ASSERT_FALSE(refused);
        EXPECT_EQ(refused.error().code, Errc::landing_pad);
        EXPECT_EQ(refused.error().address, at(name));
    }
}

TEST_F(GuardedTest, WhatIsNoLandingPadHasJumps) {
    const auto probe = Probe::attach(at("guarded_plain"), counting);
    ASSERT_TRUE(probe) << probe.error().message();
    EXPECT_EQ(probe->info().site_class, SiteClass::whole);
    for (const char* name : {"guarded_calls_plain", "guarded_paciasp", "guarded_pacibsp"})
        for (int i = 0; i < 100; ++i) ASSERT_EQ(function(name)(i), 3 * i + 1) << name;
    EXPECT_EQ(hits, 300);
}

// Also in the same place: what was a jump while the page was not guarded is a breakpoint afterwards.
TEST_F(GuardedTest, LandingPadsHaveJumpsWhereNothingIsGuarded) {
    for (const char* name : {"guarded_at_times_bti_c", "guarded_at_times_bti_jc"})
        for (const bool is_guarded : {false, true}) {
            ASSERT_TRUE(test::guard_pages(text_, is_guarded));
            hits = 0;
            const auto probe = Probe::attach(at(name), counting);
            ASSERT_TRUE(probe) << probe.error().message();
            EXPECT_EQ(probe->info().site_class, is_guarded ? SiteClass::breakpoint : SiteClass::whole);
            for (int i = 0; i < 100; ++i) ASSERT_EQ(function(name)(i), 3 * i + 1) << name;
            EXPECT_EQ(hits, 100);
        }
}

// One probe after the other, in functions with tables of jumps, calls through registers, and signatures.
TEST_F(GuardedTest, EveryInstruction) {
    const auto run_switch = [&] {
        std::vector<std::uint64_t> results;
        for (int which = -1; which < 26; ++which)
            results.push_back(static_cast<std::uint64_t>(
                function<int (*)(int, int, Int)>("guarded_switch")(which, which + 3, function("guarded_twice"))));
        return results;
    };
    const auto run_deep = [&] {
        return std::vector{function<std::uint64_t (*)(std::uint64_t, Inside, void*)>("guarded_deep")(
            5, [](void*) -> std::uint64_t { return 7; }, nullptr)};
    };
    const auto run_catches = [&] { return std::vector{static_cast<std::uint64_t>(function("guarded_catches")(4))}; };
    int breakpoints = 0, jumps = 0, missed = 0;
    const auto probe_all = [&](const char* name, auto&& run) {
        const auto expected = run();
        const AddressRange range = range_of(name);
        for (Address each = range.begin; each < range.end; each = each + 4) {
            const bool pad = is_landing_pad(each);
            hits = 0;
            const auto probe = Probe::attach(each, counting);
            if (!probe) {
                // What stands behind the last instruction: a table, or nothing.
                ASSERT_NE(probe.error().code, Errc::landing_pad) << probe.error().message();
                ++missed;
                continue;
            }
            ASSERT_EQ(probe->info().site_class, pad ? SiteClass::breakpoint : SiteClass::whole) << each - range.begin;
            ++(pad ? breakpoints : jumps);
            ASSERT_EQ(run(), expected) << name << " + " << each - range.begin;
        }
    };
    ASSERT_EQ(run_deep(), (std::vector<std::uint64_t>{12}));
    ASSERT_EQ(run_catches(), (std::vector<std::uint64_t>{5}));
    ASSERT_NO_FATAL_FAILURE(probe_all("guarded_switch", run_switch));
    ASSERT_NO_FATAL_FAILURE(probe_all("guarded_deep", run_deep));
    ASSERT_NO_FATAL_FAILURE(probe_all("guarded_throws", run_catches));
    ASSERT_NO_FATAL_FAILURE(probe_all("guarded_catches", run_catches));
    EXPECT_GE(breakpoints, 24) << "the functions' begins, where the switch leads, and where exceptions land";
    EXPECT_GT(jumps, 60);
    EXPECT_EQ(missed, 0);
}

// The wrapper comes to the copy by an indirect call, and the thunk to the wrapper.
TEST_F(GuardedTest, WrappedFunctionsCallTheirOriginals) {
    for (const char* name : pads) {
        const auto wrap = wrap_typed(
            function(name), [](auto original, int x) { return original(x) + original(1); }, AllowBreakpoint::if_needed);
        ASSERT_TRUE(wrap) << wrap.error().message();
        for (int i = 0; i < 100; ++i) ASSERT_EQ(function(name)(i), 3 * i + 5) << name;
        EXPECT_EQ(wrap->calls(), 100u);
    }
}

// It guards what it maps at once: before a pattern is asked about it.
TEST(GuardedByTheDynamicLinker, ProbesThatAreThereBefore) {
    if (const char* why = test::why_not_guarded()) GTEST_SKIP() << why;
    const auto ended = test::in_child([] {
        hits = 0;
        const auto pattern = ProbePattern::attach("libguarded_by_loader.so", "guarded_[bp]*", counting);
        if (!pattern) return pattern.error().code == Errc::text_not_writable ? 0 : 1;
        void* const plugin = dlopen(DYNFUNC_TEST_MARKED_PLUGIN, RTLD_NOW);
        if (plugin == nullptr || pattern->matches().size() != 5 || !pattern->refused().empty()) return 2;
        for (const char* name : pads)
            for (int i = 0; i < 100; ++i)
                if (reinterpret_cast<Int>(dlsym(plugin, name))(i) != 3 * i + 1) return 3;
        // Two of them call guarded_plain.
        return hits == 600 ? 0 : 4;
    });
    EXPECT_EQ(ended.status, 0) << "signal " << ended.signal;
}

// As an object of a system that is built so: nobody but the dynamic linker guards it.
TEST(GuardedByTheDynamicLinker, LandingPadsHaveBreakpoints) {
    if (const char* why = test::why_not_guarded()) GTEST_SKIP() << why;
    void* const plugin = dlopen(DYNFUNC_TEST_MARKED_PLUGIN, RTLD_NOW);
    ASSERT_NE(plugin, nullptr) << dlerror();
    for (const char* name : pads) {
        const auto function = reinterpret_cast<Int>(dlsym(plugin, name));
        hits = 0;
        const auto probe = Probe::attach(Address::of(function), counting);
        ASSERT_TRUE(probe || probe.error().code == Errc::text_not_writable) << probe.error().message();
        if (!probe) GTEST_SKIP() << "this process cannot patch code";
        EXPECT_EQ(probe->info().site_class, SiteClass::breakpoint);
        for (int i = 0; i < 100; ++i) ASSERT_EQ(function(i), 3 * i + 1) << name;
        EXPECT_EQ(hits, 100);
    }
    dlclose(plugin);
}

struct Call {
    int entries = 0;
};
struct Seen {
    int entries = 0, returns = 0, unwinds = 0;
    std::uint64_t last = 0;
} seen;
ReturnProbe<Call> track(Address function) {
    seen = {};
    auto probe = ReturnProbe<Call>::attach(function, {.on_entry =
                                                          [](Call&, Registers&) {
                                                              ++seen.entries;
                                                              return Track::track;
                                                          },
                                                      .on_return =
                                                          [](Call&, Registers& registers) {
                                                              ++seen.returns;
                                                              seen.last = registers.result();
                                                          },
                                                      .on_unwind = [](Call&) { ++seen.unwinds; }});
    EXPECT_TRUE(probe) << probe.error().message();
    return probe ? std::move(*probe) : ReturnProbe<Call>();
}

// The function signs the place of return, which the probe put there before; the check finds what was signed.
TEST_F(GuardedTest, SignedFunctionsReturn) {
    for (const char* name : pads) {
        const auto probe = track(at(name));
        for (int i = 0; i < 100; ++i) ASSERT_EQ(function(name)(i), 3 * i + 1) << name;
        EXPECT_EQ(seen.entries, 100);
        EXPECT_EQ(seen.returns, 100);
        EXPECT_EQ(static_cast<int>(seen.last), 298);
        EXPECT_EQ(probe.in_flight(), 0u);
    }
    const auto probe = track(at("guarded_deep"));
    const auto deep = function<std::uint64_t (*)(std::uint64_t, Inside, void*)>("guarded_deep");
    EXPECT_EQ(deep(
                  20, [](void*) -> std::uint64_t { return 7; }, nullptr),
              27u);
    EXPECT_EQ(seen.returns, 21);
}

TEST_F(GuardedTest, ExceptionsPassThroughSignedCalls) {
    const auto probe = track(at("guarded_throws"));
    const auto entry = Probe::attach(at("guarded_catches"), counting);
    ASSERT_TRUE(entry) << entry.error().message();
    for (int n = 0; n < 10; ++n) ASSERT_EQ(function("guarded_catches")(n), n + 1);
    EXPECT_EQ(seen.entries, 55);
    EXPECT_EQ(seen.unwinds, 55);
    EXPECT_EQ(seen.returns, 0);
    EXPECT_EQ(probe.in_flight(), 0u);
    EXPECT_EQ(hits, 10);
}

TEST_F(GuardedTest, AWalkOfTheStackPassesThroughSignedCalls) {
    Walk here, inside;
    here.take_by_unwinder();
    const auto deep = function<std::uint64_t (*)(std::uint64_t, Inside, void*)>("guarded_deep");
    const auto walk = [](void* to) -> std::uint64_t {
        static_cast<Walk*>(to)->take_by_unwinder();
        return 1;
    };
    for (const bool returns : {false, true}) {
        Probe entry;
        ReturnProbe<Call> probe;
        if (returns)
            probe = track(at("guarded_deep"));
        else
            entry = std::move(*Probe::attach(at("guarded_deep"), counting));
        EXPECT_EQ(deep(3, walk, &inside), 4u);
        EXPECT_TRUE(inside.has(at("guarded_deep"))) << inside.text();
        EXPECT_TRUE(inside.ends_like(here)) << inside.text();
    }
}

// Where a handler leads a thread nothing needs to be a landing pad.
TEST_F(GuardedTest, HandlersLeadToAnyInstruction) {
    static Address elsewhere;
    elsewhere = at("guarded_plain");
    const auto probe = Probe::attach(at("guarded_twice"), {.on_hit = [](ProbeHit& hit) {
                                         hit.registers.instruction_pointer() = elsewhere.value;
                                         return AfterHit::keep;
                                     }});
    ASSERT_TRUE(probe) << probe.error().message();
    for (int i = 0; i < 10; ++i) ASSERT_EQ(function("guarded_twice")(i), 3 * i + 1);
}

}  // namespace
}  // namespace dynfunc
