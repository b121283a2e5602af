// SPDX-License-Identifier: MIT
// The chains of one machine that patches text, encoded on any host and decoded again: one program per machine.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <functional>

#include "chain_samples.hpp"
#include "machine.hpp"

namespace dynfunc::arch::test {
namespace {

constexpr Address runs_at{0x5555'5555'1000};
constexpr Address nowhere_near{0x0123'4567'89ab'cdc0};
constexpr Address near_functions{0x5555'5556'0000}, near_data{0x5555'5557'0008}, near_hits{0x5555'5558'0010};

// Which calls of a chain have something.
using Which = std::function<bool(std::size_t i, std::size_t count)>;
const Which none = [](std::size_t, std::size_t) { return false; };
const Which all = [](std::size_t, std::size_t) { return true; };
const Which only_last = [](std::size_t i, std::size_t count) { return i + 1 == count; };
const Which all_but_last = [](std::size_t i, std::size_t count) { return i + 1 < count; };
const std::array patterns{none, all, only_last, all_but_last};

struct Chain {
    ArgumentLayout layout;
    std::vector<ChainCall> calls;

    std::size_t bound() const { return chain_bytes(calls.size(), layout); }
    bool may_jump(std::size_t i) const { return !calls[i].has_data || layout.data_in_register; }
    std::size_t branches() const { return calls.size() + (may_jump(calls.size() - 1) ? 0 : 1); }
};

// Functions 16 bytes apart; with `far`, they, the data and the counters are out of reach.
Chain chain_of(std::size_t count, const ArgumentLayout& layout, const Which& data, const Which& hits, bool far = false) {
    Chain chain{layout, {}};
    for (std::size_t i = 0; i < count; ++i) {
        const auto at = [&](Address near) { return (far ? nowhere_near : near) + static_cast<std::ptrdiff_t>(16 * i); };
        chain.calls.push_back({.function = at(near_functions),
                               .data = at(near_data).value,
                               .has_data = data(i, count),
                               .hits = hits(i, count) ? at(near_hits).as<std::uint64_t*>() : nullptr});
    }
    return chain;
}

std::string text(const Chain& chain) {
    char line[160];
    const ArgumentLayout& is = chain.layout;
    std::snprintf(line, sizeof line, "%zu calls, %d integers, %d vectors, data %s, %d words", chain.calls.size(), is.integers,
                  is.vectors, is.data_in_register ? "in register" : "on stack", is.stack_words);
    return line;
}

std::vector<std::byte> encode(const Chain& chain, Address at = runs_at) {
    std::vector<std::byte> room(chain.bound());
    const auto size = encode_chain(chain.calls, chain.layout, at, room);
    EXPECT_TRUE(size.has_value());
    room.resize(size.value_or(0));
    return room;
}

ArgumentLayout layout_of(int integers, int vectors, int words) {
    return {.integers = static_cast<std::uint8_t>(integers),
            .vectors = static_cast<std::uint8_t>(vectors),
            .data_in_register = integers < capabilities().integer_registers,
            .stack_words = static_cast<std::uint16_t>(words)};
}

// Every layout there can be, with some numbers of stack words; each with every pattern of data and of counters.
void for_each_chain(std::initializer_list<std::size_t> counts, std::initializer_list<int> words, bool far,
                    const std::function<void(const Chain&)>& body) {
    for (int integers = 0; integers <= capabilities().integer_registers; ++integers)
        for (int vectors : {0, 1, capabilities().vector_registers - 1, int{capabilities().vector_registers}})
            for (int stack_words : words)
                for (std::size_t count : counts)
                    for (const Which& data : patterns)
                        for (const Which& hits : {none, all}) {
                            const Chain chain = chain_of(count, layout_of(integers, vectors, stack_words), data, hits, far);
                            SCOPED_TRACE(text(chain));
                            body(chain);
                        }
}

std::vector<Decoded> branches_of(const std::vector<Decoded>& code) {
    std::vector<Decoded> found;
    for (const Decoded& one : code)
        if (one.target || one.indirect || one.mnemonic == mnemonics.ret) found.push_back(one);
    // The loop that counts on arm64 branches back to itself.
    std::erase_if(found, [](const Decoded& one) {
        return one.target && one.mnemonic != mnemonics.call && one.mnemonic != mnemonics.jump;
    });
    return found;
}

// Where the instruction stands that is number `index` of the branches.
Address place_of_branch(const std::vector<std::byte>& bytes, std::size_t index) {
    Address at = runs_at;
    for (const Decoded& one : decode(bytes, runs_at)) {
        const bool branch = one.target && (one.mnemonic == mnemonics.call || one.mnemonic == mnemonics.jump);
        if (branch && index-- == 0) return at;
        at = at + static_cast<std::ptrdiff_t>(one.size);
    }
    ADD_FAILURE() << "no such branch";
    return {};
}

TEST(EncodeChain, BytesAreThoseOfAnAssembler) {
    for (const ChainSample& sample : chain_samples) {
        SCOPED_TRACE(sample.what);
        const auto is = encode({sample.layout, sample.calls}, sample.runs_at);
        const auto should = std::as_bytes(std::span(sample.bytes));
        EXPECT_TRUE(is == std::vector(should.begin(), should.end()));
    }
}

TEST(EncodeChain, CallsEveryFunctionInOrderAndJumpsToTheLast) {
    for_each_chain({1, 2, 8}, {0, 1, 5}, false, [](const Chain& chain) {
        const std::vector<Decoded> branches = branches_of(decode(encode(chain), runs_at));
        ASSERT_EQ(branches.size(), chain.branches());
        for (std::size_t i = 0; i < chain.calls.size(); ++i) {
            EXPECT_FALSE(branches[i].indirect);
            ASSERT_TRUE(branches[i].target.has_value());
            EXPECT_EQ(branches[i].target->value, chain.calls[i].function.value);
            const bool jump = i + 1 == chain.calls.size() && chain.may_jump(i);
            EXPECT_EQ(branches[i].mnemonic, jump ? mnemonics.jump : mnemonics.call);
        }
        EXPECT_EQ(branches.back().mnemonic, chain.may_jump(chain.calls.size() - 1) ? mnemonics.jump : mnemonics.ret);
    });
}

TEST(EncodeChain, FunctionsOutOfReachAreBranchedToIndirectly) {
    for_each_chain({1, 3}, {0, 5}, true, [](const Chain& chain) {
        const std::vector<Decoded> branches = branches_of(decode(encode(chain), runs_at));
        ASSERT_EQ(branches.size(), chain.branches());
        for (std::size_t i = 0; i < chain.calls.size(); ++i) EXPECT_TRUE(branches[i].indirect);
    });
}

// By how much a chain has lowered the stack pointer at each of its calls.
std::vector<std::ptrdiff_t> depths_of_calls(const Chain& chain) {
    std::vector<std::ptrdiff_t> found;
    std::ptrdiff_t lowered = 0;
    for (const Decoded& one : decode(encode(chain), runs_at)) {
        lowered += one.lowers_stack;
        if (one.mnemonic == mnemonics.call) found.push_back(lowered);
    }
    return found;
}

TEST(EncodeChain, StackIsAlignedAtEveryCall) {
    for_each_chain({1, 2, 3}, {0, 1, 2, 3, 64}, false, [](const Chain& chain) {
        for (std::ptrdiff_t depth : depths_of_calls(chain)) EXPECT_EQ((lowered_by_call + depth) % 16, 0);
    });
}

// Below the saved frame pointer: what is saved, and the words of a callee.
TEST(EncodeChain, FrameHasRoomForWhatIsSavedAndPassed) {
    for_each_chain({2, 3}, {0, 1, 2, 3, 64}, false, [](const Chain& chain) {
        const bool data_on_stack = !chain.may_jump(0) || !chain.may_jump(chain.calls.size() - 1);
        const int words = chain.layout.integers + 2 * chain.layout.vectors + chain.layout.stack_words + (data_on_stack ? 1 : 0);
        for (std::ptrdiff_t depth : depths_of_calls(chain)) {
            EXPECT_GE(depth, 16 - lowered_by_call + 8 * words);
            EXPECT_LE(depth, 16 - lowered_by_call + 8 * words + 32) << "more than rounding";
        }
    });
}

TEST(EncodeChain, OneCalleeNeedsNoFrame) {
    for_each_chain({1}, {0, 1, 64}, false, [](const Chain& chain) {
        if (!chain.may_jump(0)) return;
        for (const Decoded& one : decode(encode(chain), runs_at)) {
            EXPECT_EQ(one.lowers_stack, 0);
            EXPECT_NE(one.mnemonic, mnemonics.call);
        }
    });
}

TEST(EncodeChain, BeginsWithALandingPadAndEndsInTraps) {
    for_each_chain({1, 2, 3}, {0, 1}, false, [](const Chain& chain) {
        const std::vector<std::byte> bytes = encode(chain);
        EXPECT_EQ(bytes.size() % 16, 0u);
        ASSERT_GE(bytes.size(), 16u);
        EXPECT_EQ(std::memcmp(bytes.data(), landing_pad.data(), landing_pad.size()), 0);
        const std::vector<Decoded> code = decode(bytes, runs_at);
        std::size_t end = 0, at = 0;
        for (const Decoded& one : code) {
            at += one.size;
            if (one.mnemonic == mnemonics.jump || one.mnemonic == mnemonics.ret) end = at;
        }
        ASSERT_GT(end, 0u);
        ASSERT_LT(bytes.size() - end, 16u);
        for (std::size_t i = end; i < bytes.size(); ++i)
            EXPECT_EQ(std::to_integer<int>(bytes[i]), trap[(i - end) % trap.size()]);
    });
}

// The first call and the last jump of two, at each limit of a direct branch and one step beyond.
TEST(EncodeChain, FunctionIsBranchedToDirectlyUpToTheLimitsOfReach) {
    for (std::size_t index : {0u, 1u})
        for (bool ahead : {false, true}) {
            Chain chain = chain_of(2, layout_of(2, 0, 0), none, none);
            const Address branch = place_of_branch(encode(chain), index);
            const std::ptrdiff_t limit = ahead ? expected_capabilities.reach_ahead : expected_capabilities.reach_back;
            const std::ptrdiff_t step = ahead ? target_step : -target_step;
            chain.calls[index].function = branch + limit;
            const Decoded within = branches_of(decode(encode(chain), runs_at))[index];
            ASSERT_TRUE(within.target.has_value());
            EXPECT_EQ(within.target->value, chain.calls[index].function.value);
            chain.calls[index].function = branch + limit + step;
            EXPECT_TRUE(branches_of(decode(encode(chain), runs_at))[index].indirect);
        }
}

TEST(EncodeChain, RoomThatIsOneByteTooSmallIsRefusedAndLeftInside) {
    constexpr std::byte mark{0x5a};
    for_each_chain({1, 2, 3}, {0, 3}, false, [&](const Chain& chain) {
        const std::size_t size = encode(chain).size();
        std::vector<std::byte> memory(size + 64, mark);
        const auto fits = encode_chain(chain.calls, chain.layout, runs_at, std::span(memory).subspan(32, size));
        EXPECT_EQ(fits.value_or(0), size);
        for (std::size_t room = 0; room < size; room += room + 1 < size ? size - 1 : 1) {
            std::ranges::fill(memory, mark);
            const auto refused = encode_chain(chain.calls, chain.layout, runs_at, std::span(memory).subspan(32, room));
            ASSERT_FALSE(refused.has_value());
            EXPECT_EQ(refused.error().code, Errc::out_of_memory);
            EXPECT_EQ(std::count(memory.begin(), memory.begin() + 32, mark), 32);
            const auto behind = memory.begin() + 32 + static_cast<std::ptrdiff_t>(room);
            EXPECT_EQ(std::count(behind, memory.end(), mark), memory.end() - behind);
        }
    });
}

TEST(ChainBytes, BoundEveryChain) {
    for (bool far : {false, true})
        for_each_chain({1, 2, 3, 8, 20}, {0, 1, 2, 5, 33, 64}, far, [](const Chain& chain) {
            std::vector<std::byte> room(chain.bound());
            EXPECT_TRUE(encode_chain(chain.calls, chain.layout, runs_at, room).has_value());
        });
}

TEST(ChainBytes, AreThoseOfTheLongestChain) {
    constexpr Address far{0x8765'4321'89ab'cdc0};
    for (int integers : {0, 2, int{capabilities().integer_registers}})
        for (int words : {0, 3}) {
            Chain chain = chain_of(8, layout_of(integers, 2, words), all, all);
            for (ChainCall& call : chain.calls) call = {far, far.value, true, far.as<std::uint64_t*>()};
            EXPECT_EQ(encode(chain).size(), chain.bound()) << text(chain);
        }
}

TEST(ChainBytes, AreNotTwiceThoseOfAUsualChain) {
    const Chain chain = chain_of(8, layout_of(2, 0, 0), all, all);
    EXPECT_LT(chain.bound(), 2 * encode(chain).size());
}

}  // namespace
}  // namespace dynfunc::arch::test
