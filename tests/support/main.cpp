// SPDX-License-Identifier: MIT
// The main function of every suite: after each test it asserts what must hold whatever the test did.
#include <gtest/gtest.h>
#include <dynfunc/capabilities.hpp>
#include <dynfunc/strict_updates.hpp>

#include <csignal>
#include <cstdio>

#include "address_space.hpp"
#include "surroundings.hpp"

namespace {

// Taken before main and before any test; the library's own start-up is in it only if it ran first, so it is compared with the
// dispositions that the test runner was started with as well (call/signals_test.cpp).
const auto dispositions_at_start = dynfunc::test::SignalDispositions::now();

class Invariants : public testing::EmptyTestEventListener {
    void OnTestEnd(const testing::TestInfo&) override {
        EXPECT_EQ(dynfunc::test::writable_code(), "") << "a page is writable and executable";
        if (dynfunc::test::thread_sanitizer) return;  // it answers sigaction() itself
        if (dynfunc::updates_are_strict()) dynfunc::test::signal_that_may_change = SIGTRAP;
        EXPECT_EQ(dynfunc::test::SignalDispositions::now().difference(dispositions_at_start), 0)
            << "a signal's disposition changed";
    }
};

}  // namespace

int main(int argc, char** argv) {
    testing::InitGoogleTest(&argc, argv);
    testing::UnitTest::GetInstance()->listeners().Append(new Invariants);
    std::printf("dynfunc: %s\n", dynfunc::capabilities().text().c_str());
    return RUN_ALL_TESTS();
}
