// SPDX-License-Identifier: MIT
// Code of this process, read back with Zydis: in a row, along the path of a thread, or all that can be reached.
#pragma once

#include <Zydis/Zydis.h>
#include <dynfunc/address.hpp>

#include <algorithm>
#include <initializer_list>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace dynfunc::test {

using Instruction = ZydisDisassembledInstruction;

inline std::optional<Instruction> decode(Address at) {
    Instruction one;
    if (!ZYAN_SUCCESS(ZydisDisassembleIntel(ZYDIS_MACHINE_MODE_LONG_64, at.value, at.as<const void*>(), 16, &one))) return {};
    return one;
}

inline Address address_of(const Instruction& one) { return Address{static_cast<std::uintptr_t>(one.runtime_address)}; }
inline Address behind(const Instruction& one) { return address_of(one) + one.info.length; }

inline bool is_nop(const Instruction& one) { return one.info.mnemonic == ZYDIS_MNEMONIC_NOP; }
inline bool is_landing_pad(const Instruction& one) { return one.info.mnemonic == ZYDIS_MNEMONIC_ENDBR64; }
inline bool is_return(const Instruction& one) { return one.info.mnemonic == ZYDIS_MNEMONIC_RET; }
inline bool is_jump(const Instruction& one) { return one.info.mnemonic == ZYDIS_MNEMONIC_JMP; }
inline bool is_call(const Instruction& one) { return one.info.mnemonic == ZYDIS_MNEMONIC_CALL; }
inline bool is_conditional(const Instruction& one) { return one.info.meta.category == ZYDIS_CATEGORY_COND_BR; }
inline bool is_direct(const Instruction& one) { return one.operands[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE; }
inline bool is_indirect_branch(const Instruction& one) { return (is_jump(one) || is_call(one)) && !is_direct(one); }

// Reads or writes memory that it names; what calls and returns do to the stack is not counted.
inline bool names_memory(const Instruction& one) {
    if (is_nop(one)) return false;
    return std::any_of(one.operands, one.operands + one.info.operand_count_visible, [](const ZydisDecodedOperand& operand) {
        return operand.type == ZYDIS_OPERAND_TYPE_MEMORY && operand.mem.type != ZYDIS_MEMOP_TYPE_AGEN;
    });
}

// Makes or removes a frame, or saves a register.
inline bool moves_stack(const Instruction& one) {
    if (one.info.mnemonic == ZYDIS_MNEMONIC_PUSH || one.info.mnemonic == ZYDIS_MNEMONIC_POP) return true;
    return std::any_of(one.operands, one.operands + one.info.operand_count_visible, [](const ZydisDecodedOperand& operand) {
        return operand.type == ZYDIS_OPERAND_TYPE_REGISTER && operand.reg.value == ZYDIS_REGISTER_RSP;
    });
}

inline Address branch_target(const Instruction& one) {
    ZyanU64 target = 0;
    ZydisCalcAbsoluteAddress(&one.info, &one.operands[0], one.runtime_address, &target);
    return Address{static_cast<std::uintptr_t>(target)};
}

// Up to the first return or jump, which is the last element.
inline std::vector<Instruction> disassemble(Address at) {
    std::vector<Instruction> all;
    while (const auto one = decode(at)) {
        all.push_back(*one);
        at = behind(*one);
        if (is_return(*one) || is_jump(*one) || all.size() > 40) break;
    }
    return all;
}

// What a thread runs from `at` on. It goes through direct jumps and into the functions that are called, and ends at `end`, or
// behind what cannot be followed: a return, a conditional or an indirect branch.
inline std::vector<Instruction> follow(Address at, Address end = {}) {
    std::vector<Instruction> path;
    while (at != end && path.size() < 200) {
        const auto one = decode(at);
        if (!one) break;
        path.push_back(*one);
        if (is_return(*one) || is_conditional(*one) || is_indirect_branch(*one)) break;
        at = is_jump(*one) || is_call(*one) ? branch_target(*one) : behind(*one);
    }
    return path;
}

// As follow(), but behind calls, not into them.
inline std::vector<Instruction> follow_over_calls(Address at) {
    std::vector<Instruction> path;
    while (path.size() < 200) {
        const auto one = decode(at);
        if (!one) break;
        path.push_back(*one);
        if (is_return(*one) || is_conditional(*one) || is_indirect_branch(*one)) break;
        at = is_jump(*one) ? branch_target(*one) : behind(*one);
    }
    return path;
}

// Every instruction that can be reached from `at` by any way of its branches, but not inside what is called, nor at `outside`.
inline std::map<Address, Instruction> reachable(Address at, std::initializer_list<Address> outside = {}) {
    std::map<Address, Instruction> all;
    std::vector<Address> open{at};
    while (!open.empty() && all.size() < 1000) {
        const Address next = open.back();
        open.pop_back();
        if (all.contains(next) || std::find(outside.begin(), outside.end(), next) != outside.end()) continue;
        const auto one = decode(next);
        if (!one) continue;
        all.emplace(next, *one);
        if ((is_jump(*one) && is_direct(*one)) || is_conditional(*one)) open.push_back(branch_target(*one));
        if (!is_jump(*one) && !is_return(*one)) open.push_back(behind(*one));
    }
    return all;
}

inline std::string text_of(const std::vector<Instruction>& all) {
    std::string text;
    for (const Instruction& one : all) text += std::string(one.text) + '\n';
    return text;
}

}  // namespace dynfunc::test
