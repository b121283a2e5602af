// SPDX-License-Identifier: MIT
// Pages on which indirect branches come to landing pads alone (arm64, BTI), made so by the test itself: what compilers and
// linkers mark for it is guarded by the dynamic linker.
#pragma once

#include <dynfunc/address.hpp>

#include <link.h>
#include <sys/mman.h>
#include <unistd.h>
#if defined(__aarch64__)
#include <sys/auxv.h>
#endif

#include <span>
#include <stdexcept>
#include <vector>

#include "surroundings.hpp"

namespace dynfunc::test {

inline bool has_guarded_pages() {
#if defined(__aarch64__)
    constexpr unsigned long bti = 1 << 17;  // HWCAP2_BTI
    return (getauxval(AT_HWCAP2) & bti) != 0;
#else
    return false;
#endif
}
inline constexpr const char* no_guarded_pages = "this machine has no guarded pages (BTI)";

// Why no page can be guarded here, and known to be; null: it can.
inline const char* why_not_guarded() {
    if (!has_guarded_pages()) return no_guarded_pages;
    return emulated ? "the emulator shows the mappings of its host, without what is guarded" : nullptr;
}

// All pages of the range, which are code. False: the system refuses.
inline bool guard_pages(AddressRange range, bool is_guarded = true) {
    constexpr int guarded = 0x10;  // PROT_BTI
    const auto page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
    const Address begin{range.begin.value & ~(page - 1)};
    const std::size_t size = (static_cast<std::size_t>(range.end - begin) + page - 1) & ~(page - 1);
    return mprotect(begin.as<void*>(), size, PROT_READ | PROT_EXEC | (is_guarded ? guarded : 0)) == 0;
}

// Guards the code of the object around an address until it is destroyed: what runs when the object is unloaded was not compiled
// for that. Where the machine guards nothing, nothing.
class GuardedCode {
public:
    explicit GuardedCode(const void* inside) : inside_(Address::of(inside)) {
        if (!has_guarded_pages()) return;
        dl_iterate_phdr(
            [](dl_phdr_info* object, std::size_t, void* self) { return static_cast<GuardedCode*>(self)->add(*object); }, this);
        guard(true);
    }
    ~GuardedCode() { guard(false); }
    GuardedCode(const GuardedCode&) = delete;

private:
    // Whether it was this object.
    int add(const dl_phdr_info& object) {
        bool found = false;
        std::vector<AddressRange> code;
        for (const ElfW(Phdr) & part : std::span(object.dlpi_phdr, object.dlpi_phnum)) {
            if (part.p_type != PT_LOAD || (part.p_flags & PF_X) == 0) continue;
            const Address begin{object.dlpi_addr + part.p_vaddr};
            code.push_back({begin, begin + static_cast<std::ptrdiff_t>(part.p_memsz)});
            found = found || code.back().contains(inside_);
        }
        if (found) ranges_ = code;
        return found ? 1 : 0;
    }
    void guard(bool is_guarded) const {
        for (const AddressRange& range : ranges_)
            if (!guard_pages(range, is_guarded)) throw std::runtime_error("the system refuses to guard a page");
    }

    Address inside_;
    std::vector<AddressRange> ranges_;
};

// Makes a place where no jump fits of a function that has one instruction, or begins with a landing pad on a page of its own.
// Otherwise why there is none.
inline const char* make_place_of_breakpoint(Address function) {
#if defined(__x86_64__)
    static_cast<void>(function);
    return nullptr;
#else
    if (const char* why = why_not_guarded()) return why;
    return guard_pages({function, function + 4}) ? nullptr : "the system refuses to guard a page";
#endif
}

}  // namespace dynfunc::test
