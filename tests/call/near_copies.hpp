// SPDX-License-Identifier: MIT
// Copies of small functions at distances from a trampoline whose jumps differ in every byte.
#pragma once

#include <array>
#include <memory>

#include "arch.hpp"
#include "code_copy.hpp"

namespace dynfunc::test {

constexpr std::size_t copies = 8;

// Target i returns 16 x + i.
class NearCopies {
public:
    // The distances differ from each other in each of their four bytes; what a mix of two of them reaches is not mapped.
    explicit NearCopies(Address around) {
        constexpr std::array<std::ptrdiff_t, copies> distances{0x10213000,  0x21324000,  0x32435000,  0x43546000,
                                                               -0x15263000, -0x26374000, -0x37485000, -0x48596000};
        constexpr std::array<CodeCopy::Function, copies> leaves{&leaf<0>, &leaf<1>, &leaf<2>, &leaf<3>,
                                                                &leaf<4>, &leaf<5>, &leaf<6>, &leaf<7>};
        // A machine whose branches reach less far gets the same pattern, scaled.
        const auto& machine = arch::capabilities();
        const std::ptrdiff_t scale = machine.patches_text && machine.reach_ahead < 0x7fff'0000 ? 16 : 1;
        for (std::size_t i = 0; i < copies; ++i)
            targets_[i] = std::make_unique<CodeCopy>(leaves[i], around + distances[i] / scale, 0x110 + 0x110 * i);
    }

    CodeCopy::Function operator[](std::size_t i) const { return targets_[i % copies]->entry(); }

private:
    std::array<std::unique_ptr<CodeCopy>, copies> targets_;
};

}  // namespace dynfunc::test
