// SPDX-License-Identifier: MIT
// How a stub is unwound: as if the probed function had been interrupted where the probe is. Everything is exact at each
// instruction, for profilers that interrupt a stub.
//
//     a jump to the stub                   CFA = rsp            rip = the probe
//     up to the first change of rsp        CFA = rsp            rip = the probe
//     until rbp is set                     CFA = rsp + frame
//     until rsp is back                    CFA = rbp + rest     what a callee would keep is saved
//     until rsp is raised                  CFA = rsp + frame    the same
//     copy of instruction i                CFA = rsp            rip = instruction i
//     jumping to a slot                    CFA = rsp - 8        rip = the probe: the return address lies below rsp
//
// The thunk of a wrap has no frame: it is its first and its last-but-one line.
//
// The caller's stack pointer is the CFA, which for an interrupted function is its own ("S": what stands there is the address of
// the next instruction, not a return address).
#include <elf.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "frame_entry.hpp"
#include "probe_stub.hpp"

namespace dynfunc::arch::x86 {
namespace {

// DWARF's numbers of registers (System V psABI, figure 3.36).
constexpr std::uint8_t rbx = 3, rbp = 6, rsp = 7, return_address = 16;
using frame_opcode::same_value, frame_opcode::def_cfa_sf;
constexpr std::uint8_t minus_8 = 0x78;  // signed LEB128
constexpr std::uint8_t pointer_absolute = 0x00;

constexpr std::size_t frame_bytes = 128 + sizeof(Registers);
constexpr std::size_t behind_rbp = frame_bytes - offsetof(Registers, rbp);

// Those that a callee keeps for its caller; here the stub does.
void put_saved(FrameEntry& entry) noexcept {
    constexpr std::pair<std::uint8_t, std::size_t> saved[] = {{rbx, offsetof(Registers, rbx)}, {rbp, offsetof(Registers, rbp)},
                                                              {12, offsetof(Registers, r12)},  {13, offsetof(Registers, r13)},
                                                              {14, offsetof(Registers, r14)},  {15, offsetof(Registers, r15)}};
    for (const auto& [reg, at] : saved) entry.put_saved(reg, (frame_bytes - at) / 8);
}
void put_kept(FrameEntry& entry) noexcept {
    for (const std::uint8_t reg : {rbx, rbp, std::uint8_t{12}, std::uint8_t{13}, std::uint8_t{14}, std::uint8_t{15}})
        entry.put(same_value, reg);
}

}  // namespace

std::size_t encode_frames_begin(std::span<std::byte> room) noexcept {
    FrameEntry entry(room);
    entry.put(std::uint32_t{0}, std::uint8_t{1});
    for (const char c : {'z', 'R', 'S', '\0'}) entry.put(static_cast<std::uint8_t>(c));
    entry.put(std::uint8_t{1}, minus_8, return_address, std::uint8_t{1}, pointer_absolute);
    entry.put_cfa(rsp, 0);
    return entry.finish();
}

std::uint16_t elf_machine() noexcept { return EM_X86_64; }

std::size_t encode_jump_frame(std::size_t from_begin, Address at, Address runs_at, std::span<std::byte> room) noexcept {
    FrameEntry entry(room);
    entry.put_function(from_begin, runs_at, jump_anywhere_bytes);
    entry.put_next(return_address, at);
    return entry.finish();
}

std::size_t encode_frame(std::size_t from_begin, const Stub& stub, const Displaced& displaced, Address runs_at,
                         std::span<std::byte> room) noexcept {
    FrameEntry entry(room);
    entry.put_function(from_begin, runs_at, stub.size);
    entry.put_next(return_address, displaced.at);
    if (stub.has_frame()) {
        entry.advance_to(stub.frame[0]);
        entry.put_cfa(rsp, frame_bytes);
        entry.advance_to(stub.frame[1]);
        entry.put_cfa(rbp, behind_rbp);
        put_saved(entry);
        entry.advance_to(stub.frame[2]);
        entry.put_cfa(rsp, frame_bytes);
        entry.advance_to(stub.frame[3]);
        entry.put_cfa(rsp, 0);
        put_kept(entry);
    }
    for (std::size_t i = 1; i <= displaced.count; ++i) {
        entry.advance_to(stub.copy + (i < displaced.count ? stub.relocated.begins[i] : stub.relocated.back));
        entry.put_next(return_address, displaced.at + displaced.begins[i]);
    }
    if (!stub.has_frame()) return entry.finish();
    entry.advance_to(stub.copy + std::size_t{stub.relocated.size});
    entry.put_next(return_address, displaced.at);
    entry.put_cfa(rsp, frame_bytes);
    put_saved(entry);
    if (stub.frame[4] != 0) {
        entry.advance_to(stub.frame[4] + std::size_t{stub.relocated.size});
        entry.put(def_cfa_sf, rsp, std::uint8_t{1});  // -8: the function as if its caller had just called it
        put_kept(entry);
        entry.advance_to(stub.frame[5] + std::size_t{stub.relocated.size});
        entry.put_cfa(rsp, frame_bytes);
        put_saved(entry);
    }
    return entry.finish();
}

}  // namespace dynfunc::arch::x86
