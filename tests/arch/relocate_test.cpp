// SPDX-License-Identifier: MIT
// Copies of instructions, against a disassembler that the relocator does not use (Capstone), and by running them.
#include "relocate.hpp"

#include <Zydis/Zydis.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "capstone.hpp"

namespace dynfunc::arch {
namespace {

using Bytes = std::vector<std::uint8_t>;

using test::Text;

// With what counts from an instruction's own address as an absolute one: the operand [rip - 0x10] becomes [0x...].
class Capstone : test::Capstone {
public:
    Capstone() : test::Capstone(CS_ARCH_X86, CS_MODE_64) {}

    Text operator()(std::span<const std::byte> code, Address at) {
        Text text = test::Capstone::operator()(code, at);
        const std::size_t rip = text.operands.find("[rip");
        if (rip == std::string::npos) return text;
        const std::size_t end = text.operands.find(']', rip);
        std::int64_t distance = 0;
        if (end > rip + 4) {
            distance = static_cast<std::int64_t>(std::stoull(text.operands.substr(rip + 7), nullptr, 0));
            if (text.operands[rip + 5] == '-') distance = -distance;
        }
        char absolute[32];
        std::snprintf(absolute, sizeof absolute, "[%#" PRIxPTR, at.value + text.size + static_cast<std::uintptr_t>(distance));
        text.operands.replace(rip, end - rip, absolute);
        return text;
    }
};

std::span<const std::byte> as_code(const Bytes& bytes) { return std::as_bytes(std::span(bytes)); }

constexpr Address home{0x5555'5000'0000};
constexpr std::ptrdiff_t away = 0x1234'5678;

// As Zydis' operands say, which the relocator does not ask for.
bool refers_to_memory_near_itself(std::span<const std::byte> code) {
    ZydisDecoder decoder;
    ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    ZydisDecodedInstruction instruction;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
    if (ZYAN_FAILED(ZydisDecoderDecodeFull(&decoder, code.data(), code.size(), &instruction, operands))) return false;
    return std::ranges::any_of(std::span(operands).first(instruction.operand_count), [](const ZydisDecodedOperand& operand) {
        return operand.type == ZYDIS_OPERAND_TYPE_MEMORY && operand.mem.base == ZYDIS_REGISTER_RIP;
    });
}

struct Copied {
    Displaced displaced;
    Relocated relocated;
    std::array<std::byte, Relocated::most_bytes> room;
    Address runs_at;

    std::span<const std::byte> code() const { return std::span(room).first(relocated.size); }
    std::span<const std::byte> code_of(std::size_t i) const {
        const std::size_t end = i + 1 < displaced.count ? relocated.begins[i + 1] : relocated.size;
        return code().subspan(relocated.begins[i], end - relocated.begins[i]);
    }
    Address at(std::size_t i) const { return runs_at + relocated.begins[i]; }
};

Result<Copied> copy_of(std::span<const std::byte> code, Address at, Address runs_at, std::size_t at_least = 5) {
    const auto displaced = read_displaced(code, at, at_least);
    if (!displaced) return std::unexpected(displaced.error());
    Copied copied{.displaced = *displaced, .relocated = {}, .room = {}, .runs_at = runs_at};
    const auto relocated = relocate(*displaced, runs_at, copied.room);
    if (!relocated) return std::unexpected(relocated.error());
    copied.relocated = *relocated;
    return copied;
}

// What the copy of one branch does, read from its instructions.
struct BranchCopy {
    Address target;                  // where it leads
    std::optional<Address> returns;  // what it pushed before
    std::string last;                // the mnemonic that branches
};

std::uint64_t word_at(std::span<const std::byte> code, std::size_t offset, std::size_t size) {
    std::uint64_t value = 0;
    std::memcpy(&value, code.data() + offset, size);
    return value;
}

BranchCopy read_branch_copy(Capstone& decode, std::span<const std::byte> code, Address at) {
    BranchCopy found{};
    std::size_t offset = 0;
    while (offset < code.size()) {
        const Address here = at + static_cast<std::ptrdiff_t>(offset);
        const Text text = decode(code.subspan(offset), here);
        if (text.size == 0) break;
        if (text.mnemonic == "push") {
            found.returns = Address{static_cast<std::uintptr_t>(static_cast<std::int32_t>(word_at(code, offset + 1, 4)))};
        } else if (text.mnemonic == "mov") {
            found.returns = Address{(found.returns.value().value & 0xffff'ffff) | word_at(code, offset + 4, 4) << 32};
        } else if (code[offset] == std::byte{0xff} && code[offset + 1] == std::byte{0x25}) {
            found.target = Address{word_at(code, offset + 6, 8)};
            found.last = found.last.empty() ? "jmp" : found.last;
            break;
        } else {
            const Address target{std::stoull(text.operands, nullptr, 0)};
            found.last = text.mnemonic;
            found.target = target;
            if (text.size >= 5) break;
        }
        offset += text.size;
    }
    return found;
}

TEST(ReadDisplaced, StopsAtTheFirstBoundaryBehindEnough) {
    const Bytes code{0x55, 0x48, 0x89, 0xe5, 0x41, 0x57, 0x90};  // push %rbp; mov %rsp,%rbp; push %r15; nop
    for (std::size_t at_least = 1; at_least <= 5; ++at_least) {
        const auto displaced = read_displaced(as_code(code), home, at_least);
        ASSERT_TRUE(displaced);
        EXPECT_EQ(displaced->size(), at_least == 1 ? 1u : at_least <= 4 ? 4u : 6u);
        EXPECT_EQ(displaced->count, at_least == 1 ? 1 : at_least <= 4 ? 2 : 3);
        EXPECT_TRUE(displaced->goes_on);
    }
    EXPECT_EQ(read_displaced(as_code(code), home, 5)->begins, (std::array<std::uint8_t, 6>{0, 1, 4, 6, 0, 0}));
}

TEST(ReadDisplaced, StopsWhereExecutionDoes) {
    for (const Bytes& code : {Bytes{0xc3, 0x90, 0x90, 0x90, 0x90}, Bytes{0xeb, 0x10, 0x90, 0x90, 0x90},
                              Bytes{0x0f, 0x0b, 0x90, 0x90, 0x90}, Bytes{0xff, 0xe0, 0x90, 0x90, 0x90}}) {
        const auto displaced = read_displaced(as_code(code), home, 5);
        ASSERT_TRUE(displaced);
        EXPECT_EQ(displaced->count, 1);
        EXPECT_FALSE(displaced->goes_on);
    }
}

TEST(ReadDisplaced, MarksCalls) {
    const Bytes code{0x48, 0x83, 0xec, 0x08, 0xe8, 1, 2, 3, 4};  // sub $8,%rsp; call
    EXPECT_EQ(read_displaced(as_code(code), home, 5)->calls, 0b10);
    const Bytes indirect{0x90, 0xff, 0xd0, 0x41, 0xff, 0x53, 0x10};  // nop; call *%rax; call *16(%r11)
    EXPECT_EQ(read_displaced(as_code(indirect), home, 5)->calls, 0b110);
}

TEST(ReadDisplaced, RefusesWhatIsNoInstruction) {
    const Bytes code{0x90, 0x06, 0x90, 0x90, 0x90, 0x90};
    const auto refused = read_displaced(as_code(code), home, 5);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Errc::not_an_instruction);
    EXPECT_EQ(refused.error().address, home + 1);
    const Bytes cut{0x90, 0x48, 0x8b};
    EXPECT_EQ(read_displaced(as_code(cut), home, 5).error().address, home + 1) << "the code ends before the instruction does";
}

TEST(Relocate, EveryFormWithADistanceReachesTheSameOperand) {
    Capstone decode;
    std::size_t forms = 0, confirmed = 0;
    // The bytes before the ModRM byte; behind it stand the distance and bytes for immediate operands of any size.
    const auto check = [&](Bytes code) {
        code.push_back(0);
        const std::size_t modrm = code.size() - 1;
        for (const std::uint8_t byte : {0x44, 0x33, 0xab, 0x0f, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11})
            code.push_back(byte);
        for (unsigned reg = 0; reg < 8; ++reg) {
            code[modrm] = static_cast<std::uint8_t>(reg << 3 | 5);
            const auto copied = copy_of(as_code(code), home, home + away, 1);
            if (!copied || copied->displaced.size() < modrm + 5) continue;
            const bool has_distance = refers_to_memory_near_itself(as_code(code));
            if (has_distance) ++forms;
            if (copied->displaced.calls == 0) {
                // Whatever decodes it: the same bytes, but for a distance that is shorter by what the copy is further away.
                Bytes expected(code.begin(), code.begin() + static_cast<std::ptrdiff_t>(copied->displaced.size()));
                const std::uint32_t distance = 0x0fab'3344 - static_cast<std::uint32_t>(away);
                for (std::size_t byte = 0; byte < 4 && has_distance; ++byte)
                    expected[modrm + 1 + byte] = static_cast<std::uint8_t>(distance >> (8 * byte));
                ASSERT_TRUE(std::ranges::equal(copied->code().first(expected.size()), as_code(expected)))
                    << testing::PrintToString(code);
            }
            if (!has_distance) continue;
            const Text original = decode(as_code(code), home);
            if (original.size == 0) continue;
            if (original.size != copied->displaced.size()) continue;  // the two read different instructions
            if (original.operands.find("[0x") == std::string::npos) continue;
            Text moved = decode(copied->code(), copied->runs_at);
            if (copied->displaced.calls != 0) {  // push, mov, jmp *
                const std::size_t jump = 5 + 8;
                moved = decode(copied->code().subspan(jump), copied->runs_at + jump);
                moved.mnemonic.replace(moved.mnemonic.find("jmp"), 3, "call");
            }
            ASSERT_EQ(moved, original) << "bytes " << testing::PrintToString(code);
            ++confirmed;
        }
    };
    const std::vector<Bytes> prefixes{
        {},           {0x66}, {0xf2}, {0xf3},       {0x48}, {0x66, 0x48}, {0xf2, 0x48},       {0xf3, 0x48}, {0x4c},
        {0x66, 0xf2}, {0x64}, {0xf0}, {0xf0, 0x48}, {0x2e}, {0x66, 0xf3}, {0xf2, 0xf0, 0x48}, {0xf3, 0x4c}, {0x41}};
    for (unsigned opcode = 0; opcode < 256; ++opcode) {
        const auto op = static_cast<std::uint8_t>(opcode);
        for (const Bytes& prefix : prefixes)
            for (const Bytes& escape : {Bytes{}, Bytes{0x0f}, Bytes{0x0f, 0x38}, Bytes{0x0f, 0x3a}}) {
                Bytes code = prefix;
                code.insert(code.end(), escape.begin(), escape.end());
                code.push_back(op);
                check(code);
            }
        for (unsigned last = 0; last < 256; ++last) {
            // The last byte of the prefix: W, vvvv (1111 and 0110), L, pp.
            if ((last & 0x78) != 0x78 && (last & 0x78) != 0x48) continue;
            for (const std::uint8_t map : {0xe1, 0xe2, 0xe3}) check({0xc4, map, static_cast<std::uint8_t>(last), op});
            for (const std::uint8_t map : {0xe8, 0xe9, 0xea}) check({0x8f, map, static_cast<std::uint8_t>(last), op});
            if ((last & 0x04) == 0) continue;
            // EVEX: W, vvvv, 1, pp; then z, L'L, b, V', aaa.
            for (const std::uint8_t map : {0xf1, 0xf2, 0xf3, 0xf5, 0xf6})
                for (const std::uint8_t control : {0x08, 0x28, 0x48, 0x18, 0x58, 0x0a, 0x49, 0xc9})
                    check({0x62, map, static_cast<std::uint8_t>(last), control, op});
        }
        check({0xc5, 0xf8, op});
        check({0xc5, 0xfd, op});
    }
    std::printf("%zu forms copied, %zu of them confirmed by the second decoder\n", forms, confirmed);
    EXPECT_GT(forms, 40'000u);
    EXPECT_GT(confirmed, 15'000u);
}

TEST(Relocate, EveryBranchLeadsWhereItLed) {
    Capstone decode;
    std::vector<Bytes> opcodes{{0xe8}, {0xe9}, {0xeb}, {0xf2, 0xe8}, {0xf2, 0xe9}, {0x48, 0xe8}, {0x66, 0x66, 0x48, 0xe8},
                               {0xe0}, {0xe1}, {0xe2}, {0xe3},       {0x67, 0xe3}, {0x67, 0xe2}};
    for (std::uint8_t condition = 0; condition < 16; ++condition) {
        opcodes.push_back({static_cast<std::uint8_t>(0x70 + condition)});
        opcodes.push_back({0x2e, static_cast<std::uint8_t>(0x70 + condition)});
        opcodes.push_back({0x0f, static_cast<std::uint8_t>(0x80 + condition)});
        opcodes.push_back({0xf2, 0x0f, static_cast<std::uint8_t>(0x80 + condition)});
    }
    for (const std::ptrdiff_t distance : {std::ptrdiff_t{away}, std::ptrdiff_t{-away}, std::ptrdiff_t{0x2'1234'5678}}) {
        for (const Bytes& opcode : opcodes) {
            for (const std::int32_t to : {0x70, -0x70, 0x123456, -0x123456}) {
                const bool is_short =
                    opcode.back() < 0x80 || (opcode.back() >= 0xe0 && opcode.back() <= 0xe3) || opcode.back() == 0xeb;
                if (is_short && (to > 127 || to < -128)) continue;
                Bytes code = opcode;
                for (int i = 0; i < (is_short ? 1 : 4); ++i)
                    code.push_back(static_cast<std::uint8_t>(static_cast<std::uint32_t>(to) >> (8 * i)));
                const Address end = home + static_cast<std::ptrdiff_t>(code.size());
                for (int i = 0; i < 8; ++i) code.push_back(0x90);
                const auto copied = copy_of(as_code(code), home, home + distance, 1);
                ASSERT_TRUE(copied) << testing::PrintToString(code);
                const BranchCopy branch = read_branch_copy(decode, copied->code_of(0), copied->runs_at);
                EXPECT_EQ(branch.target, end + to) << testing::PrintToString(code);
                const bool is_call = opcode.back() == 0xe8;
                EXPECT_EQ(branch.returns, is_call ? std::optional(end) : std::nullopt);
                EXPECT_EQ(copied->displaced.goes_on, opcode.back() != 0xe9 && opcode.back() != 0xeb);
            }
        }
    }
}

TEST(Relocate, RefusesWhatCannotBeKept) {
    const auto refusal = [](const Bytes& code, Address runs_at = home + away) {
        Bytes padded = code;
        padded.resize(code.size() + 8, 0x90);
        const auto copied = copy_of(as_code(padded), home, runs_at, 1);
        return copied ? Error{} : copied.error();
    };
    const auto expect = [&](const Bytes& code, Errc why) {
        const Error error = refusal(code);
        EXPECT_EQ(error.code, why) << testing::PrintToString(code);
        EXPECT_EQ(error.address, home) << testing::PrintToString(code);
    };
    expect({0x66, 0xe8, 1, 2, 3, 4}, Errc::not_movable);        // a 16-bit call
    expect({0x66, 0x74, 1}, Errc::not_movable);                 // a 16-bit jump
    expect({0x67, 0x8b, 0x05, 1, 2, 3, 4}, Errc::not_movable);  // mov disp32(%eip),%eax
    expect({0xff, 0xd4}, Errc::not_movable);                    // call *%rsp
    expect({0xff, 0x1d, 1, 2, 3, 4}, Errc::not_movable);        // lcall *disp32(%rip)
    expect({0x06}, Errc::not_an_instruction);
    // An operand that the copy cannot reach: mov disp32(%rip),%eax, copied 3 GiB away.
    const Error far = refusal({0x8b, 0x05, 0, 0, 0, 0x40}, home - 0x8000'0000);
    EXPECT_EQ(far.code, Errc::out_of_reach);
    EXPECT_EQ(far.address, home + 6 + 0x4000'0000);
    // Into the middle of a displaced instruction: jne -2 of a jump over five bytes.
    const Bytes inner{0x48, 0x89, 0xe5, 0x75, 0xfc};  // mov %rsp,%rbp; jne into it
    const auto copied = copy_of(as_code(inner), home, home + away);
    ASSERT_FALSE(copied);
    EXPECT_EQ(copied.error().code, Errc::not_movable);
    EXPECT_EQ(copied.error().address, home + 3);
}

TEST(Relocate, SaysWhenThereIsNoRoom) {
    const Bytes code{0xe8, 1, 2, 3, 4};
    const auto displaced = read_displaced(as_code(code), home, 5);
    std::array<std::byte, Relocated::most_bytes> room;
    const std::size_t needed = relocate(*displaced, home + away, room)->size;
    for (std::size_t size = 0; size < needed; ++size)
        EXPECT_EQ(relocate(*displaced, home + away, std::span(room).first(size)).error().code, Errc::out_of_memory);
    EXPECT_TRUE(relocate(*displaced, home + away, std::span(room).first(needed)));
}

TEST(Relocate, NeverTakesMoreThanItSays) {
    // Five far branches, of the kind that grows most; and a call.
    const Address far = home + 0x10'0000'0000;
    std::array<std::byte, Relocated::most_bytes> room;
    for (const Bytes& code : {Bytes{0xe3, 0x70, 0xe3, 0x70, 0xe8, 1, 2, 3, 4}, Bytes{0xff, 0xd0, 0xff, 0xd0, 0xe8, 1, 2, 3, 4},
                              Bytes{0x50, 0x50, 0x50, 0x50, 0x62, 0xf1, 0x7c, 0x48, 0x10, 0x84, 0x98, 1, 2, 3, 4}}) {
        const auto displaced = read_displaced(as_code(code), home, 5);
        ASSERT_TRUE(displaced);
        EXPECT_TRUE(relocate(*displaced, far, room));
    }
}

TEST(Relocate, RandomBytesAreKeptOrRefused) {
    Capstone decode;
    std::mt19937_64 random(20261122);
    std::size_t accepted = 0, compared = 0;
    for (int round = 0; round < 400'000; ++round) {
        Bytes code(20);
        for (auto& byte : code) byte = static_cast<std::uint8_t>(random());
        // More of what matters than chance brings: ModRM bytes with a distance, prefixes, the opcodes of branches.
        if (round % 2 != 0)
            code[random() % 8] = std::array<std::uint8_t, 12>{0x05, 0x0d, 0x15, 0xe8, 0xe9, 0xff,
                                                              0x0f, 0x66, 0x48, 0x67, 0xe3, 0xc4}[random() % 12];
        const auto copied = copy_of(as_code(code), home, home + away);
        if (!copied) continue;
        ++accepted;
        for (std::size_t i = 0; i < copied->displaced.count; ++i) {
            const Address at = home + copied->displaced.begins[i];
            const Text original = decode(copied->displaced.instruction(i), at);
            const auto moved_code = copied->code_of(i);
            const Text moved = decode(moved_code, copied->at(i));
            if (original.size != copied->displaced.instruction(i).size()) continue;  // read differently
            const bool branches = original.mnemonic[0] == 'j' || original.mnemonic.starts_with("call") ||
                                  original.mnemonic.starts_with("loop") || original.mnemonic.starts_with("xbegin") ||
                                  original.mnemonic.find(" call") != std::string::npos ||
                                  original.mnemonic.find(" j") != std::string::npos;
            if (branches) continue;
            ASSERT_EQ(moved, original) << testing::PrintToString(code);
            ++compared;
        }
    }
    std::printf("%zu accepted, %zu instructions compared\n", accepted, compared);
    EXPECT_GT(accepted, 50'000u);
    EXPECT_GT(compared, 100'000u);
}

// Runs the copy in place of the original.
class CodePage {
public:
    CodePage() {
        for (std::ptrdiff_t distance = 1 << 24; at_ == MAP_FAILED && distance < (1 << 30); distance *= 2)
            at_ = mmap(
                reinterpret_cast<void*>((reinterpret_cast<std::uintptr_t>(&as_code) - static_cast<std::uintptr_t>(distance)) &
                                        ~std::uintptr_t{4095}),
                4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    }
    ~CodePage() { munmap(at_, 4096); }
    CodePage(const CodePage&) = delete;

    // Copies the first instructions of `function` and returns the copy, which goes on behind them.
    template <class F>
    F* copy(F* function) {
        const Address at = Address::of(function);
        const auto copied = copy_of(std::span(at.as<const std::byte*>(), 32), at, Address::of(static_cast<std::byte*>(at_)));
        EXPECT_TRUE(copied);
        if (!copied) return nullptr;
        std::memcpy(at_, copied->room.data(), copied->relocated.size);
        EXPECT_EQ(mprotect(at_, 4096, PROT_READ | PROT_EXEC), 0);
        return Address::of(static_cast<std::byte*>(at_)).as<F*>();
    }

private:
    void* at_ = MAP_FAILED;
};

extern "C" {
std::uint64_t relocate_test_value = 0x1122'3344'5566'7788;
void* relocate_test_return = nullptr;
[[gnu::noinline, gnu::used]] long relocate_test_callee(long x) {
    relocate_test_return = __builtin_return_address(0);
    return 3 * x;
}
long (*relocate_test_pointer)(long) = &relocate_test_callee;
long run_rip_operand(long);
long run_rip_operand_and_immediate(long);
long run_call(long);
long run_call_pointer(long);
long run_call_register(long);
long run_call_on_stack(long, long, long, long, long, long, long (*callee)(long));  // the last one on the stack
long run_conditional(long);
long run_jump(long);
long run_counter(long);
long run_inner_loop(long);
long run_loop_to_first(long);
long run_address(long);
extern const char after_call[], after_call_pointer[], after_call_register[], after_call_on_stack[];
}
asm(R"(
    .pushsection .text.relocate_test, "ax", @progbits
    .macro function name
    .p2align 4
    .globl \name
    .type \name, @function
\name:
    .endm
function run_rip_operand
    mov relocate_test_value(%rip), %rax
    add %rdi, %rax
    ret
function run_rip_operand_and_immediate
    testl $0x40, relocate_test_value(%rip)
    setne %al
    movzbl %al, %eax
    add %rdi, %rax
    ret
function run_call
    sub $8, %rsp
    call relocate_test_callee
    .globl after_call
after_call:
    add $8, %rsp
    ret
function run_call_pointer
    push %rbx
    mov %rdi, %rbx
    call *relocate_test_pointer(%rip)
    .globl after_call_pointer
after_call_pointer:
    add %rbx, %rax
    pop %rbx
    ret
function run_call_register
    mov relocate_test_pointer(%rip), %rax
    sub $8, %rsp
    call *%rax
    .globl after_call_register
after_call_register:
    add $8, %rsp
    ret
function run_call_on_stack
    call *8(%rsp)
    .globl after_call_on_stack
after_call_on_stack:
    ret
function run_conditional
    test %rdi, %rdi
    js 1f
    lea 1(%rdi), %rax
    ret
1:  lea -1(%rdi), %rax
    ret
function run_jump
    jmp 1f
    .byte 0x06, 0x06, 0x06
1:  lea 5(%rdi), %rax
    ret
function run_counter
    mov %edi, %ecx
    jrcxz 1f
    lea (%rcx,%rcx), %rax
    ret
1:  mov $77, %eax
    ret
function run_inner_loop
    xor %eax, %eax
1:  inc %eax
    dec %edi
    jnz 1b
    ret
function run_loop_to_first
    dec %edi
    jg run_loop_to_first
    movslq %edi, %rax
    ret
function run_address
    lea relocate_test_value(%rip), %rax
    add %rdi, %rax
    ret
    .purgem function
    .popsection
)");

TEST(RelocateRun, DoesWhatTheOriginalDoes) {
    using Function = long(long);
    for (Function* function :
         {&run_rip_operand, &run_rip_operand_and_immediate, &run_call, &run_call_pointer, &run_call_register, &run_conditional,
          &run_jump, &run_counter, &run_inner_loop, &run_loop_to_first, &run_address}) {
        CodePage page;
        Function* const copy = page.copy(function);
        ASSERT_NE(copy, nullptr);
        for (const long x : {0L, 1L, 7L, 1000L, -3L}) {
            if (function == &run_inner_loop && x <= 0) continue;
            EXPECT_EQ(copy(x), function(x)) << x;
        }
    }
}

TEST(RelocateRun, ACalleeSeesTheOriginalReturnAddress) {
    const std::pair<long (*)(long), const char*> calls[] = {
        {&run_call, after_call}, {&run_call_pointer, after_call_pointer}, {&run_call_register, after_call_register}};
    for (const auto& [function, after] : calls) {
        CodePage page;
        relocate_test_return = nullptr;
        page.copy(function)(1);
        EXPECT_EQ(relocate_test_return, after);
    }
    CodePage page;
    relocate_test_return = nullptr;
    EXPECT_EQ(page.copy(&run_call_on_stack)(14, 0, 0, 0, 0, 0, &relocate_test_callee), 42);
    EXPECT_EQ(relocate_test_return, after_call_on_stack);
}

}  // namespace
}  // namespace dynfunc::arch
