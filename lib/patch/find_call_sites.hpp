// SPDX-License-Identifier: MIT
// The call sites of an object: direct branches to its own trampolines.
//
//     1. find       every place in the object's text whose four bytes would lead a branch to a trampoline
//     2. confirm    read the instructions of the function around it, from where the unwind table says that it begins
//
// The first reads all text once and is quick; the second reads instructions, and is done for those functions alone whose call
// sites are wanted.
#pragma once

#include <dynfunc/address.hpp>

#include <link.h>

#include <cstddef>
#include <optional>
#include <span>

#include "unwind_table.hpp"

namespace dynfunc {

// Where the executable or shared object around an address is mapped, from its first segment to its last; empty: nobody knows
// it. Asks the dynamic linker's lock-free index (glibc 2.35), because this runs inside dlopen() and dlclose().
AddressRange object_around(const void* inside) noexcept;

// The same of a shared object that is mapped, and that the index does not have yet: its base is where its file's begin is.
AddressRange object_loading_at(Address base) noexcept;

// The text of a loaded object, from its program headers.
class ObjectText {
public:
    // `inside`: an address in the object. Nothing: it cannot be read; `reason` says why.
    static std::optional<ObjectText> of(const void* inside, const char*& reason) noexcept;

    // The same, of a shared object that the dynamic linker has mapped and not relocated yet.
    static std::optional<ObjectText> of_loading(Address base, const char*& reason) noexcept;

    std::size_t bytes() const noexcept;

    // Calls found(field) for each place whose bytes lead to one of `trampolines`, which ascend, in ascending order, but not for
    // those in `left_out`. found() returns whether to go on.
    template <class Found>
    void find(std::span<const Address> trampolines, std::span<const AddressRange> left_out, Found&& found) const noexcept {
        for (std::size_t i = 0; i < count_; ++i) {
            Address from = text_[i].begin;
            while (const Address field = next(text_[i], from, trampolines, left_out)) {
                if (!found(field)) return;
                from = field + 1;
            }
        }
    }

    // The function around a place; empty: the unwind table knows of none.
    AddressRange function_at(Address at) const noexcept { return unwind_.function_at(at); }
    const UnwindTable& unwind_table() const noexcept { return unwind_; }
    std::span<const AddressRange> segments() const noexcept { return std::span(text_).first(count_); }

private:
    explicit ObjectText(UnwindTable unwind) noexcept : unwind_(unwind) {}
    static std::optional<ObjectText> of(Address base, std::span<const ElfW(Phdr)> segments, Address eh_frame_hdr,
                                        const char*& reason) noexcept;
    static Address next(AddressRange text, Address from, std::span<const Address> trampolines,
                        std::span<const AddressRange> left_out) noexcept;

    static constexpr std::size_t most_segments = 8;
    AddressRange text_[most_segments];
    std::size_t count_ = 0;
    UnwindTable unwind_;
};

}  // namespace dynfunc
