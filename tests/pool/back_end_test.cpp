// SPDX-License-Identifier: MIT
// Which back end a pool has, and the reason that it gives: whatever the environment, the C library and the kernel leave.
#include <dynfunc/object_pool.hpp>

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>

#include "child.hpp"
#include "pools.hpp"
#include "sequences.hpp"
#include "surroundings.hpp"

namespace dynfunc {
namespace {

std::string_view environment(const char* name) {
    const char* value = std::getenv(name);
    return value == nullptr ? "" : value;
}

PoolBackEnd best() { return sequence_support().refusal == nullptr ? PoolBackEnd::restartable : PoolBackEnd::tagged; }

TEST(PoolBackEnd, HaveNames) {
    EXPECT_STREQ(to_string(PoolBackEnd::restartable), "restartable");
    EXPECT_STREQ(to_string(PoolBackEnd::tagged), "tagged");
    EXPECT_STREQ(to_string(PoolBackEnd::single), "single");
}

TEST(PoolBackEnd, IsTheBestThereIsOrWhatTheEnvironmentSays) {
    const auto pool = test::make_pool<int>(10);
    const std::string_view asked = environment("DYNFUNC_POOL");
    const PoolBackEnd expected = asked == "tagged" ? PoolBackEnd::tagged : asked == "single" ? PoolBackEnd::single : best();
    EXPECT_EQ(pool.back_end(), expected);
    const std::string reason = pool.back_end_reason();
    if (expected == PoolBackEnd::restartable)
        EXPECT_EQ(reason, "");
    else if (asked == "tagged" || asked == "single")
        EXPECT_EQ(reason, "DYNFUNC_POOL=" + std::string(asked) + " asks for it");
    else
        EXPECT_EQ(reason, sequence_support().refusal);
}

// What stands in the way is known by how the suite was started.
TEST(PoolBackEnd, TheReasonNamesWhatStandsInTheWay) {
    const SequenceSupport& support = sequence_support();
    const std::string refusal = support.refusal == nullptr ? "" : support.refusal;
    if (DYNFUNC_GENERIC_SITES)
        EXPECT_EQ(refusal, "there are none for this machine, or in this build");
    else if (test::thread_sanitizer)
        EXPECT_NE(refusal.find("thread sanitizer"), std::string::npos) << refusal;
    else if (environment("GLIBC_TUNABLES") == "glibc.pthread.rseq=0")
        EXPECT_NE(refusal.find("glibc.pthread.rseq"), std::string::npos) << refusal;
    else if (environment("DYNFUNC_TEST_DENIED") == "membarrier") {
        if (refusal.find("C library") != std::string::npos) GTEST_SKIP() << refusal;
        EXPECT_NE(refusal.find("membarrier"), std::string::npos) << refusal;
        EXPECT_EQ(support.os_error, EPERM);
    } else if (test::emulated)
        EXPECT_NE(refusal.find("C library"), std::string::npos) << refusal;
    else
        std::printf("restartable sequences: %s\n", support.refusal == nullptr ? "yes" : support.refusal);
}

TEST(PoolBackEnd, TheProgramsChoiceGoesBeforeTheEnvironments) {
    for (const PoolBackEnd back_end : {PoolBackEnd::tagged, PoolBackEnd::single}) {
        const auto pool = test::make_pool<int>(10, back_end);
        EXPECT_EQ(pool.back_end(), back_end);
        EXPECT_STREQ(pool.back_end_reason(), "the program asks for it");
    }
}

TEST(PoolBackEnd, SequencesThatAreNotToBeHadAreAnError) {
    const auto pool =
        ObjectPool<int>::create({.capacity = 10, .checks = PoolChecks::off, .back_end = PoolBackEnd::restartable});
    if (best() == PoolBackEnd::restartable) {
        ASSERT_TRUE(pool);
        EXPECT_EQ(pool->back_end(), PoolBackEnd::restartable);
        EXPECT_STREQ(pool->back_end_reason(), "");
        return;
    }
    ASSERT_FALSE(pool);
    EXPECT_EQ(pool.error().code, Errc::no_sequences);
    EXPECT_EQ(pool.error().os_error, sequence_support().os_error);
    EXPECT_NE(pool.error().message().find("restartable sequences are not to be had"), std::string::npos);
}

TEST(PoolBackEnd, TheEnvironmentIsReadForEachPool) {
    EXPECT_EQ(test::in_child([] {
                  for (const char* word : {"single", "tagged"}) {
                      setenv("DYNFUNC_POOL", word, 1);
                      const auto pool = test::make_pool<int>(10);
                      if (to_string(pool.back_end()) != std::string_view(word)) return 1;
                      if (std::strstr(pool.back_end_reason(), word) == nullptr) return 2;
                  }
                  setenv("DYNFUNC_POOL", "restartable", 1);  // where there are none: no error
                  if (test::make_pool<int>(10).back_end() != best()) return 3;
                  unsetenv("DYNFUNC_POOL");
                  return test::make_pool<int>(10).back_end() == best() ? 42 : 4;
              }).status,
              42);
}

TEST(PoolBackEnd, AnUnknownWordInTheEnvironmentIsSaid) {
    EXPECT_EQ(test::in_child([] {
                  setenv("DYNFUNC_POOL", "fast", 1);
                  const auto pool = test::make_pool<int>(10);
                  if (pool.back_end() != best()) return 1;
                  const char* expected =
                      best() == PoolBackEnd::restartable ? "DYNFUNC_POOL is none of" : sequence_support().refusal;
                  return std::strstr(pool.back_end_reason(), expected) != nullptr ? 42 : 2;
              }).status,
              42);
}

TEST(PoolBackEnd, ChecksExcludeSequences) {
    const auto pool = ObjectPool<int>::create({.capacity = 10, .checks = PoolChecks::on});
    ASSERT_TRUE(pool);
    EXPECT_NE(pool->back_end(), PoolBackEnd::restartable);
    if (best() == PoolBackEnd::restartable && environment("DYNFUNC_POOL").empty()) {
        EXPECT_STREQ(pool->back_end_reason(), "pushes are checked");
    }
}

}  // namespace
}  // namespace dynfunc
