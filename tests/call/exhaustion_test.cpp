// SPDX-License-Identifier: MIT
// No memory, or no room for another mapping: a clear error, and nothing half-done.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <dynfunc/dynfunc.hpp>
#include <dynfunc/introspect.hpp>

#include "child.hpp"
#include "surroundings.hpp"

namespace exhaustion {
int one(int) { return 1; }
int two(int) { return 2; }
DYNFUNC(a, int(int), &one);
DYNFUNC(b, int(int), &one);
}  // namespace exhaustion

namespace dynfunc {
namespace {

using namespace exhaustion;

class Exhaustion : public testing::Test {
protected:
    void SetUp() override {
        if (test::address_sanitizer || test::thread_sanitizer) GTEST_SKIP() << "the sanitizer needs memory itself";
        if (test::emulated) GTEST_SKIP() << "the emulator needs memory itself";
    }
    // From here on no mapping of this process can be made.
    static void exhaust() {
        const rlimit none{0, 0};
        setrlimit(RLIMIT_AS, &none);
    }
    static bool is_refused(const Result<void>& done) {
        return !done && done.error().code == Errc::out_of_memory && a(0) == 1 && b(0) == 1 && a.target() == &one;
    }
};

TEST_F(Exhaustion, AtTheFirstRetargetIsAnErrorThatChangesNothing) {
    EXPECT_EQ(test::in_child([] {
                  exhaust();  // the update's own arrays are not there yet
                  return is_refused(a.retarget(&two)) && is_refused(retarget_all({a.to(&two), b.to(&two)})) ? 0 : 1;
              }).status,
              0);
}

TEST_F(Exhaustion, ALaterRetargetSucceedsWhereItNeedsNoMappingAndIsAnErrorWhereItDoes) {
    EXPECT_EQ(test::in_child([] {
                  if (!retarget_all({a.to(&one), b.to(&one)})) return 1;
                  exhaust();
                  const auto done = a.retarget(&two);
                  if (capabilities().writer == TextWriter::memory_file) return is_refused(done) ? 0 : 2;
                  return done && a(0) == 2 ? 0 : 3;
              }).status,
              0);
}

}  // namespace
}  // namespace dynfunc
