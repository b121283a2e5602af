// SPDX-License-Identifier: MIT
#include "return_functions.hpp"

#include <cstdarg>
#include <cstdio>
#include <stdexcept>
#include <utility>

namespace dynfunc::test {

extern "C" {

[[gnu::noinline]] std::uint64_t return_twice(std::uint64_t x) {
    asm volatile("" : "+r"(x));
    return 2 * x;
}
[[gnu::noinline]] std::uint64_t return_sum(std::uint64_t n) {
    std::uint64_t (*volatile self)(std::uint64_t) = &return_sum;
    if (n == 0) return 0;
    const std::uint64_t below = self(n - 1);
    asm volatile("" : : : "memory");
    return below + n;
}
[[gnu::noinline]] double return_half(double x) {
    asm volatile("" : "+x"(x));
    return x / 2;
}
[[gnu::noinline]] std::uint64_t return_around(Inside inside, void* data) {
    const std::uint64_t result = inside(data);
    asm volatile("" : : : "memory");
    return result + 1;
}
[[gnu::noinline]] std::uint64_t return_around_noexcept(Inside inside, void* data) noexcept {
    const std::uint64_t result = inside(data);
    asm volatile("" : : : "memory");
    return result + 1;
}
[[gnu::noinline]] std::uint64_t return_deep(std::uint64_t n, Inside inside, void* data) {
    std::uint64_t (*volatile self)(std::uint64_t, Inside, void*) = &return_deep;
    const std::uint64_t below = n == 0 ? inside(data) - 1 : self(n - 1, inside, data);
    asm volatile("" : : : "memory");
    return below + 1;
}

}  // extern "C"

namespace {

struct Counts {
    int& destroyed;
    bool throws_inside;
    ~Counts() {
        ++destroyed;
        if (!throws_inside) return;
        // Compilers make copies of functions in the same file for known arguments, which have no probe.
        static std::uint64_t (*volatile const call)(Inside, void*) = &return_around;
        const auto inner = [](void*) -> std::uint64_t { throw std::runtime_error("nested"); };
        const auto outer = [](void* function) -> std::uint64_t {
            try {
                call(reinterpret_cast<Inside>(function), nullptr);
            } catch (const std::runtime_error&) {
                return 5;
            }
            return 7;
        };
        if (call(outer, reinterpret_cast<void*>(+inner)) != 6) std::abort();
    }
};

template <std::size_t level>
[[gnu::noinline]] std::uint64_t link(Chain& chain);

template <std::size_t level>
std::uint64_t next(Chain& chain) {
    if constexpr (level + 1 < Chain::levels) {
        if (level + 1 < chain.depth) return Chain::functions[level + 1](chain) + 1;
    }
    return chain.inside(chain.data) + 1;
}

template <std::size_t level>
std::uint64_t link(Chain& chain) {
    const Counts object{chain.destroyed, chain.at[level] == Chain::At::throws_inside};
    switch (chain.at[level]) {
        case Chain::At::passes:
        case Chain::At::throws_inside:
            break;
        case Chain::At::rethrows:
            try {
                return next<level>(chain);
            } catch (...) {
                ++chain.caught;
                throw;
            }
        case Chain::At::catches:
            try {
                return next<level>(chain);
            } catch (...) {
                ++chain.caught;
                return 100;
            }
    }
    return next<level>(chain);
}

template <std::size_t... level>
constexpr std::array<Chain::Function, Chain::levels> all(std::index_sequence<level...>) {
    return {&link<level>...};
}

}  // namespace

constinit const std::array<Chain::Function, Chain::levels> Chain::functions = all(std::make_index_sequence<levels>());

TwoWords returns_two_words(std::uint64_t a, std::uint64_t b) { return {a + 1, b + 2}; }
TwoDoubles returns_two_doubles(double x, double y) { return {x / 2, y / 4}; }
Mixed returns_mixed(Mixed a, float b) { return {a.x + static_cast<double>(b), a.n - 1}; }
Large returns_large(Large a, int b, Large c) {
    for (std::size_t i = 0; i < std::size(a.words); ++i) a.words[i] = a.words[i] * static_cast<std::uint64_t>(b) + c.words[i];
    return a;
}
NotTrivial returns_not_trivial(int n) {
    const NotTrivial first(n + 1);
    return first;
}
long double returns_long_double(long double a, long double b) { return a / b; }
std::complex<float> returns_complex_float(std::complex<float> a, std::complex<double> b) { return a * std::complex<float>(b); }
std::complex<double> returns_complex(std::complex<double> a, std::complex<float> b) { return a * std::complex<double>(b); }
std::complex<long double> returns_complex_long(std::complex<long double> a, std::complex<double> b) {
    return a * std::complex<long double>(b);
}
float returns_float(float a, double b) { return a + static_cast<float>(b); }
bool returns_bool(int a) { return a > 3; }
double returns_sum_of_nine(double a, double b, double c, double d, double e, double f, double g, double h, double i) {
    return a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g + 8 * h + 9 * i;
}
std::uint64_t returns_sum_of_stack(int a, int b, int c, int d, int e, int f, std::uint64_t g, Large h, std::uint64_t i) {
    std::uint64_t sum = static_cast<std::uint64_t>(a + b + c + d + e + f) + g + i;
    for (const std::uint64_t word : h.words) sum = sum * 3 + word;
    return sum;
}
int returns_variadic(std::string* to, const char* format, ...) {
    char text[200];
    va_list arguments;
    va_start(arguments, format);
    const int length = std::vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    *to = text;
    return length;
}
Wide returns_wide(Wide a, Wide b) { return a * b; }

// Touches few registers, so that its caller keeps others over the call.
[[gnu::noinline]] int returns_few(int a) {
    asm volatile("" : "+r"(a));
    return a + 1;
}
std::uint64_t returns_kept_over_calls(std::uint64_t seed, double x) {
    std::uint64_t a = seed * 3, b = seed * 5, c = seed * 7, d = seed * 11, e = seed * 13;
    double y = x * 1.5, z = x * 2.5;
    for (int i = 0; i < 20; ++i) {
        a += static_cast<std::uint64_t>(returns_few(i));
        b ^= a << 1;
        c += b ^ d;
        d = d * 31 + e;
        e += c;
        y = y * z + 0.25;
        z = z * 0.5 + y * 1e-3;
    }
    return a ^ b ^ c ^ d ^ e ^ static_cast<std::uint64_t>(y * 16) ^ static_cast<std::uint64_t>(z * 16);
}

}  // namespace dynfunc::test
