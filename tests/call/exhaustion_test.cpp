// SPDX-License-Identifier: MIT
// No memory, or no room for another mapping: a clear error, and nothing half-done.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <dynfunc/call_sites.hpp>
#include <dynfunc/dynfunc.hpp>
#include <dynfunc/introspect.hpp>
#include <dynfunc/strict_updates.hpp>

#include "child.hpp"
#include "surroundings.hpp"

namespace exhaustion {
int one(int) { return 1; }
int two(int) { return 2; }
DYNFUNC(a, int(int), &one);
DYNFUNC(b, int(int), &one);

// More functions than fit the arrays that every process has.
#define DYNFUNC_TEST_4(name)          \
    DYNFUNC(name##0, int(int), &one); \
    DYNFUNC(name##1, int(int), &one); \
    DYNFUNC(name##2, int(int), &one); \
    DYNFUNC(name##3, int(int), &one)
#define DYNFUNC_TEST_16(name) \
    DYNFUNC_TEST_4(name##0);  \
    DYNFUNC_TEST_4(name##1);  \
    DYNFUNC_TEST_4(name##2);  \
    DYNFUNC_TEST_4(name##3)
#define DYNFUNC_TEST_64(name) \
    DYNFUNC_TEST_16(name##0); \
    DYNFUNC_TEST_16(name##1); \
    DYNFUNC_TEST_16(name##2); \
    DYNFUNC_TEST_16(name##3)
DYNFUNC_TEST_64(many0);
DYNFUNC_TEST_64(many1);
DYNFUNC_TEST_64(many2);
DYNFUNC_TEST_64(many3);
#define DYNFUNC_TEST_TO(name) name.to(&two)
#define DYNFUNC_TEST_TO_4(name) \
    DYNFUNC_TEST_TO(name##0), DYNFUNC_TEST_TO(name##1), DYNFUNC_TEST_TO(name##2), DYNFUNC_TEST_TO(name##3)
#define DYNFUNC_TEST_TO_16(name) \
    DYNFUNC_TEST_TO_4(name##0), DYNFUNC_TEST_TO_4(name##1), DYNFUNC_TEST_TO_4(name##2), DYNFUNC_TEST_TO_4(name##3)
#define DYNFUNC_TEST_TO_64(name) \
    DYNFUNC_TEST_TO_16(name##0), DYNFUNC_TEST_TO_16(name##1), DYNFUNC_TEST_TO_16(name##2), DYNFUNC_TEST_TO_16(name##3)
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

// What is registered has the memory to be changed, one by one.
TEST_F(Exhaustion, ARetargetOfOneFunctionNeedsNoMemory) {
    EXPECT_EQ(test::in_child([] {
                  exhaust();
                  const auto done = a.retarget(&two);
                  // Its page is to be made; the table of what threads that trap do instead.
                  if (capabilities().writer == TextWriter::memory_file || updates_are_strict()) return is_refused(done) ? 0 : 1;
                  return done && a(0) == 2 ? 0 : 2;
              }).status,
              0);
}

TEST_F(Exhaustion, ALargeBatchIsRefusedAndChangesNothing) {
    EXPECT_EQ(test::in_child([] {
                  const Retarget batch[] = {DYNFUNC_TEST_TO_64(many0), DYNFUNC_TEST_TO_64(many1), DYNFUNC_TEST_TO_64(many2),
                                            DYNFUNC_TEST_TO_64(many3)};
                  exhaust();
                  return is_refused(retarget_all(batch)) && many0000(0) == 1 && many3333(0) == 1 ? 0 : 1;
              }).status,
              0);
}

// A moment without memory is not for ever.
TEST_F(Exhaustion, CallSitesAreLookedForOnceThereIsMemory) {
    if (*call_site_patching().reason != '\0') GTEST_SKIP() << call_site_patching().reason;
    if (call_site_patching().when == CallSites::always) GTEST_SKIP() << "they were looked for when the process began";
    EXPECT_EQ(test::in_child([] {
                  rlimit before;
                  getrlimit(RLIMIT_AS, &before);
                  const rlimit none{0, before.rlim_max};
                  setrlimit(RLIMIT_AS, &none);
                  const auto refused = set_call_sites(CallSites::always);
                  if (refused || refused.error().code != Errc::out_of_memory) return 1;
                  if (call_site_patching().when == CallSites::always) return 2;
                  setrlimit(RLIMIT_AS, &before);
                  if (!set_call_sites(CallSites::always)) return 3;
                  return objects().at(0).text_bytes != 0 && *objects().at(0).reason == '\0' ? 0 : 4;
              }).status,
              0);
}

}  // namespace
}  // namespace dynfunc
