// SPDX-License-Identifier: MIT
// What a user of probes relies on: where they can be, what a handler may do, what is refused and why, and that nothing stays.
#include <dynfunc/dynfunc.hpp>
#include <dynfunc/grace_period.hpp>
#include <dynfunc/introspect.hpp>
#include <dynfunc/probe.hpp>

#include <dlfcn.h>
#include <execinfo.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <thread>

#include "address_space.hpp"
#include "child.hpp"
#include "module_code.hpp"
#include "surroundings.hpp"

extern "C" {
int walk_all(int), walk_add(int, int), calls_early(int), loops_at_once(int);
void returns_at_once(), has_breakpoint(), far_away();
extern int (*call_target)(int);
extern const char behind_breakpoint[];
[[gnu::noinline]] void probe_test_breakpoint() { asm volatile(""); }
}

namespace probe_test {
int plus_one(int x) { return x + 1; }
DYNFUNC(dynamic, int(int), &plus_one);
}  // namespace probe_test

namespace dynfunc {
namespace {

struct Count {
    std::atomic<int> hits{0};
};
AfterHit count_hit(ProbeHit& hit) {
    ++static_cast<Count*>(hit.data)->hits;
    return AfterHit::keep;
}

std::vector<std::byte> bytes_at(Address at, std::size_t size) {
    return {at.as<const std::byte*>(), at.as<const std::byte*>() + size};
}

// Of the function that begins there, in this program.
std::vector<Address> instructions_of(Address function) {
    static const auto code = ModuleCode::of(Address::of(&walk_all).as<const void*>());
    std::vector<Address> found;
    const arch::JumpSite site = code->site(function);
    for (std::size_t k = 0; k < site.code.size();) {
        const auto next = arch::read_displaced(site.code.subspan(k), function + static_cast<std::ptrdiff_t>(k), 1);
        if (!next) break;
        found.push_back(next->at);
        k += next->size();
    }
    return found;
}

class ProbeTest : public testing::Test {
protected:
    static void SetUpTestSuite() { test::signal_that_may_change = SIGTRAP; }
    void SetUp() override {
        Count count;
        if (const auto probe = Probe::attach(&walk_add, {.on_hit = &count_hit, .data = &count}); !probe) {
            ASSERT_EQ(probe.error().code, Errc::text_not_writable) << probe.error().message();
            GTEST_SKIP() << "this process cannot patch code";
        }
    }
};

[[gnu::noinline]] double many_kinds(int n, double x) {
    double sum = 0;
    for (int i = 0; i < n; ++i) {
        switch (i % 7) {
            case 0:
                sum += std::sqrt(x + i);
                break;
            case 1:
                sum -= x * i;
                break;
            case 2:
                sum = sum > 100 ? sum / 3 : sum + 2;
                break;
            case 3:
                sum += static_cast<double>(std::strlen("text"));
                break;
            case 4:
                try {
                    if (i == 4) throw std::runtime_error("four");
                    sum += 1;
                } catch (const std::exception& e) {
                    sum += e.what()[0];
                }
                break;
            case 5:
                sum += static_cast<double>(static_cast<float>(x) * static_cast<float>(i));
                break;
            default:
                sum *= 1.0625;
        }
    }
    return sum;
}

// The compiler must not see what is called with what.
double (*volatile call_many_kinds)(int, double) = &many_kinds;

// One probe after the other at every instruction; then the function runs, with what it should give.
template <class Run, class Expected>
void probe_every_instruction(Address function, Run&& run, const Expected& expected, AllowBreakpoint breakpoint) {
    const auto before = bytes_at(function, 16);
    const auto instructions = instructions_of(function);
    ASSERT_GT(instructions.size(), 4u);
    std::size_t reached = 0;
    for (const Address at : instructions) {
        Count count;
        auto probe = Probe::attach(at, {.on_hit = &count_hit, .data = &count, .breakpoint = breakpoint});
        ASSERT_TRUE(probe) << probe.error().message();
        ASSERT_EQ(run(), expected) << "with a probe at +" << at - function << ", " << to_string(probe->info().site_class);
        EXPECT_EQ(probe->hits(), static_cast<std::uint64_t>(count.hits));
        reached += count.hits != 0;
        probe->detach();
        count.hits = 0;
        ASSERT_EQ(run(), expected);
        ASSERT_EQ(count.hits, 0);
    }
    EXPECT_GT(reached, instructions.size() / 2);
    EXPECT_EQ(bytes_at(function, 16), before);
}

TEST_F(ProbeTest, EveryInstructionOfAFunction) {
    for (const AllowBreakpoint breakpoint : {AllowBreakpoint::if_needed, AllowBreakpoint::always}) {
        const auto walk = [] {
            std::vector<int> results;
            for (int i = -3; i < 9; ++i) results.push_back(walk_all(i));
            return results;
        };
        probe_every_instruction(Address::of(&walk_all), walk, walk(), breakpoint);
        const auto kinds = [] { return call_many_kinds(50, 1.75); };
        probe_every_instruction(Address::of(&many_kinds), kinds, kinds(), breakpoint);
    }
}

// All at once: every instruction has its own probe.
TEST_F(ProbeTest, AllInstructionsAtOnce) {
    const double expected = call_many_kinds(50, 1.75);
    std::vector<ProbeRequest> requests;
    Count count;
    // Where a jump displaces its neighbours too, these are the first's, and cannot have their own: breakpoints can.
    for (const Address at : instructions_of(Address::of(&many_kinds)))
        requests.push_back({at, {.on_hit = &count_hit, .data = &count, .breakpoint = AllowBreakpoint::always}});
    auto probes = Probe::attach(requests);
    ASSERT_TRUE(probes) << probes.error().message();
    EXPECT_EQ(call_many_kinds(50, 1.75), expected);
    EXPECT_GT(count.hits, 500);
    Probe::detach(*probes);
    EXPECT_EQ(call_many_kinds(50, 1.75), expected);
}

#if defined(__x86_64__)
TEST_F(ProbeTest, NeighboursThatAJumpDisplacesAreRefused) {
    Count count;
    const auto first = Probe::attach(&walk_all, {.on_hit = &count_hit, .data = &count});
    ASSERT_TRUE(first) << first.error().message();
    ASSERT_EQ(first->info().site_class, SiteClass::guarded);
    const auto second = Probe::attach(Address::of(&walk_all) + 1, {.on_hit = &count_hit, .data = &count});
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code, Errc::patched_place) << second.error().message();
    EXPECT_EQ(walk_all(5), 22);
    EXPECT_EQ(count.hits, 1);
}

TEST_F(ProbeTest, ClassesAndReasons) {
    Count count;
    const auto info = [&](Address at) { return Probe::attach(at, {.on_hit = &count_hit, .data = &count})->info(); };
    EXPECT_EQ(info(Address::of(&calls_early)).site_class, SiteClass::guarded);
    const ProbeInfo loop = info(Address::of(&loops_at_once));
    EXPECT_EQ(loop.site_class, SiteClass::punned);
    EXPECT_NE(loop.reason.find("a branch leads into"), std::string::npos) << loop.reason;
    const ProbeInfo ret = info(Address::of(&returns_at_once));
    EXPECT_EQ(ret.site_class, SiteClass::breakpoint);
    EXPECT_NE(ret.reason.find("no room"), std::string::npos) << ret.reason;
    EXPECT_EQ(ret.before, std::vector{std::byte{0xc3}});
    EXPECT_TRUE(ret.is_armed);
    const auto refused =
        Probe::attach(&returns_at_once, {.on_hit = &count_hit, .data = &count, .breakpoint = AllowBreakpoint::never});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Errc::too_short);
}
#else
// A branch takes the place of one instruction: nothing is in its way, also of a landing pad where nothing is guarded.
TEST_F(ProbeTest, ClassesAndReasons) {
    Count count;
    const auto info = [&](Address at) { return Probe::attach(at, {.on_hit = &count_hit, .data = &count})->info(); };
    EXPECT_EQ(info(Address::of(&calls_early)).site_class, SiteClass::whole);
    for (const std::ptrdiff_t offset : {0, 4, 16})
        EXPECT_EQ(info(Address::of(&loops_at_once) + offset).site_class, SiteClass::whole) << offset;
    const ProbeInfo landing = info(Address::of(&returns_at_once));
    EXPECT_EQ(landing.site_class, SiteClass::whole);
    EXPECT_EQ(landing.reason, "");
    EXPECT_EQ(landing.before.size(), 4u);
    EXPECT_TRUE(landing.is_armed);
}
#endif

TEST_F(ProbeTest, RefusalsSayWhyAndWhere) {
    if (test::emulated) GTEST_SKIP() << test::no_other_memory_in_emulator;
    Count count;
    const ProbeOptions options{.on_hit = &count_hit, .data = &count};
    const auto expect = [&](const ProbeTarget& target, Errc code, Address at) {
        const auto refused = Probe::attach(target, options);
        ASSERT_FALSE(refused);
        EXPECT_EQ(refused.error().code, code) << refused.error().message();
        EXPECT_EQ(refused.error().address, at) << refused.error().message();
        if (at && code != Errc::not_executable) {
            EXPECT_EQ(std::memcmp(refused.error().code_bytes.data(), at.as<const void*>(), refused.error().code_size), 0);
        }
        const bool is_mapped = at && (code != Errc::not_executable || refused.error().code_size != 0);
        EXPECT_TRUE(!is_mapped || refused.error().code_size == 8) << refused.error().message();
        EXPECT_EQ(refused.error().message().find(", where there is ") != std::string::npos, is_mapped);
    };
    int on_stack = 0;
    static int in_data = 0;
    expect(Address::of(&on_stack), Errc::not_executable, Address::of(&on_stack));
    expect(Address::of(&in_data), Errc::not_executable, Address::of(&in_data));
    expect(Address{8}, Errc::not_executable, Address{8});
    expect(Address::of(&walk_all) + 2, Errc::middle_of_instruction, Address::of(&walk_all) + 2);
    expect(Address::of(&has_breakpoint), Errc::foreign_breakpoint, Address::of(&has_breakpoint));
    expect(Address::of(&far_away), Errc::not_movable, Address::of(&far_away));
    expect("no_such_function_anywhere", Errc::no_symbol, {});
    expect({"libc.so.6", "no_such_function_anywhere"}, Errc::no_symbol, {});
    expect({"no_such_library.so", "malloc"}, Errc::no_symbol, {});
    const Address raise{reinterpret_cast<std::uintptr_t>(dlsym(RTLD_DEFAULT, "_Unwind_RaiseException"))};
    expect(raise, Errc::denied, raise);
    const auto no_handler = Probe::attach(&walk_all, {.on_hit = nullptr});
    ASSERT_FALSE(no_handler);
    EXPECT_EQ(no_handler.error().code, Errc::no_callback);
    const auto none = Probe::attach(std::span<const ProbeRequest>{});
    ASSERT_FALSE(none);
    EXPECT_EQ(none.error().code, Errc::empty_batch);
    // The trampoline of a dynamic function is the library's own to patch.
    EXPECT_EQ(probe_test::dynamic(1), 2);
    Address trampoline;
    for (const FunctionInfo& function : functions())
        if (function.name == "probe_test::dynamic") trampoline = function.trampolines.at(0).code;
    expect(trampoline, Errc::patched_place, trampoline);
}

TEST_F(ProbeTest, ABatchIsAllOrNone) {
    Count count;
    const auto before = bytes_at(Address::of(&walk_all), 16);
    const ProbeRequest requests[] = {{&walk_all, {.on_hit = &count_hit, .data = &count}},
                                     {&walk_add, {.on_hit = &count_hit, .data = &count}},
                                     {&far_away, {.on_hit = &count_hit, .data = &count}}};
    const auto refused = Probe::attach(requests);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().element, 2u);
    EXPECT_EQ(refused.error().address, Address::of(&far_away));
    EXPECT_EQ(bytes_at(Address::of(&walk_all), 16), before);
    EXPECT_EQ(walk_all(1), 10);
    EXPECT_EQ(count.hits, 0);
    auto attached = Probe::attach(std::span(requests).first(2));
    ASSERT_TRUE(attached);
    EXPECT_EQ(walk_all(1), 10);
    EXPECT_EQ(count.hits, 2);
    Probe::detach(*attached);
    EXPECT_FALSE((*attached)[0]);
    EXPECT_EQ(bytes_at(Address::of(&walk_all), 16), before);
}

TEST_F(ProbeTest, SeveralConsumersInOrder) {
    struct Entry {
        std::string* text;
        char letter;
    };
    std::string text;
    Entry entries[] = {{&text, 'b'}, {&text, 'd'}, {&text, 'a'}, {&text, 'c'}};
    const int priorities[] = {5, -1, 10, 5};
    std::vector<Probe> probes;
    for (int i = 0; i < 4; ++i) {
        probes.push_back(*Probe::attach(&walk_add, {.on_hit =
                                                        [](ProbeHit& hit) {
                                                            const auto& entry = *static_cast<Entry*>(hit.data);
                                                            *entry.text += entry.letter;
                                                            return AfterHit::keep;
                                                        },
                                                    .data = &entries[i],
                                                    .priority = priorities[i]}));
    }
    walk_add(1, 2);
    EXPECT_EQ(text, "abcd");
    probes[3].detach();
    walk_add(1, 2);
    EXPECT_EQ(text, "abcdabd");
    EXPECT_EQ(probes[0].info().consumers, 3u);
}

TEST_F(ProbeTest, AFilterDecidesWhoIsServed) {
    static thread_local bool wanted = false;
    Count count;
    const auto probe = Probe::attach(&walk_add, {.on_hit = &count_hit, .data = &count, .filter = [](void*) { return wanted; }});
    ASSERT_TRUE(probe);
    walk_add(1, 2);
    EXPECT_EQ(count.hits, 0);
    wanted = true;
    walk_add(1, 2);
    std::thread([] { walk_add(1, 2); }).join();
    EXPECT_EQ(count.hits, 1);
    EXPECT_EQ(probe->hits(), 1u);
}

TEST_F(ProbeTest, RemoveMe) {
    Count count;
    const auto remove = [](ProbeHit& hit) {
        return ++static_cast<Count*>(hit.data)->hits == 3 ? AfterHit::disable : AfterHit::keep;
    };
    const auto before = bytes_at(Address::of(&walk_add), 16);
    auto probe = Probe::attach(&walk_add, {.on_hit = remove, .data = &count});
    ASSERT_TRUE(probe);
    for (int i = 0; i < 10; ++i) walk_add(1, 2);
    EXPECT_EQ(count.hits, 3);
    EXPECT_EQ(probe->hits(), 3u);
    EXPECT_FALSE(probe->info().is_armed) << "nobody listens any more";
    EXPECT_EQ(bytes_at(Address::of(&walk_add), 16), before);
    // With another one, only that one goes on.
    Count other, removed;
    auto stays = Probe::attach(&walk_add, {.on_hit = &count_hit, .data = &other});
    auto goes = Probe::attach(&walk_add, {.on_hit = remove, .data = &removed});
    for (int i = 0; i < 10; ++i) walk_add(1, 2);
    EXPECT_EQ(other.hits, 10);
    EXPECT_EQ(removed.hits, 3);
    EXPECT_EQ(goes->hits(), 3u);
    EXPECT_TRUE(stays->info().is_armed);
}

TEST_F(ProbeTest, HandlersAttachAndDetachAlsoThemselves) {
    struct Inside {
        Probe self, other;
        Count count;
        int hits = 0;
    } inside;
    const auto handler = [](ProbeHit& hit) {
        auto& inside = *static_cast<Inside*>(hit.data);
        if (++inside.hits == 1) {
            auto attached = Probe::attach(&walk_all, {.on_hit = &count_hit, .data = &inside.count});
            EXPECT_TRUE(attached);
            if (attached) inside.other = std::move(*attached);
            EXPECT_EQ(walk_all(1), 10) << "a nested hit";
        } else {
            inside.self.detach();
        }
        return AfterHit::keep;
    };
    inside.self = *Probe::attach(&walk_add, {.on_hit = handler, .data = &inside});
    walk_add(1, 2);
    EXPECT_EQ(inside.hits, 1);
    EXPECT_EQ(inside.count.hits, 0) << "hits inside a handler are not delivered";
    EXPECT_EQ(inside.other.missed(), 1u);
    EXPECT_EQ(inside.self.missed(), 1u) << "walk_all calls walk_add";
    EXPECT_EQ(walk_all(1), 10);
    EXPECT_EQ(inside.count.hits, 1);
    EXPECT_EQ(inside.hits, 2);
    EXPECT_FALSE(inside.self);
    walk_add(1, 2);
    EXPECT_EQ(inside.hits, 2);
    synchronize();
}

// Probes on what the library itself calls, and everybody.
TEST_F(ProbeTest, FunctionsThatEverybodyCalls) {
    if (test::thread_sanitizer)
        GTEST_SKIP() << "these are the sanitizer's own here, which call them before a thread may be watched";
    static thread_local int nested = 0;
    const auto handler = [](ProbeHit& hit) {
        EXPECT_EQ(++nested, 1);
        ++static_cast<Count*>(hit.data)->hits;
        std::string text(100, 'x');  // malloc, memcpy, free
        EXPECT_EQ(write(-1, text.data(), text.size()), -1);
        --nested;
        return AfterHit::keep;
    };
    const char* const names[] = {"malloc",           "free",  "calloc", "pthread_create",     "write",
                                 "memcpy",           "mmap",  "munmap", "pthread_mutex_lock", "_ZNSs4_Rep9_S_createEmmRKSaIcE",
                                 "_ZNSt6localeC1Ev", "_Znwm", "_ZdlPv", "__errno_location"};
    Count counts[std::size(names)];
    std::vector<Probe> probes;
    for (std::size_t i = 0; i < std::size(names); ++i) {
        auto probe = Probe::attach(names[i], {.on_hit = handler, .data = &counts[i]});
        ASSERT_TRUE(probe) << names[i] << ": " << probe.error().message();
        probes.push_back(std::move(*probe));
    }
    for (int i = 0; i < 20; ++i) {
        std::thread([] {
            for (int k = 0; k < 100; ++k) {
                void* volatile memory = malloc(static_cast<std::size_t>(k));
                free(memory);
            }
        }).join();
    }
    EXPECT_GE(counts[0].hits, 2000);
    EXPECT_GE(counts[1].hits, 2000);
    EXPECT_GE(counts[3].hits, 20);
    for (std::size_t i = 0; i < probes.size(); ++i)
        EXPECT_GE(probes[i].hits(), static_cast<std::uint64_t>(counts[i].hits)) << names[i];
    Probe::detach(probes);
}

struct Cleanup {
    int* counter;
    ~Cleanup() { ++*counter; }
};
int cleanups = 0;

[[gnu::noinline]] int throws(int x) {
    const Cleanup cleanup{&cleanups};
    if (x > 5) throw std::runtime_error("more than five");
    return x;
}
int (*volatile call_throws)(int) = &throws;
[[gnu::noinline]] int passes(int x) {
    const Cleanup cleanup{&cleanups};
    return call_throws(x) + 1;
}
int (*volatile call_passes)(int) = &passes;

TEST_F(ProbeTest, ExceptionsPass) {
    Count count;
    std::vector<ProbeRequest> requests;
    for (const auto function : {Address::of(&throws), Address::of(&passes), Address::of(&calls_early)})
        requests.push_back({function, {.on_hit = &count_hit, .data = &count}});
    const auto instructions = instructions_of(Address::of(&passes));
    auto probes = Probe::attach(requests);
    ASSERT_TRUE(probes) << probes.error().message();
    call_target = [](int x) { return call_passes(x); };
    cleanups = 0;
    for (int i = 0; i < 10; ++i) {
        EXPECT_EQ(calls_early(3), 4);
        EXPECT_THROW(calls_early(8), std::runtime_error) << "out of a displaced call";
    }
    EXPECT_EQ(cleanups, 40);
    EXPECT_EQ(count.hits, 60);
    // The same at every instruction, where the throw comes out of copies and breakpoints.
    for (const Address at : instructions) {
        auto probe = Probe::attach(at, {.on_hit = &count_hit, .data = &count, .breakpoint = AllowBreakpoint::if_needed});
        if (!probe) {
            EXPECT_EQ(probe.error().code, Errc::patched_place) << probe.error().message();
            continue;
        }
        EXPECT_EQ(call_passes(3), 4);
        EXPECT_THROW(call_passes(8), std::runtime_error);
    }
}

TEST_F(ProbeTest, AWalkOfTheStackInAHandlerReachesMain) {
    struct Walk {
        void* frames[64];
        int count = 0;
    } walk;
    const auto handler = [](ProbeHit& hit) {
        auto& walk = *static_cast<Walk*>(hit.data);
        walk.count = backtrace(walk.frames, 64);
        return AfterHit::keep;
    };
    call_target = [](int x) { return walk_add(x, 1); };
    for (const AllowBreakpoint breakpoint : {AllowBreakpoint::if_needed, AllowBreakpoint::always}) {
        for (const Address at : instructions_of(Address::of(&walk_add))) {
            const auto probe = Probe::attach(at, {.on_hit = handler, .data = &walk, .breakpoint = breakpoint});
            if (!probe) continue;
            walk.count = 0;
            EXPECT_EQ(calls_early(4), 5);
            bool in_probed = false, in_caller = false, in_test = false;
            for (void* const frame : std::span(walk.frames).first(static_cast<std::size_t>(walk.count))) {
                const Address pc = Address::of(frame);
                in_probed = in_probed || (Address::of(&walk_add) <= pc && pc < Address::of(&walk_add) + 24);
                in_caller = in_caller || (Address::of(&calls_early) <= pc && pc < Address::of(&calls_early) + 24);
                Dl_info info;
                in_test = in_test || (dladdr(frame, &info) != 0 && info.dli_sname != nullptr &&
                                      std::strcmp(info.dli_sname, "__libc_start_main") == 0);
            }
            EXPECT_TRUE(in_probed && in_caller && in_test)
                << "at +" << at - Address::of(&walk_add) << ", " << walk.count << " frames";
        }
    }
}

// gdb_probe.py looks at it.
TEST_F(ProbeTest, ADebuggerShowsTheChain) {
    const auto handler = [](ProbeHit&) {
        probe_test_breakpoint();
        return AfterHit::keep;
    };
    call_target = [](int x) { return walk_add(x, 1); };
    const auto probe = Probe::attach(&walk_add, {.on_hit = handler});
    ASSERT_TRUE(probe) << probe.error().message();
    EXPECT_EQ(calls_early(4), 5);
    EXPECT_EQ(probe->hits(), 1u);
}

TEST_F(ProbeTest, AChildOfAForkHasTheProbes) {
    static Count count;
    auto probe = Probe::attach(&walk_add, {.on_hit = &count_hit, .data = &count});
    ASSERT_TRUE(probe);
    const auto ended = test::in_child([&] {
        count.hits = 0;
        if (walk_add(1, 2) != 3 || count.hits != 1) return 1;
        Count more;
        auto second = Probe::attach(&walk_all, {.on_hit = &count_hit, .data = &more});
        if (!second || walk_all(1) != 10 || more.hits != 1 || count.hits != 2) return 2;
        second->detach();
        probe->detach();
        return walk_all(1) == 10 && count.hits == 2 ? 0 : 3;
    });
    EXPECT_EQ(ended.status, 0);
    EXPECT_EQ(walk_add(1, 2), 3);
    EXPECT_EQ(count.hits, 1);
}

// What a program does that has breakpoints of its own. (On x86 the thread is there already.)
void go_on_behind_breakpoint(void* context) {
    if (const Address at = arch::trapped_at(context); at == Address::of(&has_breakpoint))
        arch::go_on_at(context, Address::of(behind_breakpoint));
}

TEST_F(ProbeTest, TheApplicationsOwnTrapsReachIt) {
    const auto ended = test::in_child([] {
        static std::atomic<int> traps{0};
        struct sigaction own {};
        own.sa_flags = SA_SIGINFO;
        own.sa_sigaction = [](int, siginfo_t* info, void* context) {
            ++traps;
            if (info->si_code > 0) go_on_behind_breakpoint(context);
        };
        sigaction(SIGTRAP, &own, nullptr);
        Count count;
        auto probe = Probe::attach(&walk_add, {.on_hit = &count_hit, .data = &count, .breakpoint = AllowBreakpoint::always});
        if (!probe) return 1;
        if (walk_add(1, 2) != 3 || count.hits != 1 || traps != 0) return 2;
        has_breakpoint();
        raise(SIGTRAP);
        return traps == 2 ? 0 : 3;
    });
    EXPECT_EQ(ended.status, 0);
}

// It takes the signal after us and hands on to us; then the next attach takes it again.
TEST_F(ProbeTest, WhoHandsOnToUsIsNotAskedForEver) {
    const auto ended = test::in_child([] {
        static struct sigaction before;
        static std::atomic<int> traps{0};
        struct sigaction own {};
        own.sa_flags = SA_SIGINFO | SA_NODEFER;
        own.sa_sigaction = [](int signal, siginfo_t* info, void* context) {
            if (++traps < 100) before.sa_sigaction(signal, info, context);
        };
        struct sigaction first {};
        static std::atomic<int> asked_first{0};
        first.sa_flags = SA_SIGINFO;
        first.sa_sigaction = [](int, siginfo_t*, void* context) {
            ++asked_first;
            go_on_behind_breakpoint(context);
        };
        sigaction(SIGTRAP, &first, nullptr);
        Count count;
        const auto once =
            Probe::attach(&walk_add, {.on_hit = &count_hit, .data = &count, .breakpoint = AllowBreakpoint::always});
        sigaction(SIGTRAP, &own, &before);
        const auto again =
            Probe::attach(&walk_all, {.on_hit = &count_hit, .data = &count, .breakpoint = AllowBreakpoint::always});
        if (!once || !again || walk_all(1) != 10 || count.hits != 2 || traps != 0) return 1;
        has_breakpoint();
        return traps == 1 && asked_first == 1 ? 0 : 2;
    });
    EXPECT_EQ(ended.status, 0);
}

TEST_F(ProbeTest, ATrapOfNobodysStillEndsTheProcess) {
    const auto ended = test::in_child([] {
        test::take_faults_as_signals();
        signal(SIGTRAP, SIG_DFL);
        Count count;
        const auto probe =
            Probe::attach(&walk_add, {.on_hit = &count_hit, .data = &count, .breakpoint = AllowBreakpoint::always});
        walk_add(1, 2);
        has_breakpoint();
        return 0;
    });
    EXPECT_EQ(ended.signal, SIGTRAP);
}

TEST_F(ProbeTest, ManyOnManyThreads) {
    Count count;
    auto probe = Probe::attach(&walk_add, {.on_hit = &count_hit, .data = &count});
    ASSERT_TRUE(probe);
    constexpr int threads = 80, calls = 1000;  // more than the library keeps room for at once
    std::vector<std::thread> running;
    for (int i = 0; i < threads; ++i)
        running.emplace_back([] {
            for (int k = 0; k < calls; ++k) EXPECT_EQ(walk_add(k, 1), k + 1);
        });
    for (auto& thread : running) thread.join();
    EXPECT_EQ(count.hits, threads * calls);
    EXPECT_EQ(probe->hits(), static_cast<std::uint64_t>(threads * calls));
    EXPECT_EQ(probe->missed(), 0u);
}

TEST_F(ProbeTest, NothingStays) {
    const auto at = Address::of(&walk_all);
    const auto before = bytes_at(at, 32);
    { const auto warm = Probe::attach(&walk_all, {.on_hit = &count_hit, .data = nullptr}); }
    const std::size_t mappings = test::count_mappings(), descriptors = test::count_descriptors();
    Count count;
    for (int i = 0; i < 200; ++i) {
        const auto probe = Probe::attach(&walk_all, {.on_hit = &count_hit, .data = &count});
        ASSERT_TRUE(probe);
        walk_all(1);
    }
    EXPECT_EQ(count.hits, 200);
    EXPECT_EQ(bytes_at(at, 32), before);
    // These map memory of their own.
    EXPECT_TRUE(test::thread_sanitizer || test::emulated || test::count_mappings() == mappings);
    EXPECT_EQ(test::count_descriptors(), descriptors);
}

}  // namespace
}  // namespace dynfunc
