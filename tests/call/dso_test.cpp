// SPDX-License-Identifier: MIT
// Shared objects that come and go with live dynamic functions. DYNFUNC_TEST_PLUGIN names the plug-in.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <dynfunc/grace_period.hpp>
#include <dynfunc/introspect.hpp>

#include <atomic>
#include <thread>

#include "address_space.hpp"
#include "plugin.hpp"

namespace host {
int one(int) { return 1; }
int two(int) { return 2; }
DYNFUNC(function, int(int), &one);
}  // namespace host

namespace dynfunc {
namespace {

class Plugin {
public:
    Plugin() : handle_(dlopen(DYNFUNC_TEST_PLUGIN, RTLD_NOW | RTLD_LOCAL)) {
        if (handle_ == nullptr) throw std::runtime_error(dlerror());
        interface_ = static_cast<const plugin::Interface*>(dlsym(handle_, "plugin_interface"));
    }
    ~Plugin() { unload(); }
    const plugin::Interface* operator->() const { return interface_; }
    void unload() {
        if (handle_ == nullptr) return;
        dlclose(handle_);
        handle_ = nullptr;
        EXPECT_EQ(dlopen(DYNFUNC_TEST_PLUGIN, RTLD_NOW | RTLD_NOLOAD), nullptr) << "something keeps the plug-in loaded";
    }

private:
    void* handle_;
    const plugin::Interface* interface_ = nullptr;
};

class Dso : public testing::Test {
protected:
    void TearDown() override {
        ASSERT_TRUE(host::function.retarget(&host::one));
        EXPECT_EQ(test::writable_code(), "");
    }
};

TEST_F(Dso, CallsItsOwnFunctionsAndTheProgramsFromItsFirstConstructorOn) {
    const Plugin plugin;
    EXPECT_EQ(*plugin->in_constructor, 11);
    EXPECT_EQ(plugin->call_own(4), 40);
    EXPECT_EQ(plugin->call_host(4), 1);
}

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
        for (int i = 0; !stop; ++i)
            if (!host::function.retarget(i % 2 == 0 ? &host::one : &host::two)) ++wrong;
    });
    for (int i = 0; i < 200; ++i) {
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

}  // namespace
}  // namespace dynfunc
