// SPDX-License-Identifier: MIT
#include "find_call_sites.hpp"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>

#include <algorithm>
#include <cstring>

#include "arch.hpp"

namespace dynfunc {

std::optional<ObjectText> ObjectText::of(const void* inside, const char*& reason) noexcept {
    const auto nothing = [&reason](const char* why) {
        reason = why;
        return std::nullopt;
    };
    // Asks the dynamic linker's lock-free index, because this may run inside dlopen().
    dl_find_object object;
    if (_dl_find_object(const_cast<void*>(inside), &object) != 0) return nothing("the dynamic linker does not know its object");
    const AddressRange mapped{Address::of(object.dlfo_map_start), Address::of(object.dlfo_map_end)};
    if (object.dlfo_eh_frame == nullptr) return nothing("its object has no unwind table (.eh_frame_hdr)");
    const auto table = UnwindTable::of(Address::of(object.dlfo_eh_frame), mapped);
    if (!table) return nothing("its object has an unwind table of an unknown form");

    const auto* header = mapped.begin.as<const ElfW(Ehdr)*>();
    if (mapped.size() < sizeof *header || std::memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 ||
        header->e_phoff + header->e_phnum * sizeof(ElfW(Phdr)) > mapped.size())
        return nothing("its object's program headers are not mapped");
    const auto* segments = (mapped.begin + static_cast<std::ptrdiff_t>(header->e_phoff)).as<const ElfW(Phdr)*>();
    const Address base{object.dlfo_link_map->l_addr};
    ObjectText text(*table);
    for (std::size_t i = 0; i < header->e_phnum; ++i) {
        const ElfW(Phdr)& segment = segments[i];
        if (segment.p_type != PT_LOAD || (segment.p_flags & PF_X) == 0 || (segment.p_flags & PF_R) == 0) continue;
        if (text.count_ == most_segments) break;
        const Address begin = base + static_cast<std::ptrdiff_t>(segment.p_vaddr);
        text.text_[text.count_++] = {begin, begin + static_cast<std::ptrdiff_t>(segment.p_filesz)};
    }
    if (text.count_ == 0) return nothing("its object's text may not be read");
    return text;
}

std::size_t ObjectText::bytes() const noexcept {
    std::size_t sum = 0;
    for (std::size_t i = 0; i < count_; ++i) sum += text_[i].size();
    return sum;
}

Address ObjectText::next(AddressRange text, Address from, std::span<const Address> trampolines,
                         std::span<const AddressRange> left_out) noexcept {
    const AddressRange window{trampolines.front(), trampolines.back() + 1};
    while (const Address field = arch::find_reference(text, from, window)) {
        from = field + 1;
        if (!std::binary_search(trampolines.begin(), trampolines.end(), arch::reference_target(field))) continue;
        if (std::any_of(left_out.begin(), left_out.end(), [&](AddressRange range) { return range.contains(field); })) continue;
        return field;
    }
    return {};
}

}  // namespace dynfunc
