// SPDX-License-Identifier: MIT
// x86-64: the same race with several protocols. Ours survive; those that everybody tries first do not. That the controls fail
// here is what makes a clean torture run mean something.
//
//     aligned word      e9 rel32 inside one aligned 8-byte word, one 8-byte store
//     byte by byte      the five bytes of the same word, each by a store of its own
//     across a line     one 8-byte store, but the jump lies across a cache line
//     field in a word   rel32 alone, by a 4-byte store inside one aligned word: what changes at a call site
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>
#include <dynfunc/address.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <thread>

#include "child.hpp"
#include "near_copies.hpp"
#include "surroundings.hpp"

namespace dynfunc {
namespace {

enum class Protocol { aligned_word, byte_by_byte, across_a_line, field_in_a_word };

std::size_t offset_of(Protocol protocol) {
    switch (protocol) {
        case Protocol::across_a_line:
            return 64 - 2;
        case Protocol::field_in_a_word:
            return 64 + 3;  // the field: 4 to 7
        default:
            return 64;
    }
}

// One page of code with a writable alias: a test may do what the library never does.
class PatchedPage {
public:
    PatchedPage() {
        const int file = memfd_create("torn_jump", MFD_CLOEXEC);
        if (file < 0 || ftruncate(file, 4096) != 0) std::abort();
        runs_ = static_cast<std::byte*>(mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, file, 0));
        writes_ = static_cast<std::byte*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0));
        close(file);
    }
    Address at(std::size_t offset) const { return Address::of(runs_ + offset); }
    std::byte* alias(std::size_t offset) const { return writes_ + offset; }

private:
    std::byte *runs_, *writes_;
};

std::array<std::byte, 8> jump(Address from, Address to) {
    std::array<std::byte, 8> bytes{};
    const auto rel = static_cast<std::int32_t>(to - from - 5);
    bytes[0] = std::byte{0xe9};
    std::memcpy(&bytes[1], &rel, sizeof rel);
    return bytes;
}

void store(Protocol protocol, std::byte* to, const std::array<std::byte, 8>& bytes) {
    if (protocol == Protocol::byte_by_byte) {
        for (std::size_t i = 0; i < 5; ++i) *reinterpret_cast<volatile std::byte*>(to + i) = bytes[i];
        return;
    }
    if (protocol == Protocol::field_in_a_word) {
        std::uint32_t field;
        std::memcpy(&field, bytes.data() + 1, sizeof field);
        asm volatile("movl %1,%0" : "=m"(to[1]) : "r"(field) : "memory");
        return;
    }
    std::uint64_t word;
    std::memcpy(&word, bytes.data(), sizeof word);
    *reinterpret_cast<volatile std::uint64_t*>(to) = word;
}

// Exit status 0: every call reached a target. A torn jump ends the child by a signal, or with status 1.
int race(Protocol protocol, std::chrono::milliseconds limit) {
    const PatchedPage page;
    const std::size_t offset = offset_of(protocol);
    const test::NearCopies targets(page.at(0));
    std::array<std::array<std::byte, 8>, test::copies> jumps;
    for (std::size_t i = 0; i < jumps.size(); ++i) jumps[i] = jump(page.at(offset), Address::of(targets[i]));
    std::memcpy(page.alias(offset), jumps[0].data(), 8);
    const auto function = page.at(offset).as<int (*)(int)>();
    std::atomic<bool> stop{false}, wrong{false};
    std::thread caller([&] {
        while (!stop.load(std::memory_order_relaxed))
            if (const int result = function(1); result < 16 || result >= 16 + static_cast<int>(test::copies)) wrong = true;
    });
    const auto end = std::chrono::steady_clock::now() + limit;
    // As fast as can be for a while, then with pauses between: a processor that is interrupted all the time seldom gets to
    // fetch.
    constexpr std::size_t turn = 1024;
    std::uint32_t random = 1;
    for (std::size_t i = 0; !wrong && (i % turn != 0 || std::chrono::steady_clock::now() < end); ++i) {
        store(protocol, page.alias(offset), jumps[i % jumps.size()]);
        if (i / turn % 2 == 0) continue;
        random = random * 1'664'525 + 1'013'904'223;
        for (std::uint32_t k = random >> 26; k != 0; --k) asm volatile("pause");
    }
    stop = true;
    caller.join();
    return wrong ? 1 : 0;
}

bool survives(Protocol protocol, std::chrono::milliseconds limit) {
    return test::in_child([&] { return race(protocol, limit); }).status == 0;
}

using namespace std::chrono_literals;

TEST(TornJump, AnAlignedWordIsNeverTorn) { EXPECT_TRUE(survives(Protocol::aligned_word, 3s)); }

TEST(TornJump, AFieldInsideAWordIsNeverTorn) { EXPECT_TRUE(survives(Protocol::field_in_a_word, 3s)); }

TEST(TornJump, ControlAByteByByteWriteIs) {
    if (test::thread_sanitizer) GTEST_SKIP() << "the sanitizer reports the fault that is waited for";
    EXPECT_FALSE(survives(Protocol::byte_by_byte, 30s));
}

TEST(TornJump, ControlAStoreAcrossACacheLineIs) {
    if (test::thread_sanitizer) GTEST_SKIP() << "the sanitizer reports the fault that is waited for";
    EXPECT_FALSE(survives(Protocol::across_a_line, 30s));
}

}  // namespace
}  // namespace dynfunc
