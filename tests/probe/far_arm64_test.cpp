// SPDX-License-Identifier: MIT
// Probes on instructions that refer to what their copies do not reach as they do.
#include <dynfunc/probe.hpp>

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/ucontext.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstring>

#include "address_space.hpp"
#include "child.hpp"
#include "stack_walk.hpp"
#include "surroundings.hpp"

namespace dynfunc {
namespace {

using test::Walk;
using Int = int (*)(int);

constexpr std::ptrdiff_t branch_reach = std::ptrdiff_t{1} << 27, literal_reach = std::ptrdiff_t{1} << 20;

int hits = 0;
const ProbeOptions counting{.on_hit = [](ProbeHit&) {
    ++hits;
    return AfterHit::keep;
}};

class FarTest : public testing::Test {
protected:
    void SetUp() override {
        plugin_ = dlopen(DYNFUNC_TEST_PLUGIN, RTLD_NOW);
        ASSERT_NE(plugin_, nullptr) << dlerror();
        hits = 0;
        if (const auto probe = Probe::attach(at("far_calls"), counting); !probe) {
            ASSERT_EQ(probe.error().code, Errc::text_not_writable) << probe.error().message();
            GTEST_SKIP() << "this process cannot patch code";
        }
    }
    void TearDown() override { dlclose(plugin_); }

    Address at(const char* name) const { return Address::of(dlsym(plugin_, name)); }
    template <class Function>
    Function function(const char* name) const {
        return reinterpret_cast<Function>(dlsym(plugin_, name));
    }

    void* plugin_ = nullptr;
};

std::ptrdiff_t apart(Address a, Address b) { return std::max(a - b, b - a); }

TEST_F(FarTest, ACallLeadsFurtherThanABranch) {
    ASSERT_LT(apart(at("far_call"), at("far_target")), branch_reach);
    const auto probe = Probe::attach(at("far_call"), counting);
    ASSERT_TRUE(probe) << probe.error().message();
    ASSERT_GT(apart(probe->info().stub, at("far_target")), branch_reach);
    EXPECT_EQ(probe->info().site_class, SiteClass::whole);
    for (int i = 0; i < 100; ++i) ASSERT_EQ(function<Int>("far_calls")(i), 2 * i + 1);
    EXPECT_EQ(hits, 100);
}

Walk walk_inside;

// The callee's caller is found: the return address is the one that the call would have left.
TEST_F(FarTest, TheCalleeSeesItsCaller) {
    const auto call = Probe::attach(at("far_call"), counting);
    const auto target = Probe::attach(at("far_target"), {.on_hit = [](ProbeHit&) {
                                          walk_inside.take_by_unwinder();
                                          return AfterHit::keep;
                                      }});
    ASSERT_TRUE(call && target);
    Walk here;
    here.take_by_unwinder();
    EXPECT_EQ(function<Int>("far_calls")(5), 11);
    EXPECT_TRUE(walk_inside.has(at("far_calls"))) << walk_inside.text();
    EXPECT_TRUE(walk_inside.ends_like(here)) << walk_inside.text();
}

// No room is in reach of both: refused with what is too far. Where there is some between them, there the stub goes.
TEST_F(FarTest, ABranchWantsRoomInReachOfBoth) {
    const Address jump = at("far_jump"), target = at("far_target");
    for (const AllowBreakpoint breakpoint : {AllowBreakpoint::if_needed, AllowBreakpoint::always, AllowBreakpoint::never}) {
        ProbeOptions options = counting;
        options.breakpoint = breakpoint;
        const auto refused = Probe::attach(jump, options);
        ASSERT_FALSE(refused);
        EXPECT_EQ(refused.error().code, Errc::out_of_reach) << refused.error().message();
        EXPECT_EQ(refused.error().address, target);
    }
    EXPECT_EQ(function<Int>("far_jumps")(4), 8);

    // In a child, because the room is the object's: it goes with it.
    const auto ended = test::in_child([&] {
        constexpr std::ptrdiff_t half_way = std::ptrdiff_t{32} << 20;
        constexpr std::size_t bytes = 1 << 16;
        const Address room{(jump + half_way).value & ~(bytes - 1)};
        if (munmap(room.as<void*>(), bytes) != 0) return 1;
        auto probe = Probe::attach(jump, counting);
        if (!probe) return 2;
        if (apart(probe->info().stub, room) >= static_cast<std::ptrdiff_t>(bytes)) return 3;
        for (int i = 0; i < 100; ++i)
            if (function<Int>("far_jumps")(i) != 2 * i) return 4;
        if (hits != 100) return 5;
        probe->detach();
        return function<Int>("far_jumps")(4) == 8 && hits == 100 ? 0 : 6;
    });
    EXPECT_EQ(ended.status, 0) << "signal " << ended.signal;
}

struct Loaded {
    std::array<std::uint64_t, 12> words{};
    friend bool operator==(const Loaded&, const Loaded&) = default;
};

TEST_F(FarTest, LoadsOfLiteralsDoWhatTheyDid) {
    const auto load = function<void (*)(Loaded*)>("far_loads");
    Loaded expected;
    load(&expected);
    ASSERT_EQ(expected.words[5], 0x1616u);
    int probed = 0;
    for (const AllowBreakpoint breakpoint : {AllowBreakpoint::if_needed, AllowBreakpoint::always}) {
        if (test::emulated && breakpoint == AllowBreakpoint::always) break;  // a thread of the emulator's blocks every signal
        for (Address each = at("far_loads_begin"); each < at("far_loads_end"); each = each + 4) {
            ProbeOptions options = counting;
            options.breakpoint = breakpoint;
            const auto probe = Probe::attach(each, options);
            ASSERT_TRUE(probe) << probe.error().message();
            ASSERT_GT(apart(probe->info().stub, each), literal_reach);
            Loaded loaded;
            load(&loaded);
            EXPECT_EQ(loaded, expected) << each - at("far_loads_begin");
            ++probed;
        }
    }
    EXPECT_EQ(hits, probed);
    EXPECT_GE(probed, 12);
}

struct Fault {
    Walk walk;
    Address pc;
    std::uint64_t x16 = 0;
    int count = 0;
} fault;
AddressRange literal_pages;

void on_fault(int, siginfo_t*, void* context) {
    const auto& machine = static_cast<const ucontext_t*>(context)->uc_mcontext;
    fault.walk.take_by_unwinder();
    fault.pc = Address{machine.pc};
    fault.x16 = machine.regs[16];
    ++fault.count;
    mprotect(literal_pages.begin.as<void*>(), literal_pages.size(), PROT_READ | PROT_EXEC);
}

// Inside of a copy that keeps x16 on the stack: the frame is described, and x16 comes back.
TEST_F(FarTest, ASignalInTheMiddleOfACopySeesTheCallers) {
    const auto load = function<void (*)(std::uint64_t*)>("far_faults");
    const auto probe = Probe::attach(at("far_faulting_load"), counting);
    ASSERT_TRUE(probe) << probe.error().message();
    const Address stub = probe->info().stub;
    ASSERT_GT(apart(stub, at("far_faulting_load")), literal_reach);
    literal_pages = {at("far_faulting_literal"), at("far_faulting_literal") + (1 << 16)};
    ASSERT_EQ(mprotect(literal_pages.begin.as<void*>(), literal_pages.size(), PROT_NONE), 0);
    struct sigaction handled {
    }, before{};
    handled.sa_sigaction = &on_fault;
    handled.sa_flags = SA_SIGINFO;
    ASSERT_EQ(sigaction(SIGSEGV, &handled, &before), 0);
    Walk here;
    here.take_by_unwinder();
    std::uint64_t loaded[3] = {};
    load(loaded);
    ASSERT_EQ(sigaction(SIGSEGV, &before, nullptr), 0);
    ASSERT_EQ(fault.count, 1);
    EXPECT_TRUE(fault.pc > stub && fault.pc < stub + 128);
    EXPECT_EQ(fault.x16, at("far_faulting_literal").value);
    EXPECT_TRUE(fault.walk.has(at("far_faults"))) << fault.walk.text();
    EXPECT_TRUE(fault.walk.ends_like(here)) << fault.walk.text();
    EXPECT_EQ(loaded[0], 0x1122'3344'5566'7788u);
    EXPECT_EQ(loaded[1], 0x99aa'bbcc'ddee'ff00u);
    EXPECT_EQ(loaded[2], 0x1616u);
    EXPECT_EQ(hits, 1);
}

}  // namespace
}  // namespace dynfunc
