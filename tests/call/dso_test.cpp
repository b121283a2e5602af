// SPDX-License-Identifier: MIT
// Shared objects that come and go with live dynamic functions. DYNFUNC_TEST_PLUGIN names the plug-in. With
// DYNFUNC_TEST_LANDING_PADS it was compiled with them, and without optimization, so that it calls its trampolines through
// pointers; where the machine can guard its code, it does.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <dynfunc/call_sites.hpp>
#include <dynfunc/grace_period.hpp>
#include <dynfunc/introspect.hpp>

#include <atomic>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "address_space.hpp"
#include "child.hpp"
#include "guarded_page.hpp"
#include "plugin.hpp"
#include "surroundings.hpp"

namespace host {
int one(int) { return 1; }
int two(int) { return 2; }
DYNFUNC(function, int(int), &one);
DYNFUNC_STATIC_KEY_FALSE(key);
DYNFUNC_TRACEPOINT(event, void(int value));
void fire(int value) { DYNFUNC_TRACE(event, value); }
}  // namespace host

namespace dynfunc {
namespace {

class Plugin {
public:
    Plugin() : handle_(dlopen(DYNFUNC_TEST_PLUGIN, RTLD_NOW | RTLD_LOCAL)) {
        if (handle_ == nullptr) throw std::runtime_error(dlerror());
        interface_ = static_cast<const plugin::Interface*>(dlsym(handle_, "plugin_interface"));
#if DYNFUNC_TEST_LANDING_PADS
        guarded_.emplace(reinterpret_cast<const void*>(interface_->call_own));
#endif
    }
    ~Plugin() { unload(); }
    const plugin::Interface* operator->() const { return interface_; }
    void unload() {
        if (handle_ == nullptr) return;
        guarded_.reset();
        dlclose(handle_);
        handle_ = nullptr;
        EXPECT_EQ(dlopen(DYNFUNC_TEST_PLUGIN, RTLD_NOW | RTLD_NOLOAD), nullptr) << "something keeps the plug-in loaded";
    }

private:
    void* handle_;
    const plugin::Interface* interface_ = nullptr;
    std::optional<test::GuardedCode> guarded_;
};

class Dso : public testing::Test {
protected:
    void TearDown() override {
        ASSERT_TRUE(host::function.retarget(&host::one));
        ASSERT_TRUE(host::key.disable());
        EXPECT_TRUE(find_tracepoint("host::event")->callbacks.empty());
        EXPECT_EQ(test::writable_code(), "");
    }
};

TEST_F(Dso, CallsItsOwnFunctionsAndTheProgramsFromItsFirstConstructorOn) {
    const Plugin plugin;
    EXPECT_EQ(*plugin->in_constructor, 11);
    EXPECT_EQ(plugin->call_own(4), 40);
    EXPECT_EQ(plugin->call_host(4), 1);
}

#if DYNFUNC_TEST_LANDING_PADS
// What the other tests rest on: a branch to a place without a landing pad is noticed.
TEST_F(Dso, ItsCodeIsGuarded) {
    if (!test::has_guarded_pages()) GTEST_SKIP() << test::no_guarded_pages;
    if (capabilities().writer == TextWriter::memory_file) GTEST_SKIP() << "pages of a memory file are not guarded";
    const Plugin plugin;
    ASSERT_EQ(plugin->call_own(4), 40);
    // Behind the pad and behind what stands behind that.
    const auto inside = reinterpret_cast<int (*)(int)>(reinterpret_cast<std::uintptr_t>(plugin->call_own) + 8);
    EXPECT_EQ(test::in_child([inside] { return inside(4); }).signal, SIGILL);
}
#endif

TEST_F(Dso, ARetargetReachesTheTrampolinesOfEveryObject) {
    const Plugin plugin;
    ASSERT_TRUE(host::function.retarget(&host::two));
    EXPECT_EQ(host::function(0), 2);
    EXPECT_EQ(plugin->call_host(0), 2);
    const auto info = find_function("host::function");
    EXPECT_EQ(info->trampolines.size(), DYNFUNC_GENERIC_SITES ? 0u : 2u);
}

TEST_F(Dso, LearnsOfARetargetThatCameBeforeIt) {
    ASSERT_TRUE(host::function.retarget(&host::two));
    const Plugin plugin;
    EXPECT_EQ(plugin->call_host(0), 2);
    EXPECT_EQ(*plugin->in_constructor, 12);
}

TEST_F(Dso, ItsFunctionsAreListedWhileItIsLoaded) {
    EXPECT_FALSE(find_function("plugin::own"));
    {
        const Plugin plugin;
        EXPECT_TRUE(find_function("plugin::own"));
    }
    EXPECT_FALSE(find_function("plugin::own"));
}

TEST_F(Dso, AFunctionWhoseTargetLeavesGoesBackToItsDefault) {
    Plugin plugin;
    ASSERT_TRUE(host::function.retarget(plugin->target));
    EXPECT_EQ(host::function(3), 30);
    plugin.unload();
    EXPECT_EQ(host::function.target(), &host::one);
    EXPECT_EQ(host::function(3), 1);
}

// Somebody who hooks functions wrote over a call site of the program's.
TEST_F(Dso, AFunctionWhoseTargetLeavesGoesBackThoughACallSiteHasForeignBytes) {
    if (*call_site_patching().reason != '\0') GTEST_SKIP() << call_site_patching().reason;
    if (call_site_patching().when == CallSites::never) GTEST_SKIP() << "call sites are not written";
    if (capabilities().writer != TextWriter::process_memory) GTEST_SKIP() << "the page is shared memory";
    Plugin plugin;
    ASSERT_TRUE(host::function.retarget(plugin->target));
    Address field;
    for (const CallSiteInfo& site : call_sites("host::function"))
        if (std::strstr(site.reason, "one store") == nullptr) field = site.field;
    ASSERT_TRUE(field);
    const auto write = [field](std::uint32_t bytes) {
        std::FILE* memory = std::fopen("/proc/self/mem", "r+");
        ASSERT_NE(memory, nullptr);
        EXPECT_EQ(pwrite(fileno(memory), &bytes, sizeof bytes, static_cast<off_t>(field.value)), 4);
        std::fclose(memory);
    };
    std::uint32_t before;
    std::memcpy(&before, field.as<const void*>(), sizeof before);
    write(before ^ 0x40);
    EXPECT_FALSE(host::function.retarget(&host::two));
    plugin.unload();
    EXPECT_EQ(host::function.target(), &host::one);
    write(before);
    EXPECT_EQ(host::function(3), 1);
    ASSERT_TRUE(host::function.retarget(&host::two));
    EXPECT_EQ(host::function(3), 2);
}

TEST_F(Dso, AFunctionThatItRetargetedToItselfGoesBackToo) {
    Plugin plugin;
    ASSERT_TRUE(plugin->retarget_host_to_plugin());
    EXPECT_EQ(host::function(3), 30);
    plugin.unload();
    EXPECT_EQ(host::function(3), 1);
}

TEST_F(Dso, AHundredComingsAndGoingsLeaveNothingBehind) {
    const auto cycle = [] {
        const Plugin plugin;
        ASSERT_TRUE(plugin->retarget_own(&host::two));
        EXPECT_EQ(plugin->call_own(0), 2);
        ASSERT_TRUE(host::function.retarget(plugin->target));
    };
    for (int i = 0; i < 5; ++i) cycle();
    const std::size_t mappings = test::count_mappings(), descriptors = test::count_descriptors(), listed = functions().size();
    for (int i = 0; i < 100; ++i) cycle();
    EXPECT_LT(test::count_mappings(), mappings + 50) << "a mapping is left behind by each cycle";
    EXPECT_EQ(test::count_descriptors(), descriptors);
    EXPECT_EQ(functions().size(), listed);
}

TEST_F(Dso, ComesAndGoesWhileOtherThreadsCallAndRetarget) {
    std::atomic<bool> stop{false};
    std::atomic<long> wrong{0}, calls{0};
    std::thread caller([&] {
        while (!stop) {
            const int result = host::function(1);
            if (result != 1 && result != 2) ++wrong;
            ++calls;
        }
    });
    std::thread retargeter([&] {
        for (int i = 0; !stop; ++i) {
            if (!host::function.retarget(i % 2 == 0 ? &host::one : &host::two)) ++wrong;
            test::let_others_have_the_lock();
        }
    });
    for (int i = 0; i < test::rounds(200, 100); ++i) {
        const Plugin plugin;
        const int result = plugin->call_host(1);
        EXPECT_TRUE(result == 1 || result == 2);
        EXPECT_EQ(plugin->call_own(2), 20);
    }
    stop = true;
    caller.join();
    retargeter.join();
    EXPECT_EQ(wrong, 0);
    EXPECT_GT(calls, 0);
}

TEST_F(Dso, AKeyThatWasSwitchedOnBeforeItCameIsOnInItsFirstConstructor) {
    EXPECT_FALSE(*Plugin()->enabled_in_constructor);
    ASSERT_TRUE(host::key.enable());
    const Plugin plugin;
    EXPECT_TRUE(*plugin->enabled_in_constructor);
    EXPECT_TRUE(plugin->likely() && plugin->unlikely());
    ASSERT_TRUE(host::key.disable());
    EXPECT_FALSE(plugin->likely() || plugin->unlikely());
}

TEST_F(Dso, ItsSitesAreListedWhileItIsLoaded) {
    const std::size_t own = find_static_key("host::key")->branches.sites;
    {
        const Plugin plugin;
        EXPECT_EQ(find_static_key("host::key")->branches.sites, own + (DYNFUNC_GENERIC_SITES ? 0 : 3));
    }
    EXPECT_EQ(find_static_key("host::key")->branches.sites, own);
    EXPECT_TRUE(host::key.enable());
}

// Two call sites: call_host() and the constructor.
TEST_F(Dso, ItsCallSitesAreFoundAsItArrivesIfWhatTheyCallWasChangedBefore) {
    if (DYNFUNC_TEST_LANDING_PADS) GTEST_SKIP() << "this plug-in calls through pointers";
    ASSERT_TRUE(host::function.retarget(&host::two));
    const auto own = find_function("host::function")->call_sites;
    const bool looked_for = *call_site_patching().reason == '\0' && call_site_patching().when != CallSites::never;
    EXPECT_EQ(own.found > 0, looked_for);
    {
        const Plugin plugin;
        const auto now = find_function("host::function")->call_sites;
        EXPECT_EQ(now.found, own.found + (looked_for ? 2 : 0));
        EXPECT_EQ(objects().size(), DYNFUNC_GENERIC_SITES ? 0u : 2u);
        for (const ObjectInfo& object : objects()) EXPECT_EQ(object.call_sites > 0, looked_for) << object.path << object.reason;
        EXPECT_EQ(plugin->call_host(0), 2);
        ASSERT_TRUE(host::function.retarget(plugin->target));
        EXPECT_EQ(plugin->call_host(3), 30);
    }
    EXPECT_EQ(find_function("host::function")->call_sites.found, own.found);
    EXPECT_EQ(objects().size(), DYNFUNC_GENERIC_SITES ? 0u : 1u);
    EXPECT_EQ(host::function(3), 1) << "the target has left";
}

int counted = 0;
void count(int value) { counted += value; }

TEST_F(Dso, FiresTheProgramsTracepointsAndItsOwn) {
    const Plugin plugin;
    counted = 0;
    const auto a = host::event.attach(&count);
    const auto b = plugin->attach_to_own(&count);
    const auto c = host::event.attach([](int) { ++counted; });
    plugin->fire_host(10);
    plugin->fire_own(100);
    EXPECT_EQ(counted, 111);
}

TEST_F(Dso, TakesItsTracepointsAndTheirSubscriptionsWithIt) {
    Plugin plugin;
    const auto token = std::make_shared<int>();
    auto subscription = plugin->attach_to_own(&count);
    ASSERT_TRUE(subscription && subscription->is_attached());
    EXPECT_TRUE(find_tracepoint("plugin::event"));
    plugin.unload();
    EXPECT_FALSE(find_tracepoint("plugin::event"));
    EXPECT_FALSE(subscription->is_attached());
    EXPECT_TRUE(subscription->detach()) << "there is nothing to detach";
}

TEST_F(Dso, ItsOwnSubscriptionsEndWithIt) {
    Plugin plugin;
    int counts = 0;
    ASSERT_TRUE(plugin->attach_own_to_host(&counts));
    host::fire(0);
    plugin.unload();
    host::fire(0);
    EXPECT_EQ(counts, 1);
}

TEST_F(Dso, ItsCallbacksAreDetachedThoughTheProgramHoldsTheSubscription) {
    Plugin plugin;
    auto counts = std::make_shared<int>(0);
    auto alone = plugin->attach_own_object_to_host(counts);
    ASSERT_TRUE(alone);
    {
        const auto beside = host::event.attach(&count);
        counted = 0;
        host::fire(1);
        EXPECT_EQ(*counts, 1);
        plugin.unload();
        EXPECT_EQ(counts.use_count(), 1) << "the callable outlives its code";
        EXPECT_FALSE(alone->is_attached());
        host::fire(1);
        EXPECT_EQ(*counts, 1);
        EXPECT_EQ(counted, 2);
    }
    EXPECT_TRUE(alone->detach());
}

TEST_F(Dso, APatternWhoseCallbackLeavesIsDetached) {
    Plugin plugin;
    auto counts = std::make_shared<int>(0);
    auto pattern = plugin->subscribe_to_host(counts);
    ASSERT_TRUE(pattern);
    host::fire(1);
    EXPECT_EQ(*counts, 1);
    plugin.unload();
    EXPECT_EQ(counts.use_count(), 1) << "the callable outlives its code";
    EXPECT_EQ(pattern->size(), 0u);
    host::fire(1);
    EXPECT_EQ(*counts, 1);
    const Plugin again;  // arrives without being attached to
    EXPECT_EQ(pattern->size(), 0u);
    EXPECT_TRUE(pattern->detach());
}

TEST_F(Dso, APatternIsAttachedOnceToWhatArrivesWhileItSubscribes) {
    std::atomic<bool> stop{false};
    std::thread loader([&] {
        while (!stop) const Plugin plugin;
    });
    for (int i = 0; i < test::rounds(300); ++i) {
        auto pattern = subscribe("plugin::*", [](const TraceEvent&) {});
        ASSERT_TRUE(pattern);
        std::this_thread::yield();
        EXPECT_EQ(pattern->missed(), 0u);
    }
    stop = true;
    loader.join();
}

TEST_F(Dso, APatternReachesItsTracepointsFromItsFirstConstructorOn) {
    std::vector<std::string> events;
    auto all = subscribe("plugin::*", [&](const TraceEvent& event) { events.push_back(event.text()); });
    ASSERT_TRUE(all);
    for (int i = 0; i < 3; ++i) {
        const Plugin plugin;
        EXPECT_EQ(all->size(), 1u);
        plugin->fire_own(i);
    }
    EXPECT_EQ(all->size(), 0u);
    EXPECT_EQ(all->missed(), 0u);
    ASSERT_EQ(events.size(), 6u);
    EXPECT_EQ(events[0], "plugin::event(-1)") << "the one of its constructor";
    EXPECT_EQ(events[5], "plugin::event(2)");
}

TEST_F(Dso, AHundredComingsAndGoingsUnderEventsLeaveNothingBehind) {
    std::atomic<bool> stop{false};
    std::atomic<long> events{0};
    auto all = subscribe("*::event", [&](const TraceEvent&) { ++events; });
    std::thread fires([&] {
        while (!stop) host::fire(1);
    });
    for (int i = 0; i < test::rounds(100) || events <= 100; ++i) {
        const Plugin plugin;
        auto a = plugin->attach_to_own(&count);
        auto b = plugin->attach_own_object_to_host(std::make_shared<int>());
        ASSERT_TRUE(a && b && host::key.increment());
        plugin->fire_own(1);
        ASSERT_TRUE(host::key.decrement());
    }
    stop = true;
    fires.join();
}

}  // namespace
}  // namespace dynfunc
