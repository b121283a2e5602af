// SPDX-License-Identifier: MIT
// Where functions begin and end, as the unwind table of their object says (.eh_frame_hdr, .eh_frame).
//
//     if (auto table = UnwindTable::of(header, mapped)) AddressRange function = table->function_at(address);
//
// Source: Linux Standard Base, Core, "Exception Frames"; DWARF 5, 6.4.1.
#pragma once

#include <dynfunc/address.hpp>

#include <cstdint>
#include <optional>

namespace dynfunc {

// Reads memory of an object that the dynamic linker mapped, or of a file that nobody trusts: never beyond `mapped`, whatever
// stands there.
class UnwindTable {
public:
    // `header` is the object's PT_GNU_EH_FRAME segment. Nothing: the object has no sorted table, or one of an unusual form.
    static std::optional<UnwindTable> of(Address header, AddressRange mapped) noexcept;

    // From the header to the end of the list of functions.
    AddressRange bytes() const noexcept {
        return {header_, Address::of(entries_) + static_cast<std::ptrdiff_t>(count_ * sizeof(Entry))};
    }

    // All of them, by address. Empty: one whose end is not known.
    std::size_t functions() const noexcept { return count_; }
    AddressRange function(std::size_t i) const noexcept;

    // Whether the frame of function(i) begins as a call leaves it: nothing between the caller's frame and the return address.
    bool is_called(std::size_t i) const noexcept;

    // Calls found(context, address) for each place of function(i) at which an exception is caught or cleaned up, as its
    // language says in the format of the C++ ABI for Itanium ("Exception Handling Tables"), which C, C++, Rust and others have.
    // Throws: what found() throws.
    void find_landing_pads(std::size_t i, void* context, void (*found)(void* context, Address pad)) const;

    // The function, or the part of one, whose instructions surround `at`; empty: none, or one whose end is not known.
    AddressRange function_at(Address at) const noexcept;

private:
    struct Entry {
        std::int32_t function, description;  // distances from the header
    };

    UnwindTable(Address header, AddressRange mapped, const Entry* entries, std::size_t count) noexcept
        : header_(header), mapped_(mapped), entries_(entries), count_(count) {}
    std::uint64_t size_of_function(Address description) const noexcept;

    Address header_;
    AddressRange mapped_;
    const Entry* entries_;  // by address of the function
    std::size_t count_;
};

}  // namespace dynfunc
