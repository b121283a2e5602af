// SPDX-License-Identifier: MIT
// One dynamic function per kind of signature, each called through its default target, another target and, where it may be,
// null.
#include <cstdarg>
#include <memory>
#include <string>
#include <utility>

#include "check.hpp"
#include "functions.hpp"

namespace kinds {

struct Large {
    long words[24];
};
struct Pair {  // half in an integer register, half in a vector register
    long whole;
    double part;
};

}  // namespace kinds

using kinds::Large;
using kinds::Pair;

namespace {

// 0 to 16 parameters: each target weighs its parameters by place, so that a lost or swapped one shows.
template <class... A>
long weighed(A... values) {
    long weight = 0, sum = 0;
    ((sum += ++weight * values), ...);
    return sum;
}
template <class... A>
long weighed_and_negated(A... values) {
    return -weighed(values...);
}

}  // namespace

namespace count {
DYNFUNC(p0, long(), &weighed);
DYNFUNC(p1, long(long), &weighed);
DYNFUNC(p2, long(long, long), &weighed);
DYNFUNC(p3, long(long, long, long), &weighed);
DYNFUNC(p4, long(long, long, long, long), &weighed);
DYNFUNC(p5, long(long, long, long, long, long), &weighed);
DYNFUNC(p6, long(long, long, long, long, long, long), &weighed);
DYNFUNC(p7, long(long, long, long, long, long, long, long), &weighed);
DYNFUNC(p8, long(long, long, long, long, long, long, long, long), &weighed);
DYNFUNC(p9, long(long, long, long, long, long, long, long, long, long), &weighed);
DYNFUNC(p10, long(long, long, long, long, long, long, long, long, long, long), &weighed);
DYNFUNC(p11, long(long, long, long, long, long, long, long, long, long, long, long), &weighed);
DYNFUNC(p12, long(long, long, long, long, long, long, long, long, long, long, long, long), &weighed);
DYNFUNC(p13, long(long, long, long, long, long, long, long, long, long, long, long, long, long), &weighed);
DYNFUNC(p14, long(long, long, long, long, long, long, long, long, long, long, long, long, long, long), &weighed);
DYNFUNC(p15, long(long, long, long, long, long, long, long, long, long, long, long, long, long, long, long), &weighed);
DYNFUNC(p16, long(long, long, long, long, long, long, long, long, long, long, long, long, long, long, long, long), &weighed);
}  // namespace count

// In registers of both kinds and on the stack, in one call.
using Mixed = double(char, double, long double, Large, float, const std::string&, double, int, double, double, double, double,
                     double, double, long, unsigned char);

namespace {

double mixed_sum(char a, double b, long double c, Large d, float e, const std::string& f, double g, int h, double i, double j,
                 double k, double l, double m, double n, long o, unsigned char p) {
    return a + b + static_cast<double>(c) + static_cast<double>(d.words[23]) + e + static_cast<double>(f.size()) + g + h + i +
           j + k + l + m + n + static_cast<double>(o) + p;
}
double mixed_last(char, double, long double, Large, float, const std::string&, double, int, double, double, double, double,
                  double, double, long o, unsigned char p) {
    return static_cast<double>(o) - p;
}

Large next_large(Large l) {
    for (long& word : l.words) ++word;
    return l;
}
Large reversed(Large l) {
    for (int i = 0; i < 12; ++i) std::swap(l.words[i], l.words[23 - i]);
    return l;
}
Pair swap_pair(Pair p) { return {static_cast<long>(p.part), static_cast<double>(p.whole)}; }
Pair same_pair(Pair p) { return p; }

int& first_of(int& a, int&) { return a; }
int& second_of(int&, int& b) { return b; }
std::string&& pass_on(std::string&& s) { return std::move(s); }

std::unique_ptr<int> keep(std::unique_ptr<int> p) { return p; }
std::unique_ptr<int> add_one(std::unique_ptr<int> p) {
    ++*p;
    return p;
}

long double scale(long double x, double by) { return x * by; }
long double divide(long double x, double by) { return x / by; }
float narrow(double x) noexcept { return static_cast<float>(x); }
float twice(double x) noexcept { return static_cast<float>(2 * x); }

std::string repeat(const std::string& s, int n) {
    std::string all;
    while (n-- > 0) all += s;
    return all;
}

int written = 0;
void write_1() { written = 1; }
void write_2() { written = 2; }

int sum_of(int n, ...) {
    va_list values;
    va_start(values, n);
    int sum = 0;
    for (int i = 0; i < n; ++i) sum += static_cast<int>(va_arg(values, double));
    va_end(values);
    return sum;
}

}  // namespace

namespace kinds {
DYNFUNC(mixed, Mixed, &mixed_sum);
DYNFUNC(large, Large(Large), &next_large);
DYNFUNC(pair, Pair(Pair), &swap_pair);
DYNFUNC(reference, int&(int&, int&), &first_of);
DYNFUNC(rvalue, std::string && (std::string &&), &pass_on);
DYNFUNC(move_only, std::unique_ptr<int>(std::unique_ptr<int>), &keep);
DYNFUNC(extended, long double(long double, double), &scale);
DYNFUNC(quiet, float(double) noexcept, &narrow);
DYNFUNC(text, std::string(const std::string&, int), nullptr);
DYNFUNC(action, void(), nullptr);
DYNFUNC(variadic, int(int, ...), &sum_of);
static_assert(noexcept(quiet(1.0)) && !noexcept(text({}, 1)));
}  // namespace kinds

namespace {

void check_counts() {
    using namespace count;
    CHECK(p0() == 0);
    CHECK(p1(3) == 3);
    CHECK(p2(3, 4) == 11);
    CHECK(p3(3, 4, 7) == 32);
    CHECK(p4(3, 4, 7, 12) == 80);
    CHECK(p5(3, 4, 7, 12, 19) == 175);
    CHECK(p6(3, 4, 7, 12, 19, 28) == 343);
    CHECK(p7(3, 4, 7, 12, 19, 28, 39) == 616);
    CHECK(p8(3, 4, 7, 12, 19, 28, 39, 52) == 1032);
    CHECK(p9(3, 4, 7, 12, 19, 28, 39, 52, 67) == 1635);
    CHECK(p10(3, 4, 7, 12, 19, 28, 39, 52, 67, 84) == 2475);
    CHECK(p11(3, 4, 7, 12, 19, 28, 39, 52, 67, 84, 103) == 3608);
    CHECK(p12(3, 4, 7, 12, 19, 28, 39, 52, 67, 84, 103, 124) == 5096);
    CHECK(p13(3, 4, 7, 12, 19, 28, 39, 52, 67, 84, 103, 124, 147) == 7007);
    CHECK(p14(3, 4, 7, 12, 19, 28, 39, 52, 67, 84, 103, 124, 147, 172) == 9415);
    CHECK(p15(3, 4, 7, 12, 19, 28, 39, 52, 67, 84, 103, 124, 147, 172, 199) == 12400);
    CHECK(p16(3, 4, 7, 12, 19, 28, 39, 52, 67, 84, 103, 124, 147, 172, 199, 228) == 16048);
    CHECK(p0.retarget(&weighed_and_negated));
    CHECK(p1.retarget(&weighed_and_negated));
    CHECK(p2.retarget(&weighed_and_negated));
    CHECK(p3.retarget(&weighed_and_negated));
    CHECK(p4.retarget(&weighed_and_negated));
    CHECK(p5.retarget(&weighed_and_negated));
    CHECK(p6.retarget(&weighed_and_negated));
    CHECK(p7.retarget(&weighed_and_negated));
    CHECK(p8.retarget(&weighed_and_negated));
    CHECK(p9.retarget(&weighed_and_negated));
    CHECK(p10.retarget(&weighed_and_negated));
    CHECK(p11.retarget(&weighed_and_negated));
    CHECK(p12.retarget(&weighed_and_negated));
    CHECK(p13.retarget(&weighed_and_negated));
    CHECK(p14.retarget(&weighed_and_negated));
    CHECK(p15.retarget(&weighed_and_negated));
    CHECK(p16.retarget(&weighed_and_negated));
    CHECK(p0() == 0);
    CHECK(p1(3) == -3);
    CHECK(p2(3, 4) == -11);
    CHECK(p3(3, 4, 7) == -32);
    CHECK(p4(3, 4, 7, 12) == -80);
    CHECK(p5(3, 4, 7, 12, 19) == -175);
    CHECK(p6(3, 4, 7, 12, 19, 28) == -343);
    CHECK(p7(3, 4, 7, 12, 19, 28, 39) == -616);
    CHECK(p8(3, 4, 7, 12, 19, 28, 39, 52) == -1032);
    CHECK(p9(3, 4, 7, 12, 19, 28, 39, 52, 67) == -1635);
    CHECK(p10(3, 4, 7, 12, 19, 28, 39, 52, 67, 84) == -2475);
    CHECK(p11(3, 4, 7, 12, 19, 28, 39, 52, 67, 84, 103) == -3608);
    CHECK(p12(3, 4, 7, 12, 19, 28, 39, 52, 67, 84, 103, 124) == -5096);
    CHECK(p13(3, 4, 7, 12, 19, 28, 39, 52, 67, 84, 103, 124, 147) == -7007);
    CHECK(p14(3, 4, 7, 12, 19, 28, 39, 52, 67, 84, 103, 124, 147, 172) == -9415);
    CHECK(p15(3, 4, 7, 12, 19, 28, 39, 52, 67, 84, 103, 124, 147, 172, 199) == -12400);
    CHECK(p16(3, 4, 7, 12, 19, 28, 39, 52, 67, 84, 103, 124, 147, 172, 199, 228) == -16048);
    CHECK(p0.retarget(nullptr));
    CHECK(p1.retarget(nullptr));
    CHECK(p2.retarget(nullptr));
    CHECK(p3.retarget(nullptr));
    CHECK(p4.retarget(nullptr));
    CHECK(p5.retarget(nullptr));
    CHECK(p6.retarget(nullptr));
    CHECK(p7.retarget(nullptr));
    CHECK(p8.retarget(nullptr));
    CHECK(p9.retarget(nullptr));
    CHECK(p10.retarget(nullptr));
    CHECK(p11.retarget(nullptr));
    CHECK(p12.retarget(nullptr));
    CHECK(p13.retarget(nullptr));
    CHECK(p14.retarget(nullptr));
    CHECK(p15.retarget(nullptr));
    CHECK(p16.retarget(nullptr));
    CHECK(p0() == 0);
    CHECK(p1(3) == 0);
    CHECK(p2(3, 4) == 0);
    CHECK(p3(3, 4, 7) == 0);
    CHECK(p4(3, 4, 7, 12) == 0);
    CHECK(p5(3, 4, 7, 12, 19) == 0);
    CHECK(p6(3, 4, 7, 12, 19, 28) == 0);
    CHECK(p7(3, 4, 7, 12, 19, 28, 39) == 0);
    CHECK(p8(3, 4, 7, 12, 19, 28, 39, 52) == 0);
    CHECK(p9(3, 4, 7, 12, 19, 28, 39, 52, 67) == 0);
    CHECK(p10(3, 4, 7, 12, 19, 28, 39, 52, 67, 84) == 0);
    CHECK(p11(3, 4, 7, 12, 19, 28, 39, 52, 67, 84, 103) == 0);
    CHECK(p12(3, 4, 7, 12, 19, 28, 39, 52, 67, 84, 103, 124) == 0);
    CHECK(p13(3, 4, 7, 12, 19, 28, 39, 52, 67, 84, 103, 124, 147) == 0);
    CHECK(p14(3, 4, 7, 12, 19, 28, 39, 52, 67, 84, 103, 124, 147, 172) == 0);
    CHECK(p15(3, 4, 7, 12, 19, 28, 39, 52, 67, 84, 103, 124, 147, 172, 199) == 0);
    CHECK(p16(3, 4, 7, 12, 19, 28, 39, 52, 67, 84, 103, 124, 147, 172, 199, 228) == 0);
}

void check_values() {
    using namespace kinds;
    Large l{};
    for (int i = 0; i < 24; ++i) l.words[i] = i;
    const auto call_mixed = [&l] { return mixed(1, 2, 3, l, 4, "four", 5, 6, 7, 8, 9, 10, 11, 12, 13, 14); };
    CHECK(call_mixed() == 132);
    CHECK(mixed.retarget(&mixed_last));
    CHECK(call_mixed() == -1);
    CHECK(mixed.retarget(nullptr));
    CHECK(call_mixed() == 0);

    CHECK(large(l).words[23] == 24);
    CHECK(large.retarget(&reversed));
    CHECK(large(l).words[0] == 23);
    CHECK(large(l).words[23] == 0);
    CHECK(large.retarget(nullptr));
    CHECK(large(l).words[23] == 0);

    CHECK(pair({3, 4.0}).whole == 4);
    CHECK(pair({3, 4.0}).part == 3.0);
    CHECK(pair.retarget(&same_pair));
    CHECK(pair({3, 4.0}).whole == 3);
    CHECK(pair.retarget(nullptr));
    CHECK(pair({3, 4.0}).whole == 0);

    CHECK(extended(1.5L, 4.0) == 6.0L);
    CHECK(extended.retarget(&divide));
    CHECK(extended(1.5L, 0.5) == 3.0L);
    CHECK(extended.retarget(nullptr));
    CHECK(extended(1.5L, 0.5) == 0.0L);

    CHECK(quiet(1.5) == 1.5f);
    CHECK(quiet.retarget(&twice));
    CHECK(quiet(1.5) == 3.0f);
    CHECK(quiet.retarget(nullptr));
    CHECK(quiet(1.5) == 0.0f);

    CHECK(variadic(3, 1.0, 2.0, 3.0) == 6);
    CHECK(variadic.retarget(nullptr));
    CHECK(variadic(3, 1.0, 2.0, 3.0) == 0);
}

void check_objects() {
    using namespace kinds;
    int a = 1, b = 2;
    CHECK(&reference(a, b) == &a);
    CHECK(reference.retarget(&second_of));
    CHECK(&reference(a, b) == &b);

    std::string passed = "a string that is too long for the short form";
    std::string&& same = rvalue(std::move(passed));
    CHECK(&same == &passed);

    CHECK(*move_only(std::make_unique<int>(5)) == 5);
    CHECK(move_only.retarget(&add_one));
    CHECK(*move_only(std::make_unique<int>(5)) == 6);
    CHECK(move_only.retarget(nullptr));
    CHECK(move_only(std::make_unique<int>(5)) == nullptr);

    CHECK(text("ab", 3).empty());
    CHECK(text.target() == nullptr);
    CHECK(text.retarget(&repeat));
    CHECK(text("ab", 3) == "ababab");
    CHECK(text.target() == &repeat);

    action();
    CHECK(written == 0);
    CHECK(action.retarget(&write_1));
    action();
    CHECK(written == 1);
    CHECK(dynfunc::retarget_all({action.to(&write_2), text.to(nullptr)}));
    action();
    CHECK(written == 2);
    CHECK(text("ab", 3).empty());
    CHECK(action.retarget(nullptr));
    written = 0;
    action();
    CHECK(written == 0);
    CHECK(action.retarget([] { written = 3; }));
    action();
    CHECK(written == 3);
}

}  // namespace

void check_signatures() {
    check_counts();
    check_values();
    check_objects();
}
