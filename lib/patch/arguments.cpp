// SPDX-License-Identifier: MIT
#include "arguments.hpp"

#include <algorithm>

namespace dynfunc {

//     data is passed ...   general registers       stack words below the places that the measurement itself fills
//     in a register        those before it         all up to `behind`, but for the spread words that found no register
//     on the stack         every one               those before it
arch::ArgumentLayout argument_layout(const detail::ArgumentPlaces& places) noexcept {
    const std::size_t registers = arch::capabilities().integer_registers;
    const bool in_register = places.data < registers;
    const std::size_t ends = in_register ? places.behind + 1 - (detail::spread_words - (registers - places.data)) : places.data;
    return {.integers = static_cast<std::uint8_t>(std::min<std::size_t>(places.data, registers)),
            .vectors = static_cast<std::uint8_t>(std::min<std::size_t>(places.vector, arch::capabilities().vector_registers)),
            .data_in_register = in_register,
            .stack_words = static_cast<std::uint16_t>(ends - registers)};
}

}  // namespace dynfunc
