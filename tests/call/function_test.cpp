// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>
#include <dynfunc/dynfunc.hpp>
#include <dynfunc/introspect.hpp>

#include <array>
#include <atomic>
#include <complex>
#include <cstdarg>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "address_space.hpp"

namespace functions {

int plus_one(int x) { return x + 1; }
int plus_two(int x) { return x + 2; }

DYNFUNC(one, int(int), &plus_one);
DYNFUNC(other, int(int), &plus_one);
DYNFUNC(third, int(int), &plus_one);

namespace inner {
DYNFUNC_DECLARE(one, int(int));
DYNFUNC(one, int(int), &plus_two);
}  // namespace inner

class Codec {
public:
    static int decode(int x) { return decode_(x); }
    static auto retarget(int (*f)(int)) { return decode_.retarget(f); }

private:
    DYNFUNC_DECLARE_STATIC(decode_, int(int));
};
DYNFUNC_DEFINE_STATIC(Codec::decode_, int(int), &plus_one);

struct Large {
    std::array<long, 20> values;
    std::string name;
};

Large tag(Large large, const char* name) {
    large.name = name;
    return large;
}
std::unique_ptr<int> twice(std::unique_ptr<int> p) {
    *p *= 2;
    return p;
}
int sixteen(int a, double b, char c, long d, float e, short f, unsigned g, long double h, int i, int j, int k, double l, int m,
            int n, int o, long double p) {
    return static_cast<int>(a + b + c + static_cast<double>(d) + e + f + g + static_cast<double>(h) + i + j + k + l + m + n +
                            o + static_cast<double>(p));
}
int& first_of(std::vector<int>& v) { return v[0]; }
int sum(int count, ...) {
    va_list rest;
    va_start(rest, count);
    int total = 0;
    for (int i = 0; i < count; ++i) total += va_arg(rest, int);
    va_end(rest);
    return total;
}
double average(double a, float b, long double c) noexcept {
    return static_cast<double>((a + static_cast<double>(b) + static_cast<double>(c)) / 3);
}
[[noreturn]] int thrower(int x) { throw std::to_string(x); }

DYNFUNC(none, int(), [] { return 42; });
DYNFUNC(large, Large(Large, const char*), &tag);
DYNFUNC(moved, std::unique_ptr<int>(std::unique_ptr<int>), &twice);
DYNFUNC(many,
        int(int, double, char, long, float, short, unsigned, long double, int, int, int, double, int, int, int, long double),
        &sixteen);
DYNFUNC(reference, int&(std::vector<int>&), &first_of);
DYNFUNC(variadic, int(int, ...), &sum);
DYNFUNC(quiet, double(double, float, long double) noexcept, &average);
DYNFUNC(complex, std::complex<double>(std::complex<double>), [](std::complex<double> z) { return z * z; });
DYNFUNC(empty_text, std::string(int), nullptr);
DYNFUNC(empty_void, void(int&), nullptr);
DYNFUNC(throwing, int(int), &thrower);

int called_before_main = one(40);
bool retargeted_before_main = [] {
    const bool done = third.retarget(&plus_two).has_value();
    return done && third(1) == 3;
}();

}  // namespace functions

namespace dynfunc {
namespace {

using namespace functions;

// Every retarget of this file goes through here: it must succeed, and leave no page writable and executable.
template <class F, class Target>
void retarget(F& function, Target target) {
    const auto done = function.retarget(target);
    ASSERT_TRUE(done) << done.error().message();
    ASSERT_EQ(test::writable_code(), "");
}

TEST(Function, CallsItsDefaultAtStart) {
    EXPECT_EQ(other(1), 2);
    EXPECT_EQ(other.target(), &plus_one);
}

TEST(Function, CallsTheTargetItWasGiven) {
    retarget(one, &plus_two);
    EXPECT_EQ(one(1), 3);
    EXPECT_EQ(one.target(), &plus_two);
    retarget(one, &plus_one);
    EXPECT_EQ(one(1), 2);
}

TEST(Function, WorksBeforeMain) {
    EXPECT_EQ(called_before_main, 41);
    EXPECT_TRUE(retargeted_before_main);
}

TEST(Function, TheSameNameInTwoNamespacesIsTwoFunctions) {
    retarget(inner::one, &plus_one);
    EXPECT_EQ(inner::one(1), 2);
    retarget(inner::one, &plus_two);
    EXPECT_EQ(inner::one(1), 3);
    EXPECT_EQ(one(1), 2);
}

TEST(Function, MayBeAPrivateStaticMember) {
    EXPECT_EQ(Codec::decode(1), 2);
    ASSERT_TRUE(Codec::retarget(&plus_two));
    EXPECT_EQ(Codec::decode(1), 3);
    ASSERT_TRUE(Codec::retarget(&plus_one));
}

TEST(Function, AcceptsALambdaWithoutCaptures) {
    retarget(one, [](int x) { return x * 100; });
    EXPECT_EQ(one(2), 200);
    retarget(one, &plus_one);
}

TEST(Function, PassesEveryKindOfArgumentAndResult) {
    EXPECT_EQ(none(), 42);
    const Large result = large(Large{{1, 2, 3}, ""}, "name");
    EXPECT_EQ(result.values[2], 3);
    EXPECT_EQ(result.name, "name");
    EXPECT_EQ(*moved(std::make_unique<int>(21)), 42);
    EXPECT_EQ(many(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16), 136);
    std::vector<int> v{7};
    reference(v) = 8;
    EXPECT_EQ(v[0], 8);
    EXPECT_EQ(variadic(3, 1, 2, 3), 6);
    EXPECT_DOUBLE_EQ(quiet(1, 2, 3), 2);
    static_assert(noexcept(quiet(1, 2, 3)));
    static_assert(!noexcept(one(1)));
    EXPECT_EQ(complex({0, 1}), std::complex<double>(-1, 0));
}

TEST(Function, ExceptionsPassThroughIt) {
    try {
        throwing(5);
        FAIL();
    } catch (const std::string& text) {
        EXPECT_EQ(text, "5");
    }
}

TEST(Function, ANullTargetDoesNothingAndReturnsAValueInitialisedResult) {
    EXPECT_EQ(empty_text(1), "");
    int value = 1;
    empty_void(value);
    EXPECT_EQ(value, 1);
    EXPECT_EQ(empty_void.target(), nullptr);
    retarget(empty_void, [](int& x) { x = 2; });
    empty_void(value);
    EXPECT_EQ(value, 2);
    retarget(empty_void, nullptr);
    empty_void(value = 3);
    EXPECT_EQ(value, 3);
    retarget(one, nullptr);
    EXPECT_EQ(one(9), 0);
    EXPECT_EQ(one.target(), nullptr);
    retarget(one, &plus_one);
    EXPECT_EQ(one(9), 10);
}

TEST(Function, EvaluatesTheArgumentsOfANullTarget) {
    int evaluated = 0;
    EXPECT_EQ(empty_text(++evaluated), "");
    EXPECT_EQ(evaluated, 1);
}

TEST(Function, ANullTargetIsRefusedWhereThereIsNoResultToReturn) {
    const auto done = reference.retarget(static_cast<decltype(reference)::Pointer>(nullptr));
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().code, Errc::no_null_target);
    std::vector<int> v{7};
    EXPECT_EQ(reference(v), 7);
}

TEST(RetargetAll, RedirectsEveryElement) {
    ASSERT_TRUE(retarget_all({one.to(&plus_two), other.to(&plus_two)}));
    EXPECT_EQ(one(1), 3);
    EXPECT_EQ(other(1), 3);
    ASSERT_TRUE(retarget_all({one.to(&plus_one), other.to(&plus_one)}));
    EXPECT_EQ(one(1), 2);
}

TEST(RetargetAll, RefusesAnEmptyBatch) {
    const auto done = retarget_all(std::span<const Retarget>{});
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().code, Errc::empty_batch);
}

TEST(RetargetAll, RefusesADuplicateAndChangesNothing) {
    const auto done = retarget_all({one.to(&plus_two), other.to(&plus_two), one.to(&plus_one)});
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().code, Errc::duplicate_in_batch);
    EXPECT_EQ(done.error().element, 2u);
    EXPECT_EQ(one(1), 2);
    EXPECT_EQ(other(1), 2);
    EXPECT_TRUE(retarget_all({one.to(&plus_one), other.to(&plus_one)})) << "the refused batch left its marks";
}

TEST(RetargetAll, RefusesAnEmptyElementAndChangesNothing) {
    const auto done = retarget_all({one.to(&plus_two), Retarget{}});
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().code, Errc::foreign_key);
    EXPECT_EQ(done.error().element, 1u);
    EXPECT_EQ(one(1), 2);
}

TEST(RetargetAll, RefusesANullThatIsNotAllowedAndChangesNothing) {
    const auto done = retarget_all({one.to(&plus_two), reference.to(nullptr)});
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().code, Errc::no_null_target);
    EXPECT_EQ(one(1), 2);
}

// Stands for a second copy of the library: its keys are owned by somebody else.
TEST(RetargetAll, RefusesAFunctionOfAnotherCopyOfTheLibrary) {
    auto& key = reinterpret_cast<detail::FunctionKey&>(third);
    const void* owner = std::exchange(key.identity.owner, &key);
    const auto done = retarget_all({one.to(&plus_two), third.to(&plus_one)});
    key.identity.owner = owner;
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().code, Errc::foreign_key);
    EXPECT_EQ(done.error().address, Address::of(&third));
    EXPECT_EQ(one(1), 2);
}

TEST(RetargetAll, RefusesAFunctionOfAnotherVersion) {
    auto& key = reinterpret_cast<detail::FunctionKey&>(third);
    ++key.identity.abi;
    const auto done = third.retarget(&plus_one);
    --key.identity.abi;
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().code, Errc::foreign_key);
}

TEST(Function, WhatWasWrittenBeforeRetargetIsSeenInTheTarget) {
    static std::atomic<int> data{0};  // relaxed: the thread sanitizer cannot see an order that patched text makes
    static std::atomic<bool> stop{false};
    static std::atomic<int> wrong{0};
    retarget(none, [] { return 0; });
    std::thread caller([] {
        while (!stop)
            if (const int seen = none(); seen != 0 && seen != 77) ++wrong;
    });
    data.store(77, std::memory_order_relaxed);
    retarget(none, [] { return data.load(std::memory_order_relaxed); });
    EXPECT_EQ(none(), 77);
    stop = true;
    caller.join();
    EXPECT_EQ(wrong, 0);
    retarget(none, [] { return 42; });
}

TEST(Introspect, ListsEveryFunctionWithWhatTheSourceSays) {
    const auto info = find_function("functions::inner::one");
    ASSERT_TRUE(info);
    EXPECT_EQ(info->signature, "int(int)");
    EXPECT_TRUE(info->file.ends_with("function_test.cpp"));
    EXPECT_GT(info->line, 0u);
    EXPECT_EQ(info->target, Address::of(&plus_two));
    EXPECT_EQ(info->default_target, Address::of(&plus_two));
    EXPECT_EQ(info->form, capabilities().form);
    const auto member = find_function("functions::Codec::decode_");
    ASSERT_TRUE(member);
    EXPECT_FALSE(find_function("functions::nothing"));
    EXPECT_GE(dynfunc::functions().size(), 15u);
}

TEST(Introspect, ShowsANullTargetAsNull) {
    const auto info = find_function("functions::empty_text");
    ASSERT_TRUE(info);
    EXPECT_FALSE(info->target);
    EXPECT_FALSE(info->default_target);
}

TEST(Introspect, TrampolinesHaveTheFormOfTheProcess) {
    const auto info = find_function("functions::one");
    ASSERT_TRUE(info);
    for (const TrampolineInfo& trampoline : info->trampolines) {
        EXPECT_EQ(trampoline.form, capabilities().form);
        EXPECT_EQ(*trampoline.reason == '\0', trampoline.form == Form::patched);
    }
    EXPECT_EQ(info->trampolines.size(), DYNFUNC_GENERIC_SITES ? 0u : 1u);
}

#if !DYNFUNC_GENERIC_SITES
// What unwinders and profilers need of a trampoline.
extern "C" const void* _Unwind_Find_FDE(const void* code, void* bases);

TEST(Trampoline, HasUnwindInformation) {
    void* bases[3];
    EXPECT_NE(_Unwind_Find_FDE(find_function("functions::one")->trampolines.at(0).code.as<const void*>(), bases), nullptr);
}

TEST(Trampoline, StaysOnAPageOfItsFile) {
    if (capabilities().writer == TextWriter::memory_file) GTEST_SKIP() << "this writer exchanges the page";
    retarget(one, &plus_two);
    retarget(one, &plus_one);
    EXPECT_NE(test::file_mapped_at(find_function("functions::one")->trampolines.at(0).code).find("function_test"),
              std::string::npos);
}
#endif

TEST(Capabilities, ALesserFormHasACause) {
    const Capabilities& found = capabilities();
    const bool best = found.form == Form::patched && found.writer == TextWriter::process_memory;
    EXPECT_EQ(found.refusals.empty(), best) << found.text();
    EXPECT_EQ(found.writer == TextWriter::none, found.form != Form::patched);
    EXPECT_FALSE(found.text().empty());
}

}  // namespace
}  // namespace dynfunc
