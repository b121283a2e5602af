// SPDX-License-Identifier: MIT
// arm64: direct branches, found by where they lead and told from data between instructions. On any host; Capstone reads them
// too.
#include <gtest/gtest.h>

#include <initializer_list>
#include <random>
#include <vector>

#include "arch.hpp"
#include "capstone.hpp"

namespace dynfunc::arch {
namespace {

constexpr std::uint32_t ret = 0xd65f'03c0, nop = 0xd503'201f, brk = 0xd420'0000;
constexpr std::uint32_t b = 0x1400'0000, bl = 0x9400'0000;

// Of a word that stands so many words before its operand.
constexpr std::uint32_t imm26(std::ptrdiff_t words) { return static_cast<std::uint32_t>(words) & 0x03ff'ffff; }
constexpr std::uint32_t imm19(std::ptrdiff_t words) { return (static_cast<std::uint32_t>(words) & 0x7'ffff) << 5; }
constexpr std::uint32_t imm14(std::ptrdiff_t words) { return (static_cast<std::uint32_t>(words) & 0x3fff) << 5; }

class Text {
public:
    explicit Text(std::size_t words) : words_(words, nop) {}
    Text(std::initializer_list<std::uint32_t> words) : words_(words) {}
    AddressRange range() const { return {at(0), at(static_cast<std::ptrdiff_t>(words_.size()))}; }
    Address at(std::ptrdiff_t word) const { return Address::of(words_.data()) + word * 4; }
    std::uint32_t& operator[](std::size_t word) { return words_[word]; }

private:
    std::vector<std::uint32_t> words_;
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

TEST(References, OfCallsAndBranchesAreFoundAtEveryWordAndNowhereElse) {
    for (const std::uint32_t opcode : {b, bl}) {
        for (std::ptrdiff_t place = 0; place < 70; ++place) {
            Text text(70);
            const AddressRange window{text.at(0) + 0x10'0000, text.at(0) + 0x10'0010};
            text[static_cast<std::size_t>(place)] = opcode | imm26(0x4'0000 - place);
            EXPECT_EQ(find_all(text.range(), window), std::vector{text.at(place)});
            EXPECT_EQ(reference_target(text.at(place)), window.begin);
            EXPECT_EQ(reference_begin(text.at(place)), text.at(place));
            EXPECT_FALSE(find_reference(text.range(), text.at(place) + 1, window));
            EXPECT_FALSE(find_reference({text.at(0), text.at(place) + 3}, text.at(0), window)) << "cut off";
        }
    }
}

// Other branches that lead there, a word that is no multiple of four away, and a window one word further.
TEST(References, OfOtherInstructionsAreNotFound) {
    Text text(64);
    const AddressRange window{text.at(40), text.at(44)};
    text[1] = 0x5400'0000 | imm19(39);  // b.eq
    text[2] = 0xb400'0000 | imm19(38);  // cbz x0
    text[3] = 0x3600'0000 | imm14(37);  // tbz w0, #0
    text[4] = 0x5800'0000 | imm19(36);  // ldr x0, literal
    text[5] = b | imm26(34);            // one before
    text[6] = bl | imm26(38);           // one behind
    text[7] = 0xd400'0000 | imm26(33);
    EXPECT_EQ(find_all(text.range(), window), std::vector<Address>{});
}

TEST(References, AreThoseThatADisassemblerSees) {
    std::mt19937 random(1);
    std::size_t found = 0;
    for (int i = 0; i < 20; ++i) {
        Text text(5'000);
        for (std::size_t word = 0; word < 5'000; ++word) text[word] = static_cast<std::uint32_t>(random());
        // Wide enough that words at random lead into it, before and behind the text.
        const Address begin = text.at(0) + (i % 2 == 0 ? 0x100'0000 : -0x200'0000);
        const AddressRange window{begin, begin + 0x100'0000};
        test::Capstone capstone(CS_ARCH_ARM64, CS_MODE_LITTLE_ENDIAN);
        std::vector<Address> expected;
        for (std::ptrdiff_t word = 0; word < 5'000; ++word) {
            const auto read = capstone.read({text.at(word).as<const std::byte*>(), 4}, text.at(word));
            if (!read || (read->id != ARM64_INS_B && read->id != ARM64_INS_BL)) continue;
            const cs_arm64& detail = read->detail->arm64;
            const bool is_conditional = detail.cc != ARM64_CC_INVALID;
            if (!is_conditional && window.contains(Address{static_cast<std::uintptr_t>(detail.operands[0].imm)}))
                expected.push_back(text.at(word));
        }
        const auto all = find_all(text.range(), window);
        EXPECT_EQ(all, expected);
        found += all.size();
    }
    EXPECT_GT(found, 100u);
}

TEST(References, AreEncodedUpToBothLimitsAndNoFurther) {
    const Address field{0x7000'0000'0000};
    constexpr std::ptrdiff_t ahead = 0x7ff'fffc, behind = -0x800'0000;
    for (const std::uint32_t opcode : {b, bl}) {
        EXPECT_EQ(encode_reference(field, opcode | 5, field + ahead), opcode | 0x1ff'ffff);
        EXPECT_EQ(encode_reference(field, opcode | 5, field + behind), opcode | 0x200'0000);
        EXPECT_EQ(encode_reference(field, opcode | 5, field), opcode);
        for (const Address target : {field + (ahead + 4), field + (behind - 4), field + 2}) {
            const auto refused = encode_reference(field, opcode | 5, target);
            ASSERT_FALSE(refused);
            EXPECT_EQ(refused.error().code, Errc::out_of_reach);
            EXPECT_EQ(refused.error().address, target);
        }
    }
}

// Which of the words in question are taken for branches.
std::vector<bool> confirmed(const Text& text, std::initializer_list<std::ptrdiff_t> words) {
    std::vector<Reference> references;
    for (const std::ptrdiff_t word : words) references.push_back({text.at(word), false});
    confirm_references(text.range(), references);
    std::vector<bool> are;
    for (const Reference& reference : references) are.push_back(reference.is_branch);
    return are;
}

TEST(References, InCodeAreConfirmed) {
    EXPECT_TRUE(has_decoder());
    EXPECT_EQ(confirmed({nop, bl | imm26(100), b | imm26(100), nop, ret}, {0, 1, 2, 3, 4}),
              (std::vector{false, true, true, false, false}));
}

TEST(References, ThatAreLoadedAsLiteralsAreData) {
    const std::uint32_t call = bl | imm26(100);
    EXPECT_EQ(confirmed({0x1800'0000 | imm19(2), ret, call, call}, {2, 3}), (std::vector{false, true})) << "ldr w";
    EXPECT_EQ(confirmed({0x5800'0000 | imm19(2), ret, call, call, call}, {2, 3, 4}), (std::vector{false, false, true}))
        << "ldr x";
    EXPECT_EQ(confirmed({0x9800'0000 | imm19(2), ret, call, call}, {2, 3}), (std::vector{false, true})) << "ldrsw";
    EXPECT_EQ(confirmed({0x1c00'0000 | imm19(2), ret, call, call}, {2, 3}), (std::vector{false, true})) << "ldr s";
    EXPECT_EQ(confirmed({0x5c00'0000 | imm19(2), ret, call, call, call}, {2, 3, 4}), (std::vector{false, false, true}))
        << "ldr d";
    EXPECT_EQ(confirmed({0x9c00'0000 | imm19(2), ret, call, call, call, call, call}, {2, 3, 4, 5, 6}),
              (std::vector{false, false, false, false, true}))
        << "ldr q";
    EXPECT_EQ(confirmed({0xd800'0000 | imm19(2), ret, call}, {2}), (std::vector{true})) << "prfm reads nothing";
    EXPECT_EQ(confirmed({call, ret, 0x5800'0000 | imm19(-2)}, {0}), (std::vector{false})) << "before its load";
    EXPECT_EQ(confirmed({0x5800'0000 | imm19(4), ret, call}, {2}), (std::vector{true})) << "elsewhere";
}

TEST(References, BehindWhatAnAdrLeadsToAreDataUpToWhereABranchLeads) {
    const std::uint32_t call = bl | imm26(100), adr = 0x1000'0000;
    EXPECT_EQ(confirmed({call, adr | imm19(2), ret, call, call}, {0, 3, 4}), (std::vector{true, false, false}));
    EXPECT_EQ(confirmed({call, adr | imm19(3), 0xb400'0000 | imm19(4), ret, call, call, call}, {0, 4, 5, 6}),
              (std::vector{true, false, false, true}))
        << "cbz to the last one";
    EXPECT_EQ(confirmed({adr | imm19(100), call, ret}, {1}), (std::vector{true})) << "outside of the function";
}

// ldrb w0, [x1, w0, uxtw]; adr x2, 1f; add x0, x2, w0, sxtb #2; br x0; 1: the cases, to which no branch leads
TEST(References, InTheCasesOfASwitchAreConfirmed) {
    const std::uint32_t call = bl | imm26(100);
    EXPECT_EQ(confirmed({0x3860'4820, 0x1000'0000 | imm19(3) | 2, 0x8b20'8840, 0xd61f'0000, call, ret, call, ret}, {4, 6}),
              (std::vector{true, true}));
    EXPECT_EQ(confirmed({0x3860'4820, 0x1000'0000 | imm19(3) | 2, 0x8b20'8840, 0xd61f'0020, call, ret, call, ret}, {4, 6}),
              (std::vector{false, false}))
        << "br x1";
}

TEST(References, UnderABreakpointAreTriedAgain) {
    const Text text{nop, brk, ret};
    std::vector<Reference> references{{text.at(1), true}};
    confirm_references(text.range(), references);
    EXPECT_FALSE(references[0].is_branch);
    EXPECT_TRUE(references[0].behind_trap);
}

}  // namespace
}  // namespace dynfunc::arch
