// SPDX-License-Identifier: MIT
#include "stub_frames.hpp"

#include <sys/mman.h>

#include <cstring>

extern "C" {
// Of libgcc: takes what would be a section .eh_frame, up to four zero bytes. LLVM's libunwind has it too, and takes one entry.
void __register_frame(void* begin);
[[gnu::weak]] void __unw_add_dynamic_fde(std::uintptr_t entry);
}

namespace dynfunc {

bool register_frames(std::span<const StubFrame> frames) noexcept {
    if (frames.empty()) return true;
    constexpr std::size_t most_entry_bytes = 256, most_end_bytes = 8;
    const std::size_t bytes = most_entry_bytes * (frames.size() + 1) + most_end_bytes;
    void* const memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return false;
    const std::span<std::byte> room(static_cast<std::byte*>(memory), bytes);
    std::size_t size = arch::encode_frames_begin(room);
    for (const StubFrame& frame : frames) {
        std::byte* const entry = room.data() + size;
        size += arch::encode_frame(size, *frame.stub, *frame.displaced, frame.runs_at, room.subspan(size, most_entry_bytes));
        if (__unw_add_dynamic_fde != nullptr) __unw_add_dynamic_fde(reinterpret_cast<std::uintptr_t>(entry));
    }
    if (__unw_add_dynamic_fde == nullptr) __register_frame(memory);
    return true;
}

}  // namespace dynfunc
