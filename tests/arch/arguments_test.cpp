// SPDX-License-Identifier: MIT
// Where the compiler says that arguments are passed, against where the conventions say so: System V for x86-64, AAPCS64.
#include "arguments.hpp"

#include <gtest/gtest.h>

#include "chain_callees.hpp"

namespace dynfunc::arch::test {
namespace {

enum Machine { x86, arm64 };
constexpr Machine machine = DYNFUNC_ARCH;

struct Most {
    std::uint64_t word[detail::most_argument_words / 2];
};

struct Expected {
    detail::ArgumentPlaces places;
    ArgumentLayout layout;
};
struct Case {
    const char* what;
    detail::ArgumentPlaces places;
    Expected expected[2];  // by machine
};

constexpr bool in_register = true, on_stack = false;

template <class... A>
Case both(const char* what, Expected expected) {
    return {what, detail::argument_places<A...>(), {expected, expected}};
}

template <class... A>
Case each(const char* what, Expected on_x86, Expected on_arm64) {
    return {what, detail::argument_places<A...>(), {on_x86, on_arm64}};
}

// Places are data, behind, vector; layouts integers, vectors, where data is, stack words.
std::vector<Case> cases() {
    using Int = int;
    using std::string_view;
    return {
        both<>("nothing", {{0, 15, 0}, {0, 0, in_register, 0}}),
        both<std::uint64_t>("an integer", {{1, 16, 0}, {1, 0, in_register, 0}}),
        both<bool, char, short>("small integers", {{3, 18, 0}, {3, 0, in_register, 0}}),
        both<double>("a double", {{0, 15, 1}, {0, 1, in_register, 0}}),
        both<Int, double, Int, float>("numbers of both kinds", {{2, 17, 2}, {2, 2, in_register, 0}}),
        both<string_view>("a struct of two words", {{2, 17, 0}, {2, 0, in_register, 0}}),
        both<Point>("a struct of two doubles", {{0, 15, 2}, {0, 2, in_register, 0}}),
        both<Triple>("a struct of three bytes", {{1, 16, 0}, {1, 0, in_register, 0}}),
        both<Wide>("an integer of two words", {{2, 17, 0}, {2, 0, in_register, 0}}),
        both<int&, const Forty&, double&>("references", {{3, 18, 0}, {3, 0, in_register, 0}}),
        both<double, double, double, double, double, double, double, double, double>(  //
            "a double too many", {{0, 16, 9}, {0, 8, in_register, 1}}),
        both<double, double, double, double, double, double, double, double, Point>("a struct of doubles too many",
                                                                                    {{0, 17, 10}, {0, 8, in_register, 2}}),

        each<Int, Int, Int, Int, Int, Int>("six integers",  //
                                           {{6, 21, 0}, {6, 0, on_stack, 0}}, {{6, 21, 0}, {6, 0, in_register, 0}}),
        each<Int, Int, Int, Int, Int, Int, Int, Int>("eight integers",  //
                                                     {{8, 23, 0}, {6, 0, on_stack, 2}}, {{8, 23, 0}, {8, 0, on_stack, 0}}),
        each<Int, Int, Int, Int, Int, Int, Int, Int, Int, Int, Int, Int, Int, Int, Int, Int>(
            "sixteen integers", {{16, 31, 0}, {6, 0, on_stack, 10}}, {{16, 31, 0}, {8, 0, on_stack, 8}}),
        each<Mixed>("a struct of a mixed and a double word",  //
                    {{1, 16, 1}, {1, 1, in_register, 0}}, {{2, 17, 0}, {2, 0, in_register, 0}}),
        each<Forty>("a struct of five words: on the stack; by address",  //
                    {{0, 20, 0}, {0, 0, in_register, 5}}, {{1, 16, 0}, {1, 0, in_register, 0}}),
        each<long double>("a long double: on the stack; in a register",  //
                          {{0, 17, 0}, {0, 0, in_register, 2}}, {{0, 15, 1}, {0, 1, in_register, 0}}),
        each<Int, Wide>("two words: the next registers; the next even one",  //
                        {{3, 18, 0}, {3, 0, in_register, 0}}, {{4, 19, 0}, {4, 0, in_register, 0}}),
        each<Int, Int, Int, Int, Int, string_view>("a struct that one register is left for; that fits",  //
                                                   {{5, 22, 0}, {5, 0, in_register, 2}}, {{7, 22, 0}, {7, 0, in_register, 0}}),
        each<Int, Int, Int, Int, Int, Int, Int, string_view>("none is left; one is left, which stays empty",
                                                             {{9, 24, 0}, {6, 0, on_stack, 3}},
                                                             {{10, 25, 0}, {8, 0, on_stack, 2}}),
        each<Int, Int, Int, Int, Int, Int, Int, long double>(
            "a hole of one word on the stack; none", {{10, 25, 0}, {6, 0, on_stack, 4}}, {{7, 22, 1}, {7, 1, in_register, 0}}),
        each<double, double, double, double, double, double, double, Point>("a register is left, for the next double; for none",
                                                                            {{0, 17, 7}, {0, 7, in_register, 2}},
                                                                            {{0, 17, 10}, {0, 8, in_register, 2}}),
        // The largest there may be: the measurement itself runs out of nothing.
        each<Most>("all bytes in one struct", {{0, 47, 0}, {0, 0, in_register, 32}}, {{1, 16, 0}, {1, 0, in_register, 0}}),
        each<Wide, Wide, Wide, Wide, Wide, Wide, Wide, Wide, Wide, Wide, Wide, Wide, Wide, Wide, Wide, Wide>(
            "all bytes in sixteen integers", {{32, 47, 0}, {6, 0, on_stack, 26}}, {{32, 47, 0}, {8, 0, on_stack, 24}}),
    };
}

std::string text(const detail::ArgumentPlaces& places) {
    return "data " + std::to_string(places.data) + ", behind " + std::to_string(places.behind) + ", vector " +
           std::to_string(places.vector);
}

TEST(ArgumentPlaces, AreThoseOfTheConvention) {
    for (const Case& one : cases()) EXPECT_EQ(text(one.places), text(one.expected[machine].places)) << one.what;
}

TEST(ArgumentLayout, FollowsFromThePlaces) {
    for (const Case& one : cases()) {
        SCOPED_TRACE(one.what);
        const ArgumentLayout is = argument_layout(one.expected[machine].places), should = one.expected[machine].layout;
        EXPECT_EQ(is.integers, should.integers);
        EXPECT_EQ(is.vectors, should.vectors);
        EXPECT_EQ(is.data_in_register, should.data_in_register);
        EXPECT_EQ(is.stack_words, should.stack_words);
    }
}

}  // namespace
}  // namespace dynfunc::arch::test
