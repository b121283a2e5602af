// SPDX-License-Identifier: MIT
// An object file in memory for each batch of stubs is shown to gdb by the interface for compilers that run in the process (GDB
// manual, "JIT Compilation Interface"). The unwinder of this process gets sections .eh_frame of their own.
//
//     header, sections: null, .text of each stub (without contents), .eh_frame, .symtab, .strtab
#include "stub_frames.hpp"

#include <elf.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <new>

#include "near_memory.hpp"
#include "return_slots.hpp"

// The names and layouts that gdb knows. Weak: another compiler in the same program may have them, and then there is one list.
extern "C" {

struct jit_code_entry {
    jit_code_entry *next_entry, *prev_entry;
    const char* symfile_addr;
    std::uint64_t symfile_size;
};
struct jit_descriptor {
    std::uint32_t version, action_flag;
    jit_code_entry *relevant_entry, *first_entry;
};
// gdb has a breakpoint here.
[[gnu::weak, gnu::noinline, gnu::used, gnu::visibility("default")]] void __jit_debug_register_code() { asm volatile(""); }
[[gnu::weak, gnu::used, gnu::visibility("default")]] jit_descriptor __jit_debug_descriptor = {1, 0, nullptr, nullptr};

// Of libgcc: takes what would be a section .eh_frame, up to four zero bytes. LLVM's libunwind has it too, and takes one entry.
void __register_frame(void* begin);
void __deregister_frame(void* begin);
[[gnu::weak]] void __unw_add_dynamic_fde(std::uintptr_t entry);

}  // extern "C"

namespace dynfunc {
namespace {

constexpr char names[] = "\0.text\0.eh_frame\0.symtab\0.strtab\0dynfunc_probe_stub";
constexpr std::size_t text_name = 1, frames_name = 7, symbols_name = 17, strings_name = 25, stub_name = 33;
static_assert(names[text_name] == '.' && names[frames_name + 1] == 'e' && names[symbols_name + 1] == 's' &&
              names[strings_name + 4] == 't' && names[stub_name] == 'd' && names[stub_name - 1] == '\0');

constexpr std::size_t most_entry_bytes = 320, end_bytes = 8;
constexpr std::size_t most_at_once = 16384;  // fewer sections than there are numbers for

struct Layout {
    explicit Layout(std::size_t stubs) noexcept
        : sections(sizeof(Elf64_Ehdr)),
          symbols(sections + (stubs + 4) * sizeof(Elf64_Shdr)),
          strings(symbols + (stubs + 1) * sizeof(Elf64_Sym)),
          frames((strings + sizeof names + 7) / 8 * 8),
          entry(frames + (stubs + 1) * most_entry_bytes + end_bytes),
          bytes(entry + sizeof(jit_code_entry)) {}
    std::size_t sections, symbols, strings, frames, entry, bytes;
};

template <class T>
T* at(std::byte* image, std::size_t offset) noexcept {
    return reinterpret_cast<T*>(image + offset);
}

void put_header(std::byte* image, const Layout& layout, std::size_t stubs) noexcept {
    auto& header = *at<Elf64_Ehdr>(image, 0);
    // This process's own machine and byte order: what its executable says of itself would be the same.
    std::memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = ELFCLASS64;
    header.e_ident[EI_DATA] = ELFDATA2LSB;
    header.e_ident[EI_VERSION] = EV_CURRENT;
    header.e_type = ET_REL;
    header.e_machine = arch::elf_machine();
    header.e_version = EV_CURRENT;
    header.e_ehsize = sizeof header;
    header.e_shoff = layout.sections;
    header.e_shentsize = sizeof(Elf64_Shdr);
    header.e_shnum = static_cast<Elf64_Half>(stubs + 4);
    header.e_shstrndx = static_cast<Elf64_Half>(stubs + 3);
}

void put_sections(std::byte* image, const Layout& layout, std::span<const StubFrame> stubs, std::size_t frame_bytes) noexcept {
    auto* section = at<Elf64_Shdr>(image, layout.sections) + 1;  // the first is null
    auto* symbol = at<Elf64_Sym>(image, layout.symbols) + 1;
    Elf64_Half number = 1;
    for (const StubFrame& stub : stubs) {
        *section++ = {.sh_name = text_name,
                      .sh_type = SHT_NOBITS,
                      .sh_flags = SHF_ALLOC | SHF_EXECINSTR,
                      .sh_addr = stub.runs_at.value,
                      .sh_offset = 0,
                      .sh_size = stub.size(),
                      .sh_link = 0,
                      .sh_info = 0,
                      .sh_addralign = 1,
                      .sh_entsize = 0};
        *symbol++ = {.st_name = stub_name,
                     .st_info = ELF64_ST_INFO(STB_LOCAL, STT_FUNC),
                     .st_other = 0,
                     .st_shndx = number++,
                     .st_value = 0,
                     .st_size = stub.size()};
    }
    const auto put = [&section](Elf64_Word name, Elf64_Word type, std::size_t offset, std::size_t size) -> Elf64_Shdr& {
        return *section++ = {.sh_name = name,
                             .sh_type = type,
                             .sh_flags = 0,
                             .sh_addr = 0,
                             .sh_offset = offset,
                             .sh_size = size,
                             .sh_link = 0,
                             .sh_info = 0,
                             .sh_addralign = 8,
                             .sh_entsize = 0};
    };
    Elf64_Shdr& frames = put(frames_name, SHT_PROGBITS, layout.frames, frame_bytes);
    frames.sh_flags = SHF_ALLOC;
    frames.sh_addr = reinterpret_cast<std::uintptr_t>(image + layout.frames);
    Elf64_Shdr& symbols = put(symbols_name, SHT_SYMTAB, layout.symbols, (stubs.size() + 1) * sizeof(Elf64_Sym));
    symbols.sh_link = static_cast<Elf64_Word>(stubs.size() + 3);
    symbols.sh_info = static_cast<Elf64_Word>(stubs.size() + 1);
    symbols.sh_entsize = sizeof(Elf64_Sym);
    put(strings_name, SHT_STRTAB, layout.strings, sizeof names);
    std::memcpy(image + layout.strings, names, sizeof names);
}

// How many bytes the section has, without its end.
std::size_t put_frames(std::span<std::byte> room, std::span<const StubFrame> stubs) noexcept {
    std::size_t size = arch::encode_frames_begin(room);
    for (const StubFrame& stub : stubs) size += stub.encode(size, room.subspan(size, most_entry_bytes));
    return size;
}

// A section, of which the unwinder knows the first `known` bytes already, at another place.
void tell_unwinder(std::byte* frames, std::size_t bytes, std::size_t known = 0) noexcept {
    if (__unw_add_dynamic_fde == nullptr) return __register_frame(frames);
    // Entry by entry; the first is not a function's.
    for (std::size_t offset = known; offset < bytes;) {
        if (offset != 0) __unw_add_dynamic_fde(reinterpret_cast<std::uintptr_t>(frames + offset));
        std::uint32_t length;
        std::memcpy(&length, frames + offset, sizeof length);
        offset += sizeof length + length;
    }
}

void tell_debugger(std::byte* image, const Layout& layout) noexcept {
    auto& entry = *at<jit_code_entry>(image, layout.entry);
    jit_descriptor& all = __jit_debug_descriptor;
    entry = {.next_entry = all.first_entry,
             .prev_entry = nullptr,
             .symfile_addr = reinterpret_cast<const char*>(image),
             .symfile_size = layout.entry};
    if (all.first_entry != nullptr) all.first_entry->prev_entry = &entry;
    all.first_entry = all.relevant_entry = &entry;
    constexpr std::uint32_t registered = 1;
    all.action_flag = registered;
    __jit_debug_register_code();
}

}  // namespace

// What the unwinder is to know of the page is all that it knew, and what is new. libgcc searches the one object that begins
// next below an address, and no other; so objects may not overlap, and a page of near memory has one. The former one is taken
// back when the new one is there. It is not freed: an unwinder reads what it found without a lock.
void StubFrames::tell_unwinder_of(std::uint64_t page, std::span<const StubFrame> stubs) {
    Section& section = sections_[page];
    const auto room = std::make_unique_for_overwrite<std::byte[]>((stubs.size() + 1) * most_entry_bytes);
    std::size_t size = section.size;
    if (size == 0) size = arch::encode_frames_begin({room.get(), most_entry_bytes});
    const std::size_t begin = section.size;
    for (const StubFrame& stub : stubs) size += stub.encode(size, {room.get() + (size - begin), most_entry_bytes});
    auto* const bytes = sections_of_all_times_.emplace_back(std::make_unique<std::byte[]>(size + end_bytes)).get();
    if (begin != 0) std::memcpy(bytes, section.bytes, begin);
    std::memcpy(bytes + begin, room.get(), size - begin);
    tell_unwinder(bytes, size, section.size);
    if (section.bytes != nullptr && __unw_add_dynamic_fde == nullptr) __deregister_frame(section.bytes);
    section = {bytes, size};
}

bool StubFrames::add(std::span<StubFrame> stubs) {
    const auto page_of = [](const StubFrame& stub) { return stub.runs_at.value / NearMemory::page_bytes; };
    std::ranges::sort(stubs, {}, &StubFrame::runs_at);
    for (auto next = stubs.begin(); next != stubs.end();) {
        const auto page = page_of(*next);
        const auto end = std::find_if(next, stubs.end(), [&](const StubFrame& stub) { return page_of(stub) != page; });
        tell_unwinder_of(page, {next, end});
        next = end;
    }
    while (!stubs.empty()) {
        const auto now = stubs.first(std::min(stubs.size(), most_at_once));
        const Layout layout(now.size());
        void* const memory = mmap(nullptr, layout.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) return false;
        auto* const image = static_cast<std::byte*>(memory);
        const std::size_t frame_bytes = put_frames({image + layout.frames, layout.entry - layout.frames}, now);
        put_header(image, layout, now.size());
        put_sections(image, layout, now, frame_bytes);
        tell_debugger(image, layout);
        stubs = stubs.subspan(now.size());
    }
    return true;
}

bool register_slot_frames(Address slots) noexcept {
    constexpr std::size_t bytes = 128;
    auto* const frames = new (std::nothrow) std::byte[bytes];
    if (frames == nullptr) return false;
    const auto made = arch::encode_slot_frames(slots, {frames, bytes});
    tell_unwinder(frames, made.size - sizeof(std::uint32_t));
    return true;
}

}  // namespace dynfunc
