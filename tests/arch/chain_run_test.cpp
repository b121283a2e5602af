// SPDX-License-Identifier: MIT
// Chains of the host's machine, executed: every callee gets what the chain was called with, in order, whatever the callees
// before it did to theirs.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstring>

#include "arguments.hpp"
#include "chain_callees.hpp"
#include "chain_samples.hpp"

extern "C" void __register_frame(void*);
extern "C" void __deregister_frame(void*);

namespace dynfunc::arch::test {
namespace {

// Pointers and numbers for which an encoder may have different instructions.
std::uint64_t data_of(std::size_t callee) {
    static std::array<int, 32> near;
    switch (callee % 5) {
        case 0:
            return callee;
        case 1:
            return ~std::uint64_t{callee};
        case 2:
            return Address::of(&near[callee]).value;
        case 3:
            return 0x8000'0000 + callee;
        default:
            return 0x1234'0000'9000 + callee;
    }
}

enum class Place { near, far };

// Code that is written, sealed, and run: never writable and executable at once.
class CodeArea {
public:
    explicit CodeArea(Place place, std::size_t size) : size_((size + 0xffff) & ~std::size_t{0xffff}) {
        std::uintptr_t at = Address::of(&data_of).value & ~std::uintptr_t{0xffff};
        if (place == Place::far) memory_ = map(0, 0);
        while (memory_ == nullptr) memory_ = map(at += 0x10000, MAP_FIXED_NOREPLACE);
    }
    CodeArea(const CodeArea&) = delete;
    ~CodeArea() { munmap(memory_, size_); }

    Address write(const std::vector<ChainCall>& calls, const ArgumentLayout& layout) {
        const Address at = begin() + static_cast<std::ptrdiff_t>(used_);
        const std::span room(static_cast<std::byte*>(memory_) + used_, size_ - used_);
        const auto size = encode_chain(calls, layout, at, room);
        EXPECT_TRUE(size.has_value());
        used_ += size.value_or(0);
        return at;
    }
    void seal() {
        ASSERT_EQ(mprotect(memory_, size_, PROT_READ | PROT_EXEC), 0);
        flush_text({begin(), begin() + static_cast<std::ptrdiff_t>(size_)});
    }
    Address begin() const { return Address::of(memory_); }
    std::size_t size() const { return size_; }

private:
    void* map(std::uintptr_t at, int how) const {
        void* memory = mmap(Address{at}.as<void*>(), size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | how, -1, 0);
        return memory == MAP_FAILED ? nullptr : memory;
    }

    std::size_t size_, used_ = 0;
    void* memory_ = nullptr;
};

std::array<std::uint64_t, 32> hits;

// Which callees of a chain take data.
using Which = bool (*)(std::size_t i);
constexpr Which none = [](std::size_t) { return false; };
constexpr Which all = [](std::size_t) { return true; };
constexpr Which even = [](std::size_t i) { return i % 2 == 0; };
constexpr Which odd = [](std::size_t i) { return i % 2 != 0; };

struct Trial {
    std::vector<ChainCall> calls;
    std::vector<Visit> expected;
    Address code{};

    Trial(const Signature& signature, std::size_t count, Which with_data, bool counted) {
        for (std::size_t i = 0; i < count; ++i) {
            const std::size_t callee = i % callee_count;
            const bool data = with_data(i);
            calls.push_back({.function = data ? signature.with_data[callee] : signature.plain[callee],
                             .data = data_of(i),
                             .has_data = data,
                             .hits = counted ? &hits[i] : nullptr});
            expected.push_back({callee, true, data ? Address{data_of(i)}.as<void*>() : nullptr});
        }
    }
};

void expect_right_call(const Signature& signature, const Trial& trial) {
    visits.clear();
    hits.fill(0);
    signature.call(trial.code);
    EXPECT_TRUE(visits == trial.expected);
    for (std::size_t i = 0; i < hits.size(); ++i)
        EXPECT_EQ(hits[i], i < trial.calls.size() && trial.calls[i].hits != nullptr ? 1u : 0u);
}

void expect_right_calls(const Signature& signature, Place place) {
    const ArgumentLayout layout = argument_layout(signature.places);
    std::vector<Trial> trials;
    for (std::size_t count : {1u, 2u, 3u, 8u, 20u})
        for (const Which with_data : {none, all, even, odd})
            for (bool counted : {false, true}) trials.emplace_back(signature, count, with_data, counted);
    CodeArea area(place, trials.size() * chain_bytes(20, layout));
    for (Trial& trial : trials) trial.code = area.write(trial.calls, layout);
    area.seal();
    for (std::size_t i = 0; i < trials.size(); ++i) {
        SCOPED_TRACE(testing::Message() << "trial " << i << ", " << trials[i].calls.size() << " callees");
        expect_right_call(signature, trials[i]);
    }
}

void expect_right_calls(const Signature& signature) {
    for (Place place : {Place::near, Place::far}) {
        SCOPED_TRACE(testing::Message() << signature.name << (place == Place::near ? " near" : " far"));
        expect_right_calls(signature, place);
    }
}

template <class... A>
void expect_right_calls() {
    expect_right_calls(signature_of<A...>());
}

// Sixteen parameters, and fewer.
template <template <std::size_t> class Parameter>
void expect_right_calls_of_each_count() {
    [&]<std::size_t... count>(std::index_sequence<count...>) {
        const auto one = []<std::size_t... i>(std::index_sequence<i...>) {
            expect_right_calls<typename Parameter<i>::Type...>();
        };
        (one(std::make_index_sequence<count>()), ...);
    }
    (std::make_index_sequence<17>());
}

template <std::size_t>
struct Integer {
    using Type = std::uint64_t;
};
template <std::size_t>
struct Double {
    using Type = double;
};
template <std::size_t i>
struct Alternating {
    using Type = std::conditional_t<i % 2 == 0, int, float>;
};
template <std::size_t>
struct View {
    using Type = std::string_view;
};

TEST(Chain, PassesIntegersOfEachCount) { expect_right_calls_of_each_count<Integer>(); }
TEST(Chain, PassesDoublesOfEachCount) { expect_right_calls_of_each_count<Double>(); }
TEST(Chain, PassesMixedNumbersOfEachCount) { expect_right_calls_of_each_count<Alternating>(); }
TEST(Chain, PassesStructsOfTwoWordsOfEachCount) { expect_right_calls_of_each_count<View>(); }

TEST(Chain, PassesNumbersOfEachSize) {
    expect_right_calls<bool, char, signed char, short, unsigned short, int, unsigned>();
    expect_right_calls<long, bool, float, char, double, short, void*, const char*, bool, char, short, int, float>();
    expect_right_calls<long double>();
    expect_right_calls<int, long double, int>();
    expect_right_calls<int, int, int, int, int, int, int, long double, double, int, long double>();
    expect_right_calls<Wide>();
    expect_right_calls<int, Wide, int, Wide, int>();
    expect_right_calls<int, int, int, int, int, Wide, int, int, Wide, int>();
}

TEST(Chain, PassesStructs) {
    expect_right_calls<Point>();
    expect_right_calls<Mixed>();
    expect_right_calls<Triple>();
    expect_right_calls<Empty, int, Empty>();
    expect_right_calls<Point, Mixed, Point, Mixed, std::string_view, Triple, Mixed>();
    expect_right_calls<Point, Point, Point, double, Point, double, Point, int>();
    expect_right_calls<int, int, int, int, int, std::string_view, int, std::string_view>();
    expect_right_calls<Forty>();
    expect_right_calls<int, Forty, double>();
    expect_right_calls<Forty, Point, Forty, int, int, int, int, int, int, int, Forty, char>();
}

TEST(Chain, PassesReferences) {
    expect_right_calls<int&>();
    expect_right_calls<const Forty&, std::string_view, double&>();
    expect_right_calls<int&, int&, int&, int&, int&, const Wide&, Forty&, double&, int&, bool&>();
}

// The one unwind rule that stands for all chains: where the frame pointer points, the caller's and the return address.
class UnwindTable {
public:
    explicit UnwindTable(AddressRange code) {
        constexpr std::uint8_t advance_code = 1, data_words = 0x78 /* -8 */, def_cfa = 0x0c, offset = 0x80;
        const std::uint8_t fp = unwind_columns.frame_pointer, ra = unwind_columns.return_address;
        put(std::uint32_t{20});  // the common part: its length behind this word
        put(std::uint32_t{0});
        for (std::uint8_t byte : {std::uint8_t{1}, std::uint8_t{0}, advance_code, data_words, ra}) put(byte);
        for (std::uint8_t byte : {def_cfa, fp, std::uint8_t{16}}) put(byte);
        for (int byte : {offset | fp, 2, offset | ra, 1}) put(static_cast<std::uint8_t>(byte));
        put(std::uint32_t{0});   // padding
        put(std::uint32_t{28});  // the part of one range
        put(std::uint32_t{28});  // back to the common part
        put(std::uint64_t{code.begin.value});
        put(std::uint64_t{code.size()});
        put(std::uint64_t{0});  // padding
        put(std::uint32_t{0});  // end
        __register_frame(bytes_.data());
    }
    UnwindTable(const UnwindTable&) = delete;
    ~UnwindTable() { __deregister_frame(bytes_.data()); }

private:
    template <class T>
    void put(T number) {
        std::memcpy(bytes_.data() + used_, &number, sizeof number);
        used_ += sizeof number;
    }

    alignas(8) std::array<std::uint8_t, 96> bytes_{};
    std::size_t used_ = 0;
};

void expect_exceptions_pass(const Signature& signature) {
    SCOPED_TRACE(signature.name);
    const ArgumentLayout layout = argument_layout(signature.places);
    constexpr std::size_t count = 4;
    for (const Which with_data : {none, all}) {
        const Trial trial(signature, count, with_data, true);
        CodeArea area(Place::near, chain_bytes(count, layout));
        const Address code = area.write(trial.calls, layout);
        area.seal();
        const UnwindTable table({area.begin(), area.begin() + static_cast<std::ptrdiff_t>(area.size())});
        for (std::size_t thrower = 0; thrower < count; ++thrower) {
            visits.clear();
            visits_before_throw = static_cast<int>(thrower);
            std::size_t caught = callee_count;
            try {
                signature.call(code);
            } catch (std::size_t who) {
                caught = who;
            }
            visits_before_throw = nobody;
            EXPECT_EQ(caught, thrower % callee_count);
            EXPECT_EQ(visits.size(), thrower + 1);
        }
    }
}

TEST(Chain, LetsExceptionsPassAtEveryCall) {
    expect_exceptions_pass(signature_of<>());
    expect_exceptions_pass(signature_of<int>());
    expect_exceptions_pass(
        signature_of<std::uint64_t, double, std::string_view, std::string_view, std::string_view, Forty, int>());
}

}  // namespace
}  // namespace dynfunc::arch::test
