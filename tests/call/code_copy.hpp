// SPDX-License-Identifier: MIT
// A small function, copied to a chosen place.
#pragma once

#include <sys/mman.h>
#include <dynfunc/address.hpp>

#include <cstring>

#include "os.hpp"

namespace dynfunc::test {

// Leaves without addresses in them: their bytes do the same anywhere.
template <int tag>
[[gnu::noinline, gnu::no_stack_protector]] __attribute__((no_sanitize("address", "undefined", "thread"))) int leaf(int x) {
    return x * 16 + tag;
}

class CodeCopy {
public:
    using Function = int (*)(int);

    CodeCopy() = default;
    // At `offset` in the first free page from `wanted` on.
    CodeCopy(Function original, Address wanted, std::size_t offset) {
        const std::size_t size = os::page_size();
        for (std::uintptr_t page = wanted.value & ~(size - 1); memory_ == nullptr; page += size) {
            void* memory = mmap(Address{page}.as<void*>(), size, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
            if (memory != MAP_FAILED) memory_ = memory;
        }
        char* to = static_cast<char*>(memory_) + offset;
        std::memcpy(to, reinterpret_cast<const void*>(original), length);
        mprotect(memory_, size, PROT_READ | PROT_EXEC);
        __builtin___clear_cache(to, to + length);
        entry_ = reinterpret_cast<Function>(to);
    }
    CodeCopy(const CodeCopy&) = delete;
    ~CodeCopy() { munmap(memory_, os::page_size()); }

    Function entry() const { return entry_; }

private:
    static constexpr std::size_t length = 96;  // more than any compiler makes of a leaf

    void* memory_ = nullptr;
    Function entry_ = nullptr;
};

}  // namespace dynfunc::test
