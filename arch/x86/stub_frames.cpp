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

#include "code_writer.hpp"
#include "probe_stub.hpp"

namespace dynfunc::arch::x86 {
namespace {

// DWARF's numbers of registers (System V psABI, figure 3.36), and opcodes.
constexpr std::uint8_t rbx = 3, rbp = 6, rsp = 7, return_address = 16;
constexpr std::uint8_t advance_loc2 = 0x03, same_value = 0x08, def_cfa = 0x0c, def_cfa_sf = 0x12, val_expression = 0x16,
                       offset = 0x80, nop = 0x00;
constexpr std::uint8_t op_const8u = 0x0e;
constexpr std::uint8_t minus_8 = 0x78;  // signed LEB128
constexpr std::uint8_t pointer_absolute = 0x00;

constexpr std::size_t frame_bytes = 128 + sizeof(Registers);
constexpr std::size_t behind_rbp = frame_bytes - offsetof(Registers, rbp);

class Entry {
public:
    explicit Entry(std::span<std::byte> room) noexcept : bytes_(room, Address{}) { bytes_.put(std::uint32_t{0}); }

    template <class... T>
    void put(T... values) noexcept {
        (bytes_.put(values), ...);
    }
    void put_cfa(std::uint8_t reg, std::size_t distance) noexcept {
        put(def_cfa, reg);
        for (; distance >= 0x80; distance >>= 7) put(static_cast<std::uint8_t>(distance | 0x80));
        put(static_cast<std::uint8_t>(distance));
    }
    void put_next(Address next) noexcept {
        put(val_expression, return_address, std::uint8_t{9}, op_const8u, std::uint64_t{next.value});
    }
    // Those that a callee keeps for its caller; here the stub does.
    void put_saved() noexcept {
        constexpr std::pair<std::uint8_t, std::size_t> saved[] = {
            {rbx, offsetof(Registers, rbx)}, {rbp, offsetof(Registers, rbp)}, {12, offsetof(Registers, r12)},
            {13, offsetof(Registers, r13)},  {14, offsetof(Registers, r14)},  {15, offsetof(Registers, r15)}};
        for (const auto& [reg, at] : saved)
            put(static_cast<std::uint8_t>(offset | reg), static_cast<std::uint8_t>((frame_bytes - at) / 8));
    }
    void put_kept() noexcept {
        for (const std::uint8_t reg : {rbx, rbp, std::uint8_t{12}, std::uint8_t{13}, std::uint8_t{14}, std::uint8_t{15}})
            put(same_value, reg);
    }
    void advance_to(std::size_t at) noexcept {
        if (at == at_) return;
        put(advance_loc2, static_cast<std::uint16_t>(at - at_));
        at_ = at;
    }
    // Its length goes to its beginning.
    std::size_t finish(std::span<std::byte> room) noexcept {
        while (bytes_.size() % 8 != 0) put(nop);
        const auto size = bytes_.finish();
        if (!size) return 0;
        CodeWriter(room, Address{}).put(static_cast<std::uint32_t>(*size - sizeof(std::uint32_t)));
        return *size;
    }

private:
    CodeWriter bytes_;
    std::size_t at_ = 0;
};

}  // namespace

std::size_t encode_frames_begin(std::span<std::byte> room) noexcept {
    Entry entry(room);
    entry.put(std::uint32_t{0}, std::uint8_t{1});
    for (const char c : {'z', 'R', 'S', '\0'}) entry.put(static_cast<std::uint8_t>(c));
    entry.put(std::uint8_t{1}, minus_8, return_address, std::uint8_t{1}, pointer_absolute);
    entry.put_cfa(rsp, 0);
    return entry.finish(room);
}

std::uint16_t elf_machine() noexcept { return EM_X86_64; }

std::size_t encode_jump_frame(std::size_t from_begin, Address at, Address runs_at, std::span<std::byte> room) noexcept {
    Entry entry(room);
    entry.put(static_cast<std::uint32_t>(from_begin + sizeof(std::uint32_t)));
    entry.put(std::uint64_t{runs_at.value}, std::uint64_t{jump_anywhere_bytes}, std::uint8_t{0});
    entry.put_next(at);
    return entry.finish(room);
}

std::size_t encode_frame(std::size_t from_begin, const Stub& stub, const Displaced& displaced, Address runs_at,
                         std::span<std::byte> room) noexcept {
    Entry entry(room);
    entry.put(static_cast<std::uint32_t>(from_begin + sizeof(std::uint32_t)));
    entry.put(std::uint64_t{runs_at.value}, std::uint64_t{stub.size}, std::uint8_t{0});
    entry.put_next(displaced.at);
    if (stub.has_frame()) {
        entry.advance_to(stub.frame[0]);
        entry.put_cfa(rsp, frame_bytes);
        entry.advance_to(stub.frame[1]);
        entry.put_cfa(rbp, behind_rbp);
        entry.put_saved();
        entry.advance_to(stub.frame[2]);
        entry.put_cfa(rsp, frame_bytes);
        entry.advance_to(stub.frame[3]);
        entry.put_cfa(rsp, 0);
        entry.put_kept();
    }
    for (std::size_t i = 1; i <= displaced.count; ++i) {
        entry.advance_to(stub.copy + (i < displaced.count ? stub.relocated.begins[i] : stub.relocated.back));
        entry.put_next(displaced.at + displaced.begins[i]);
    }
    if (!stub.has_frame()) return entry.finish(room);
    entry.advance_to(stub.copy + std::size_t{stub.relocated.size});
    entry.put_next(displaced.at);
    entry.put_cfa(rsp, frame_bytes);
    entry.put_saved();
    if (stub.frame[4] != 0) {
        entry.advance_to(stub.frame[4] + std::size_t{stub.relocated.size});
        entry.put(def_cfa_sf, rsp, std::uint8_t{1});  // -8: the function as if its caller had just called it
        entry.put_kept();
        entry.advance_to(stub.frame[5] + std::size_t{stub.relocated.size});
        entry.put_cfa(rsp, frame_bytes);
        entry.put_saved();
    }
    return entry.finish(room);
}

}  // namespace dynfunc::arch::x86
