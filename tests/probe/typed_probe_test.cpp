// SPDX-License-Identifier: MIT
// Arguments by reference, wherever the calling convention passes them.
#include <dynfunc/typed_probe.hpp>

#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <string>
#include <utility>

#include "address_space.hpp"

namespace dynfunc {
namespace {

class TypedProbeTest : public testing::Test {
protected:
    static void SetUpTestSuite() { test::signal_that_may_change = SIGTRAP; }
    void SetUp() override;
};

[[gnu::noinline]] int add(int a, int b) {
    asm volatile("");
    return a + b;
}
enum class Colour : std::uint8_t { red = 1, green = 7 };
struct Large {
    std::array<long, 5> values;
};
[[gnu::noinline]] Large many(const char* text, std::string& name, std::int8_t small, Colour colour, unsigned long long wide,
                             bool flag, double x, float y, int on_stack, short too, double z1, double z2, double z3, double z4,
                             double z5, double z6, double on_stack_too) {
    asm volatile("");
    return {{text[0] + static_cast<long>(name.size()), small + static_cast<long>(colour), static_cast<long>(wide) + flag,
             static_cast<long>(x + static_cast<double>(y)) + on_stack + too,
             static_cast<long>(z1 + z2 + z3 + z4 + z5 + z6 + on_stack_too)}};
}
// What the compiler sees must not be what is called.
int (*volatile call_add)(int, int) = &add;
decltype(&many) volatile call_many = &many;

void TypedProbeTest::SetUp() {
    if (const auto probe = probe_typed(&add, [](int&, int&) {}); !probe) {
        ASSERT_EQ(probe.error().code, Errc::text_not_writable) << probe.error().message();
        GTEST_SKIP() << "this process cannot patch code";
    }
}

TEST_F(TypedProbeTest, SeesAndChangesArguments) {
    int seen = 0;
    auto probe = probe_typed(&add, [&seen](auto& a, auto& b) {
        seen = 10 * a + b;
        a = -5;
    });
    ASSERT_TRUE(probe) << probe.error().message();
    EXPECT_EQ(call_add(3, 4), -1);
    EXPECT_EQ(seen, 34);
    EXPECT_EQ(probe->probe().hits(), 1u);
    probe->detach();
    EXPECT_EQ(call_add(3, 4), 7);
}

TEST_F(TypedProbeTest, EveryKindOfArgument) {
    std::string name = "four";
    const auto call = [&] {
        return call_many("A", name, -3, Colour::green, 1ull << 40, true, 1.5, 2.5f, 100, -7, 1, 2, 3, 4, 5, 6, 7).values;
    };
    const auto expected = call();
    bool right = false;
    auto probe = probe_typed(&many, [&](const char*& text, std::string& by_reference, std::int8_t& small, Colour& colour,
                                        unsigned long long& wide, bool& flag, double& x, float& y, int& on_stack, short& too,
                                        double& z1, double&, double&, double&, double&, double& z6, double& last) {
        right = text[0] == 'A' && &by_reference == &name && small == -3 && colour == Colour::green && wide == 1ull << 40 &&
                flag && x == 1.5 && y == 2.5f && on_stack == 100 && too == -7 && z1 == 1 && z6 == 6 && last == 7;
        small = 4;
        on_stack = 200;
        last = 17;
        y = 3.5f;
    });
    ASSERT_TRUE(probe) << probe.error().message();
    auto changed = expected;
    changed[1] += 7;
    changed[3] += 101;
    changed[4] += 10;
    EXPECT_EQ(call(), changed);
    EXPECT_TRUE(right);
    probe->detach();
    EXPECT_EQ(call(), expected);
}

// Whether the caller passes the address of the result in front of the arguments cannot be told by its size: a pair is not,
// though it is no trivial type; fields that are not aligned are, though they would fit two registers; so is what has a
// destructor.
struct [[gnu::packed]] Unaligned {
    char first;
    long second;
};
struct Destroyed {
    explicit Destroyed(int from) : value(from) {}
    Destroyed(const Destroyed& other) : value(other.value) {}
    ~Destroyed() { value = 0; }
    int value;
};
[[gnu::noinline]] std::pair<int, int> in_registers(int a) {
    asm volatile("");
    return {a, -a};
}
[[gnu::noinline]] Unaligned in_memory(int a) {
    asm volatile("");
    return {static_cast<char>(a), a + 1};
}
[[gnu::noinline]] Destroyed in_memory_too(int a) {
    asm volatile("");
    return Destroyed(a + 2);
}
decltype(&in_registers) volatile call_in_registers = &in_registers;
decltype(&in_memory) volatile call_in_memory = &in_memory;
decltype(&in_memory_too) volatile call_in_memory_too = &in_memory_too;

TEST_F(TypedProbeTest, EveryKindOfResult) {
    int seen = 0;
    const auto handler = [&seen](int& a) { seen = a++; };
    const auto first = probe_typed(&in_registers, handler);
    const auto second = probe_typed(&in_memory, handler);
    const auto third = probe_typed(&in_memory_too, handler);
    ASSERT_TRUE(first && second && third);
    EXPECT_EQ(call_in_registers(10), (std::pair{11, -11}));
    EXPECT_EQ(seen, 10);
    const Unaligned unaligned = call_in_memory(20);
    EXPECT_EQ(unaligned.first, 21);
    EXPECT_EQ(long{unaligned.second}, 22);
    EXPECT_EQ(seen, 20);
    EXPECT_EQ(call_in_memory_too(30).value, 33);
    EXPECT_EQ(seen, 30);
}

TEST_F(TypedProbeTest, WithoutVectorRegisters) {
    static int seen = 0;
    const auto probe = probe_typed(&add,
                                   [] [[gnu::target("general-regs-only")]] (int& a, int& b) {
                                       seen = a;
                                       b += 1;
                                   },
                                   {.needs = Needs::registers});
    ASSERT_TRUE(probe) << probe.error().message();
    EXPECT_EQ(call_add(3, 4), 8);
    EXPECT_EQ(seen, 3);
}

TEST_F(TypedProbeTest, RemovesItselfAndIsDestroyedOnce) {
    const auto alive = std::make_shared<int>(0);
    {
        auto probe = probe_typed(&add, [alive](int&, int&) { return ++*alive == 2 ? AfterHit::disable : AfterHit::keep; });
        ASSERT_TRUE(probe) << probe.error().message();
        for (int i = 0; i < 5; ++i) call_add(1, 2);
        EXPECT_EQ(*alive, 2);
        EXPECT_EQ(alive.use_count(), 2);
        TypedProbe moved = std::move(*probe);
        EXPECT_FALSE(*probe);
        EXPECT_TRUE(moved);
    }
    EXPECT_EQ(alive.use_count(), 1);
    auto late = probe_typed(&add, [alive](int&, int&) {});
    late->detach_nosync();
    EXPECT_EQ(alive.use_count(), 2);
    synchronize();
    EXPECT_EQ(alive.use_count(), 1);
}

}  // namespace
}  // namespace dynfunc
