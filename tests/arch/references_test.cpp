// SPDX-License-Identifier: MIT
// x86-64: direct branches, found by where they lead and confirmed by reading instructions.
#include <gtest/gtest.h>

#include <cstring>
#include <initializer_list>
#include <memory>
#include <random>
#include <vector>

#include "arch.hpp"

namespace dynfunc::arch {
namespace {

class Text {
public:
    explicit Text(std::size_t size) : bytes_(size) {}
    Text(std::initializer_list<int> bytes) {
        for (const int byte : bytes) bytes_.push_back(static_cast<std::byte>(byte));
    }
    AddressRange range() const { return {Address::of(bytes_.data()), Address::of(bytes_.data()) + size()}; }
    Address at(std::ptrdiff_t offset) const { return Address::of(bytes_.data()) + offset; }
    std::ptrdiff_t size() const { return static_cast<std::ptrdiff_t>(bytes_.size()); }
    void lead(std::ptrdiff_t field, Address target) {
        const auto distance = static_cast<std::int32_t>(target - (at(field) + 4));
        std::memcpy(bytes_.data() + field, &distance, sizeof distance);
    }
    void fill(std::mt19937& random) {
        for (std::byte& byte : bytes_) byte = static_cast<std::byte>(random());
    }

private:
    std::vector<std::byte> bytes_;
};

std::vector<Address> find_all(AddressRange text, AddressRange window) {
    std::vector<Address> found;
    Address from = text.begin;
    while (const Address field = find_reference(text, from, window)) {
        found.push_back(field);
        from = field + 1;
    }
    return found;
}

// One byte after the other.
std::vector<Address> find_slowly(AddressRange text, AddressRange window) {
    std::vector<Address> found;
    for (Address at = text.begin; at + 4 <= text.end; at = at + 1)
        if (window.contains(reference_target(at))) found.push_back(at);
    return found;
}

TEST(References, AreFoundWhereverTheyStand) {
    const Text nowhere(1);
    for (std::ptrdiff_t size : {4, 5, 63, 64, 67, 68, 130, 400}) {
        for (std::ptrdiff_t field = 0; field + 4 <= size; ++field) {
            Text text(static_cast<std::size_t>(size));
            const AddressRange window{text.at(0) + 0x100000, text.at(0) + 0x100010};
            text.lead(field, window.begin + field % 16);
            EXPECT_EQ(find_all(text.range(), window), std::vector{text.at(field)}) << size;
            EXPECT_FALSE(find_reference(text.range(), text.at(field) + 1, window));
        }
    }
}

TEST(References, AreThoseThatALookAtEveryByteFinds) {
    std::mt19937 random(1);
    std::size_t found = 0;
    for (int i = 0; i < 20; ++i) {
        Text text(20'000);
        text.fill(random);
        // Wide enough that bytes at random lead into it, before and behind the text.
        const Address begin = text.at(0) + (i % 2 == 0 ? 0x1000'0000 : -0x1000'0000);
        const AddressRange window{begin, begin + 0x200'0000};
        const auto all = find_all(text.range(), window);
        EXPECT_EQ(all, find_slowly(text.range(), window));
        found += all.size();
    }
    EXPECT_GT(found, 1000u);
}

// A field that would lead to the same low 32 bits, four gigabytes from the window.
TEST(References, DoNotLeadWhereOnlyTheLowBitsAgree) {
    Text text(256);
    const Address target = text.at(0) + 0x1000;
    text.lead(100, target);
    const std::ptrdiff_t far = std::ptrdiff_t{1} << 32;
    EXPECT_FALSE(find_reference(text.range(), text.at(0), {target + far, target + (far + 16)}));
    EXPECT_EQ(find_reference(text.range(), text.at(0), {target, target + 16}), text.at(100));
}

TEST(References, AreEncodedUpToBothLimitsAndNoFurther) {
    const Address field{0x7000'0000'0000};
    const std::ptrdiff_t ahead = 0x7fff'ffff, behind = -0x8000'0000LL;
    EXPECT_EQ(encode_reference(field, 0, field + 4 + ahead), 0x7fff'ffffu);
    EXPECT_EQ(encode_reference(field, 0, field + 4 + behind), 0x8000'0000u);
    for (const Address target : {field + 5 + ahead, field + 3 + behind}) {
        const auto refused = encode_reference(field, 0, target);
        ASSERT_FALSE(refused);
        EXPECT_EQ(refused.error().code, Errc::out_of_reach);
        EXPECT_EQ(refused.error().address, target);
    }
    Text text(4);
    const Address target = text.at(0) - 0x1234;
    text.lead(0, target);
    EXPECT_EQ(reference_target(text.at(0)), target);
}

struct Place {
    std::ptrdiff_t field;
    bool is_branch;
};

void expect_confirmed(const Text& text, std::initializer_list<Place> places) {
    std::vector<Reference> references;
    for (const Place& place : places) references.push_back({text.at(place.field), !place.is_branch});
    confirm_references(text.range(), references);
    for (std::size_t i = 0; i < references.size(); ++i)
        EXPECT_EQ(references[i].is_branch, places.begin()[i].is_branch) << "at " << places.begin()[i].field;
}

TEST(References, OfCallsJumpsAndConditionalJumpsAreConfirmed) {
    if (!has_decoder()) GTEST_SKIP() << "this build reads no instructions";
    expect_confirmed({0xe8, 1,    2,    3, 4,        // call
                      0xe9, 1,    2,    3, 4,        // jmp
                      0x0f, 0x84, 1,    2, 3, 4,     // je
                      0xf2, 0xe8, 1,    2, 3, 4,     // bnd call
                      0x2e, 0x0f, 0x85, 1, 2, 3, 4,  // jne, with a hint
                      0xc3},
                     {{1, true}, {6, true}, {12, true}, {18, true}, {25, true}});
}

TEST(References, ThatAreOtherInstructionsOrPartsOfThemAreNot) {
    if (!has_decoder()) GTEST_SKIP() << "this build reads no instructions";
    expect_confirmed({0x48, 0xb8, 0xe8, 1,    2, 3, 4, 0, 0, 0,  // movabs $0x4030201e8,%rax: a call in the middle
                      0x48, 0x8d, 0x05, 1,    2, 3, 4,           // lea 0x4030201(%rip),%rax: an address is taken
                      0xb8, 0xe8, 1,    2,    3,                 // mov $..,%eax
                      0x04, 0xe9,                                // add $0xe9,%al ends with what begins a jump
                      0x90, 0x90, 0x90, 0x90,                    //
                      0xc7, 0xf8, 1,    2,    3, 4,              // xbegin: relative, and no branch that may be led elsewhere
                      0xe8, 1,    2,    3,    4},
                     {{3, false}, {13, false}, {19, false}, {24, false}, {30, false}, {35, true}});
}

TEST(References, BehindAnUnknownInstructionAreNotConfirmed) {
    if (!has_decoder()) GTEST_SKIP() << "this build reads no instructions";
    expect_confirmed({0xe8, 1, 2, 3, 4, 0x06, 0xe8, 1, 2, 3, 4}, {{1, true}, {7, false}});  // 06 is none in 64-bit code
}

TEST(References, ThatAreCutOffByTheEndOfTheFunctionAreNot) {
    if (!has_decoder()) GTEST_SKIP() << "this build reads no instructions";
    const Text text{0x90, 0xe8, 1, 2, 3, 4};
    std::vector<Reference> references{{text.at(2), true}};
    confirm_references({text.at(0), text.at(5)}, references);
    EXPECT_FALSE(references[0].is_branch);
}

}  // namespace
}  // namespace dynfunc::arch
