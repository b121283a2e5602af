// SPDX-License-Identifier: MIT
#include "find_call_sites.hpp"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <sys/auxv.h>

#include <algorithm>
#include <cstring>

#include "arch.hpp"
#include "os.hpp"

namespace dynfunc {

namespace {

using Segments = std::span<const ElfW(Phdr)>;

// The program headers of an object; empty: not mapped.
Segments segments_of(const dl_find_object& object) noexcept {
    // Of an executable with gaps between its segments the dynamic linker knows each by itself: what it says is mapped need not
    // begin with the file's header. (It maps libraries in one piece, and the kernel says where the executable's headers are.)
    const auto headers = getauxval(AT_PHDR);
    dl_find_object executable;
    if (headers != 0 && _dl_find_object(reinterpret_cast<void*>(headers), &executable) == 0 &&
        executable.dlfo_link_map == object.dlfo_link_map)
        return {reinterpret_cast<const ElfW(Phdr)*>(headers), getauxval(AT_PHNUM)};
    const AddressRange mapped{Address::of(object.dlfo_map_start), Address::of(object.dlfo_map_end)};
    const auto* header = mapped.begin.as<const ElfW(Ehdr)*>();
    if (mapped.size() < sizeof *header || std::memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 ||
        header->e_phoff + header->e_phnum * sizeof(ElfW(Phdr)) > mapped.size())
        return {};
    return {(mapped.begin + static_cast<std::ptrdiff_t>(header->e_phoff)).as<const ElfW(Phdr)*>(), header->e_phnum};
}

// Of a shared object whose file's begin is mapped at its base; empty: it is not.
Segments segments_at(Address base) noexcept {
    ElfW(Ehdr) header;
    if (!os::read_memory(base.as<const void*>(), &header, sizeof header) || std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 ||
        header.e_phentsize != sizeof(ElfW(Phdr)) || header.e_phoff + header.e_phnum * sizeof(ElfW(Phdr)) > os::page_size())
        return {};
    return {(base + static_cast<std::ptrdiff_t>(header.e_phoff)).as<const ElfW(Phdr)*>(), header.e_phnum};
}

// From the first loaded segment to the end of the last.
AddressRange range_of(Segments segments, Address base) noexcept {
    AddressRange all{};
    for (const ElfW(Phdr) & segment : segments) {
        if (segment.p_type != PT_LOAD) continue;
        const Address begin = base + static_cast<std::ptrdiff_t>(segment.p_vaddr);
        if (!all.begin) all.begin = begin;  // they ascend
        all.end = begin + static_cast<std::ptrdiff_t>(segment.p_memsz);
    }
    return all;
}

}  // namespace

AddressRange object_around(const void* inside) noexcept {
    dl_find_object object;
    if (_dl_find_object(const_cast<void*>(inside), &object) != 0) return {};
    const AddressRange known{Address::of(object.dlfo_map_start), Address::of(object.dlfo_map_end)};
    const AddressRange all = range_of(segments_of(object), Address{object.dlfo_link_map->l_addr});
    return all.size() == 0 ? known : AddressRange{std::min(known.begin, all.begin), std::max(known.end, all.end)};
}

AddressRange object_loading_at(Address base) noexcept { return range_of(segments_at(base), base); }

std::optional<ObjectText> ObjectText::of(const void* inside, const char*& reason) noexcept {
    // Asks the dynamic linker's lock-free index, because this may run inside dlopen().
    dl_find_object object;
    if (_dl_find_object(const_cast<void*>(inside), &object) != 0) {
        reason = "the dynamic linker does not know its object";
        return std::nullopt;
    }
    return of(Address{object.dlfo_link_map->l_addr}, segments_of(object), Address::of(object.dlfo_eh_frame), reason);
}

std::optional<ObjectText> ObjectText::of_loading(Address base, const char*& reason) noexcept {
    const Segments segments = segments_at(base);
    const auto table = std::ranges::find(segments, ElfW(Word){PT_GNU_EH_FRAME}, &ElfW(Phdr)::p_type);
    return of(base, segments, table == segments.end() ? Address{} : base + static_cast<std::ptrdiff_t>(table->p_vaddr), reason);
}

std::optional<ObjectText> ObjectText::of(Address base, std::span<const ElfW(Phdr)> segments, Address eh_frame_hdr,
                                         const char*& reason) noexcept {
    const auto nothing = [&reason](const char* why) {
        reason = why;
        return std::nullopt;
    };
    if (!eh_frame_hdr) return nothing("its object has no unwind table (.eh_frame_hdr)");
    const AddressRange mapped = range_of(segments, base);
    if (segments.empty()) return nothing("its object's program headers are not mapped");
    const auto table = UnwindTable::of(eh_frame_hdr, mapped);
    if (!table) return nothing("its object has an unwind table of an unknown form");

    ObjectText text(*table);
    for (const ElfW(Phdr) & segment : segments) {
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
