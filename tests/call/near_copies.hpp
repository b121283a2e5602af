// SPDX-License-Identifier: MIT
// Copies of small functions at chosen distances from a trampoline, so that the jumps to them differ in every byte.
#pragma once

#include <dynfunc/address.hpp>
#include <sys/mman.h>

#include <array>
#include <cstring>
#include <vector>

#include "arch.hpp"
#include "os.hpp"

namespace dynfunc::test {

// Leaves without addresses in them: their bytes do the same anywhere.
template <int tag>
[[gnu::noinline, gnu::optimize("no-stack-protector"), gnu::no_sanitize("address", "undefined", "thread")]] int leaf(int x) {
    return x * 16 + tag;
}

constexpr int copies = 8;

// Target i returns 16 x + i.
class NearCopies {
public:
    using Target = int (*)(int);

    // The distances differ from each other in each of their four bytes; where one is taken, the next free page follows. What a
    // mix of two of them reaches is not mapped.
    explicit NearCopies(Address around) {
        constexpr std::array<std::ptrdiff_t, copies> distances{0x10213000,  0x21324000,  0x32435000,  0x43546000,
                                                               -0x15263000, -0x26374000, -0x37485000, -0x48596000};
        constexpr std::array<Target, copies> leaves{&leaf<0>, &leaf<1>, &leaf<2>, &leaf<3>,
                                                    &leaf<4>, &leaf<5>, &leaf<6>, &leaf<7>};
        for (std::size_t i = 0; i < copies; ++i) {
            // A machine whose branches reach less far gets the same pattern, scaled.
            const std::ptrdiff_t scale = arch::capabilities().patches_text && arch::capabilities().reach_ahead < 0x7fff0000 ? 16 : 1;
            const std::ptrdiff_t distance = distances[i] / scale;
            targets_[i] = copy(leaves[i], around + distance, 0x110 + 0x111 * static_cast<std::size_t>(i));
        }
    }
    ~NearCopies() {
        for (void* page : pages_) munmap(page, os::page_size());
    }
    NearCopies(const NearCopies&) = delete;

    Target operator[](std::size_t i) const { return targets_[i % copies]; }

private:
    Target copy(Target leaf, Address wanted, std::size_t offset) {
        const std::size_t size = os::page_size();
        offset &= ~std::size_t{15};
        for (std::uintptr_t page = wanted.value & ~(size - 1);; page += size) {
            void* memory = mmap(Address{page}.as<void*>(), size, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
            if (memory == MAP_FAILED) continue;
            pages_.push_back(memory);
            char* to = static_cast<char*>(memory) + offset;
            std::memcpy(to, reinterpret_cast<const void*>(leaf), 96);
            mprotect(memory, size, PROT_READ | PROT_EXEC);
            __builtin___clear_cache(to, to + 96);
            return reinterpret_cast<Target>(to);
        }
    }

    std::array<Target, copies> targets_;
    std::vector<void*> pages_;
};

}  // namespace dynfunc::test
