// SPDX-License-Identifier: MIT
// What the traced loops call: callbacks that do nothing, each on its own cache line, defined where no caller sees into them.
#pragma once

#include <cstddef>
#include <cstdint>

namespace bench {

using Callback = void(std::uint64_t key, std::uint64_t bytes);
using CallbackWithData = void(std::uint64_t key, std::uint64_t bytes, void* data);

constexpr std::size_t most_callbacks = 8;

template <std::size_t i>
void callback(std::uint64_t key, std::uint64_t bytes);
template <std::size_t i>
void callback_with_data(std::uint64_t key, std::uint64_t bytes, void* data);

// The same by number.
extern Callback* const callbacks[most_callbacks];

// What an iterator walks: an array that ends with a null function.
struct Listener {
    CallbackWithData* function;
    void* data;
};

// The array with so many callbacks. Loops read this anew for each event, as whoever attaches replaces it.
extern const Listener* listeners[most_callbacks + 1];

}  // namespace bench
