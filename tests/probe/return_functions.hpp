// SPDX-License-Identifier: MIT
// Functions for return probes, in files of their own: who calls them does not see what they do.
#pragma once

#include <array>
#include <complex>
#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>

// What a function needs that returns a vector of 32 bytes in registers; elsewhere they are returned in memory.
#ifndef DYNFUNC_TEST_WIDE_TARGET
#define DYNFUNC_TEST_WIDE_TARGET [[gnu::target("avx")]]
#endif

namespace dynfunc::test {

// What is called inside of a probed call.
using Inside = std::uint64_t (*)(void* data);

extern "C" {

std::uint64_t return_twice(std::uint64_t x);
std::uint64_t return_sum(std::uint64_t n);  // 0 + ... + n; calls itself n times
double return_half(double x);
std::uint64_t return_around(Inside inside, void* data);             // inside(data) + 1
std::uint64_t return_around_noexcept(Inside, void* data) noexcept;  // the same
// Calls itself n times, and `inside` at the bottom: inside(data) + n.
std::uint64_t return_deep(std::uint64_t n, Inside inside, void* data);

// In return_functions_<machine>.S. Ends in a jump to a function that is probed too: 2 x + 3.
std::uint64_t return_tail_first(std::uint64_t x);
std::uint64_t return_tail_second(std::uint64_t x);  // 2 x + 1
// Jumps to inside(data).
std::uint64_t return_tail_around(Inside inside, void* data);
// Jumps to itself n times, then to inside(data).
std::uint64_t return_tail_deep(std::uint64_t n, Inside inside, void* data);
// Waits, by instructions alone, until the first word is not 0, and returns it; counts in the second one.
std::uint64_t return_wait(std::uint64_t words[2]);
// Calls f(a, b) and keeps six values in registers that belong to the caller meanwhile: f's result, or ~0 if one is changed.
std::uint64_t return_keeps_registers(std::uint64_t (*f)(std::uint64_t, std::uint64_t), std::uint64_t a, std::uint64_t b);

// As return_around(), which it calls as a slot would, but without unwind information.
std::uint64_t return_bare_slot(Inside inside, void* data);

// The address of a stub of the linker's, through which a function of another object is called.
const void* return_stub_of_linker();

// Writes to every word of so many bytes below its own return address.
void return_overwrite_stack(std::size_t bytes);

}  // extern "C"

template <class F>
std::uint64_t call_inside(void* data) {
    return static_cast<std::uint64_t>((*static_cast<F*>(data))());
}
// Runs `inside` in the middle of a call of return_around().
template <class F>
std::uint64_t around(F&& inside) {
    return return_around(&call_inside<std::remove_reference_t<F>>, const_cast<void*>(static_cast<const void*>(&inside)));
}

// Ten functions: each calls the next one, as deep as asked; the last one calls `inside`. Each result is the inner one plus 1.
struct Chain {
    enum class At : std::uint8_t {
        passes,         // what is thrown
        rethrows,       // catches it, and throws it again
        catches,        // and returns 100
        throws_inside,  // a destructor calls return_around(), which throws and catches something else
    };
    static constexpr std::size_t levels = 10;

    std::size_t depth = levels;
    Inside inside = nullptr;
    void* data = nullptr;
    std::array<At, levels> at{};
    int destroyed = 0, caught = 0;

    template <class F>
    Chain(std::size_t depth, F& inside)
        : depth(depth), inside(&call_inside<F>), data(const_cast<void*>(static_cast<const void*>(&inside))) {}
    std::uint64_t call() { return functions[0](*this); }

    using Function = std::uint64_t (*)(Chain&);
    static const std::array<Function, levels> functions;
};

// Results and arguments of every kind.
struct TwoWords {
    std::uint64_t a, b;
};
struct TwoDoubles {
    double x, y;
};
struct Mixed {
    double x;
    std::int64_t n;
};
struct Large {
    std::uint64_t words[9];
};
struct NotTrivial {
    explicit NotTrivial(int n) : n(n), self(this) {}
    NotTrivial(const NotTrivial& other) : n(other.n), self(this) {}
    ~NotTrivial() { self = nullptr; }
    int n;
    NotTrivial* self;
};
typedef float Wide __attribute__((vector_size(32)));

TwoWords returns_two_words(std::uint64_t a, std::uint64_t b);                                         // {a + 1, b + 2}
TwoDoubles returns_two_doubles(double x, double y);                                                   // {x / 2, y / 4}
Mixed returns_mixed(Mixed a, float b);                                                                // {x + b, n - 1}
Large returns_large(Large a, int b, Large c);                                                         // a * b + c
NotTrivial returns_not_trivial(int n);                                                                // n + 1
long double returns_long_double(long double a, long double b);                                        // a / b
std::complex<float> returns_complex_float(std::complex<float> a, std::complex<double> b);             // a * b
std::complex<double> returns_complex(std::complex<double> a, std::complex<float> b);                  // a * b
std::complex<long double> returns_complex_long(std::complex<long double> a, std::complex<double> b);  // a * b
float returns_float(float a, double b);                                                               // a + b
bool returns_bool(int a);                                                                             // a > 3
double returns_sum_of_nine(double a, double b, double c, double d, double e, double f, double g, double h, double i);
std::uint64_t returns_sum_of_stack(int a, int b, int c, int d, int e, int f, std::uint64_t g, Large h, std::uint64_t i);
[[gnu::format(printf, 2, 3)]] int returns_variadic(std::string* to, const char* format, ...);
DYNFUNC_TEST_WIDE_TARGET Wide returns_wide(Wide a, Wide b);  // a * b
// Calls returns_few() in a loop, with as much kept in registers as there are; returns_few() is in the same file, so that the
// compiler knows which registers it leaves alone (-fipa-ra).
std::uint64_t returns_kept_over_calls(std::uint64_t seed, double x);
int returns_few(int a);

}  // namespace dynfunc::test
