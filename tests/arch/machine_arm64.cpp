// SPDX-License-Identifier: MIT
#include <capstone/capstone.h>

#include <stdexcept>

#include "machine.hpp"

namespace dynfunc::arch::test {

std::vector<Decoded> decode(std::span<const std::byte> code, Address at) {
    csh handle = 0;
    if (cs_open(CS_ARCH_ARM64, CS_MODE_LITTLE_ENDIAN, &handle) != CS_ERR_OK) throw std::runtime_error("cs_open");
    cs_option(handle, CS_OPT_DETAIL, CS_OPT_ON);
    cs_insn* insns = nullptr;
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(code.data());
    const std::size_t count = cs_disasm(handle, bytes, code.size(), at.value, 0, &insns);

    std::vector<Decoded> found;
    std::size_t read = 0;
    for (std::size_t i = 0; i < count; ++i) {
        const cs_insn& insn = insns[i];
        read += insn.size;
        // With its operands, except where the one operand is the target: `ret x1` is not `ret`.
        const bool direct = cs_insn_group(handle, &insn, CS_GRP_JUMP) || insn.id == ARM64_INS_BL;
        const bool has_target =
            direct && insn.detail->arm64.op_count == 1 && insn.detail->arm64.operands[0].type == ARM64_OP_IMM;
        Decoded& one = found.emplace_back(Decoded{insn.mnemonic, insn.size, {}});
        if (has_target)
            one.target = Address{static_cast<std::uintptr_t>(insn.detail->arm64.operands[0].imm)};
        else if (insn.op_str[0] != 0)
            one.mnemonic += std::string(" ") + insn.op_str;
        const cs_arm64& detail = insn.detail->arm64;
        one.indirect = insn.id == ARM64_INS_BR || insn.id == ARM64_INS_BLR;
        if (insn.id == ARM64_INS_STP && detail.writeback) one.lowers_stack = -detail.operands[2].mem.disp;
        if (insn.id == ARM64_INS_SUB && detail.operands[0].reg == ARM64_REG_SP)
            one.lowers_stack = static_cast<std::ptrdiff_t>(detail.operands[2].imm);
    }
    if (read < code.size()) found.push_back({.mnemonic = "", .size = code.size() - read, .target = {}});
    cs_free(insns, count);
    cs_close(&handle);
    return found;
}

const Mnemonics mnemonics{.call = "bl", .jump = "b", .nop = "nop", .ret = "ret", .padding = ""};

const Capabilities expected_capabilities{.patches_text = true,
                                         .site_bytes = 4,
                                         .word_bytes = 4,
                                         .integer_registers = 8,
                                         .vector_registers = 8,
                                         .swaps_return = false,
                                         .reference_bytes = 0,
                                         .reach_back = -0x800'0000,
                                         .reach_ahead = 0x7ff'fffc};
const std::ptrdiff_t target_step = 4;

const std::vector<Sample> samples{
    {SiteKind::call, Address{0x400010}, Address{0x400080}, {0x1c, 0x00, 0x00, 0x94}},
    {SiteKind::call, Address{0x400080}, Address{0x400010}, {0xe4, 0xff, 0xff, 0x97}},
    {SiteKind::tail_call, Address{0x400010}, Address{0x400080}, {0x1c, 0x00, 0x00, 0x14}},
    {SiteKind::branch, Address{0x400010}, Address{0x400010}, {0x00, 0x00, 0x00, 0x14}},
    {SiteKind::call, Address{0x400010}, Address{}, {0x1f, 0x20, 0x03, 0xd5}},
    {SiteKind::tail_call, Address{0x400010}, Address{}, {0xc0, 0x03, 0x5f, 0xd6}},
    {SiteKind::branch, Address{0x400010}, Address{}, {0x1f, 0x20, 0x03, 0xd5}},
};

const std::size_t slot_jump_bytes = 12;

// adrp x16, slot; ldr x16, [x16, :lo12:slot]; br x16
const std::vector<SlotSample> slot_jumps{
    {"slot at the end of its page",
     {0x90, 0x00, 0x00, 0xb0, 0x10, 0xfe, 0x47, 0xf9, 0x00, 0x02, 0x1f, 0xd6},
     Address{0x400010},
     Address{0x411ff8}},
    {"slot on the page before",
     {0xf0, 0xff, 0xff, 0xf0, 0x10, 0x06, 0x40, 0xf9, 0x00, 0x02, 0x1f, 0xd6},
     Address{0x400010},
     Address{0x3ff008}},
    {"slot 2.5 GiB ahead",
     {0x90, 0xa2, 0x51, 0x90, 0x10, 0x06, 0x40, 0xf9, 0x00, 0x02, 0x1f, 0xd6},
     Address{0x8000'0010},
     Address{0x1'2345'0008}},
    {"slot 3.4 GiB behind",
     {0x10, 0x80, 0x93, 0x90, 0x10, 0x0e, 0x40, 0xf9, 0x00, 0x02, 0x1f, 0xd6},
     Address{0xe000'0010},
     Address{0x0700'0018}},
    {"padded to 16 bytes",
     {0x90, 0x00, 0x00, 0xb0, 0x10, 0xfe, 0x47, 0xf9, 0x00, 0x02, 0x1f, 0xd6, 0x1f, 0x20, 0x03, 0xd5},
     Address{0x400010},
     Address{0x411ff8}},
};

const std::vector<SlotSample> not_slot_jumps{
    {"slot in the next eight bytes",
     {0x90, 0x00, 0x00, 0xb0, 0x10, 0xfe, 0x47, 0xf9, 0x00, 0x02, 0x1f, 0xd6},
     Address{0x400010},
     Address{0x412000}},
    {"slot on another page",
     {0x90, 0x00, 0x00, 0xb0, 0x10, 0xfe, 0x47, 0xf9, 0x00, 0x02, 0x1f, 0xd6},
     Address{0x400010},
     Address{0x410ff8}},
    {"site on another page",
     {0x90, 0x00, 0x00, 0xb0, 0x10, 0xfe, 0x47, 0xf9, 0x00, 0x02, 0x1f, 0xd6},
     Address{0x401010},
     Address{0x411ff8}},
    {"adrp x17",
     {0x91, 0x00, 0x00, 0xb0, 0x10, 0xfe, 0x47, 0xf9, 0x00, 0x02, 0x1f, 0xd6},
     Address{0x400010},
     Address{0x411ff8}},
    {"ldr x17, [x16]",
     {0x90, 0x00, 0x00, 0xb0, 0x11, 0xfe, 0x47, 0xf9, 0x00, 0x02, 0x1f, 0xd6},
     Address{0x400010},
     Address{0x411ff8}},
    {"ldr x16, [x17]",
     {0x90, 0x00, 0x00, 0xb0, 0x30, 0xfe, 0x47, 0xf9, 0x00, 0x02, 0x1f, 0xd6},
     Address{0x400010},
     Address{0x411ff8}},
    {"ldr w16", {0x90, 0x00, 0x00, 0xb0, 0x10, 0xfe, 0x4f, 0xb9, 0x00, 0x02, 0x1f, 0xd6}, Address{0x400010}, Address{0x411ff8}},
    {"add in place of ldr",
     {0x90, 0x00, 0x00, 0xb0, 0x10, 0xe2, 0x3f, 0x91, 0x00, 0x02, 0x1f, 0xd6},
     Address{0x400010},
     Address{0x411ff8}},
    {"blr x16", {0x90, 0x00, 0x00, 0xb0, 0x10, 0xfe, 0x47, 0xf9, 0x00, 0x02, 0x3f, 0xd6}, Address{0x400010}, Address{0x411ff8}},
    {"ret x16", {0x90, 0x00, 0x00, 0xb0, 0x10, 0xfe, 0x47, 0xf9, 0x00, 0x02, 0x5f, 0xd6}, Address{0x400010}, Address{0x411ff8}},
    {"adr in place of adrp",
     {0x90, 0x00, 0x00, 0x30, 0x10, 0xfe, 0x47, 0xf9, 0x00, 0x02, 0x1f, 0xd6},
     Address{0x400010},
     Address{0x411ff8}},
    {"first word patched to nop",
     {0x1f, 0x20, 0x03, 0xd5, 0x10, 0xfe, 0x47, 0xf9, 0x00, 0x02, 0x1f, 0xd6},
     Address{0x400010},
     Address{0x411ff8}},
    {"zeros", {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, Address{0x400010}, Address{0x400000}},
    {"ones", {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, Address{0x400010}, Address{0x3ffff8}},
};

}  // namespace dynfunc::arch::test
