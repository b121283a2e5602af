// SPDX-License-Identifier: MIT
// Nothing in the library installs a signal handler but for strict updates and probes: the kernel's own account of this process
// says so.
#include <gtest/gtest.h>
#include <dynfunc/dynfunc.hpp>
#include <dynfunc/grace_period.hpp>
#include <dynfunc/introspect.hpp>
#include <dynfunc/strict_updates.hpp>

#include <fstream>
#include <string>

#include "surroundings.hpp"

namespace signals {
int one(int) { return 1; }
int two(int) { return 2; }
DYNFUNC(function, int(int), &one);
}  // namespace signals

namespace dynfunc {
namespace {

// The bit set of signals that this process catches, as the kernel knows it.
std::string caught_signals() {
    std::ifstream status("/proc/self/status");
    for (std::string line; std::getline(status, line);)
        if (line.starts_with("SigCgt:")) return line.substr(line.find_first_not_of("\t ", 7));
    return "no SigCgt line";
}

TEST(Signals, NoHandlerIsInstalledByStartRetargetAndSynchronize) {
    if (test::emulated) GTEST_SKIP() << "the emulator's handlers are the process's";
    if (test::address_sanitizer || test::thread_sanitizer) GTEST_SKIP() << "the sanitizer installs handlers of its own";
    EXPECT_EQ(signals::function(0), 1);
    ASSERT_TRUE(signals::function.retarget(&signals::two));
    ASSERT_TRUE(retarget_all({signals::function.to(&signals::one)}));
    synchronize();
    static_cast<void>(functions());
    const char* const expected = updates_are_strict() ? "0000000000000010" : "0000000000000000";  // SIGTRAP
    EXPECT_EQ(caught_signals(), expected) << capabilities().text();
}

}  // namespace
}  // namespace dynfunc
