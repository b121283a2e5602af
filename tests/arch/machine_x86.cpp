// SPDX-License-Identifier: MIT
#include <Zydis/Zydis.h>

#include "machine.hpp"

namespace dynfunc::arch::test {

std::vector<Decoded> decode(std::span<const std::byte> code, Address at) {
    ZydisDecoder decoder;
    ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    std::vector<Decoded> found;
    while (!code.empty()) {
        ZydisDecodedInstruction insn;
        ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
        if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, code.data(), code.size(), &insn, operands))) {
            found.push_back({.mnemonic = "", .size = code.size(), .target = {}});
            break;
        }
        Decoded& one = found.emplace_back(Decoded{ZydisMnemonicGetString(insn.mnemonic), insn.length, {}});
        ZyanU64 target = 0;
        if (insn.operand_count_visible > 0 && operands[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE && operands[0].imm.is_relative &&
            ZYAN_SUCCESS(ZydisCalcAbsoluteAddress(&insn, &operands[0], at.value, &target)))
            one.target = Address{target};
        const bool branches = insn.meta.category == ZYDIS_CATEGORY_CALL || insn.meta.category == ZYDIS_CATEGORY_UNCOND_BR;
        one.indirect = branches && !one.target;
        for (const ZydisDecodedOperand& operand : std::span(operands).first(insn.operand_count_visible))
            if (operand.type == ZYDIS_OPERAND_TYPE_MEMORY && operand.mem.base == ZYDIS_REGISTER_RIP &&
                ZYAN_SUCCESS(ZydisCalcAbsoluteAddress(&insn, &operand, at.value, &target)))
                one.operand = Address{target};
        if (insn.mnemonic == ZYDIS_MNEMONIC_PUSH) one.lowers_stack = 8;
        if (insn.mnemonic == ZYDIS_MNEMONIC_SUB && operands[0].reg.value == ZYDIS_REGISTER_RSP)
            one.lowers_stack = static_cast<std::ptrdiff_t>(operands[1].imm.value.s);
        at = at + insn.length;
        code = code.subspan(insn.length);
    }
    return found;
}

const Mnemonics mnemonics{.call = "call", .jump = "jmp", .nop = "nop", .ret = "ret", .padding = "int3"};

const Capabilities expected_capabilities{.patches_text = true,
                                         .site_bytes = 5,
                                         .word_bytes = 8,
                                         .copied_bytes = 64,
                                         .integer_registers = 6,
                                         .vector_registers = 8,
                                         .swaps_return = true,
                                         .slot_jump_bytes = 6,
                                         .reference_bytes = 4,
                                         .reach_back = -0x7fff'fffb,
                                         .reach_ahead = 0x8000'0004};
const std::ptrdiff_t target_step = 1;

const std::vector<Sample> samples{
    {SiteKind::call, Address{0x401000}, Address{0x401238}, {0xe8, 0x33, 0x02, 0x00, 0x00}},
    {SiteKind::call, Address{0x401238}, Address{0x401000}, {0xe8, 0xc3, 0xfd, 0xff, 0xff}},
    {SiteKind::tail_call, Address{0x401000}, Address{0x12345678}, {0xe9, 0x73, 0x46, 0xf4, 0x11}},
    {SiteKind::branch, Address{0x401000}, Address{0x401000}, {0xe9, 0xfb, 0xff, 0xff, 0xff}},
    {SiteKind::call, Address{0x401000}, Address{}, {0x0f, 0x1f, 0x44, 0x00, 0x00}},
    {SiteKind::tail_call, Address{0x401000}, Address{}, {0xc3, 0xcc, 0xcc, 0xcc, 0xcc}},
    {SiteKind::branch, Address{0x401000}, Address{}, {0x0f, 0x1f, 0x44, 0x00, 0x00}},
};

const std::vector<SlotSample> slot_jumps{
    {"slot ahead", {0xff, 0x25, 0xfa, 0x2f, 0x00, 0x00, 0xcc, 0xcc}, Address{0x401000}, Address{0x404000}},
    {"slot behind", {0xff, 0x25, 0xfa, 0xcf, 0xff, 0xff, 0xcc, 0xcc}, Address{0x404000}, Address{0x401000}},
    {"farthest slot ahead", {0xff, 0x25, 0xff, 0xff, 0xff, 0x7f, 0xcc, 0xcc}, Address{0x401000}, Address{0x8040'1005}},
    {"farthest slot behind", {0xff, 0x25, 0x00, 0x00, 0x00, 0x80, 0xcc, 0xcc}, Address{0x8040'1000}, Address{0x401006}},
    {"exactly six bytes", {0xff, 0x25, 0xfa, 0x2f, 0x00, 0x00}, Address{0x401000}, Address{0x404000}},
    {"around the end of the address space",
     {0xff, 0x25, 0xfa, 0x2f, 0x00, 0x00, 0xcc, 0xcc},
     Address{0} - 0x1000,
     Address{0x2000}},
};

const std::vector<SlotSample> not_slot_jumps{
    {"other slot", {0xff, 0x25, 0xfa, 0x2f, 0x00, 0x00, 0xcc, 0xcc}, Address{0x401000}, Address{0x404008}},
    {"slot 4 GiB away", {0xff, 0x25, 0xfa, 0x2f, 0x00, 0x00, 0xcc, 0xcc}, Address{0x401000}, Address{0x1'0040'4000}},
    {"other site", {0xff, 0x25, 0xfa, 0x2f, 0x00, 0x00, 0xcc, 0xcc}, Address{0x401010}, Address{0x404000}},
    {"jmp *%rax", {0xff, 0xe0, 0xfa, 0x2f, 0x00, 0x00, 0xcc, 0xcc}, Address{0x401000}, Address{0x404000}},
    {"jmp *0x2ffa(%rbp)", {0xff, 0xa5, 0xfa, 0x2f, 0x00, 0x00, 0xcc, 0xcc}, Address{0x401000}, Address{0x404000}},
    {"call *slot(%rip)", {0xff, 0x15, 0xfa, 0x2f, 0x00, 0x00, 0xcc, 0xcc}, Address{0x401000}, Address{0x404000}},
    {"jmp slot", {0xe9, 0xfb, 0x2f, 0x00, 0x00, 0xcc, 0xcc, 0xcc}, Address{0x401000}, Address{0x404000}},
    {"mov slot(%rip), %rax", {0x48, 0x8b, 0x05, 0xf9, 0x2f, 0x00, 0x00, 0xcc}, Address{0x401000}, Address{0x404000}},
    {"behind a breakpoint", {0xcc, 0x25, 0xfa, 0x2f, 0x00, 0x00, 0xcc, 0xcc}, Address{0x401000}, Address{0x404000}},
    {"zeros", {0, 0, 0, 0, 0, 0, 0, 0}, Address{0x401000}, Address{0x404000}},
    {"ones", {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, Address{0x401000}, Address{0x401005}},
};

}  // namespace dynfunc::arch::test
