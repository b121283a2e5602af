// SPDX-License-Identifier: MIT
#include "event_callbacks.hpp"

#include "iterators.hpp"

namespace bench {

template <std::size_t i>
[[gnu::aligned(64)]] void callback(std::uint64_t key, std::uint64_t bytes) {
    asm volatile("" ::"r"(key), "r"(bytes));
}
template <std::size_t i>
[[gnu::aligned(64)]] void callback_with_data(std::uint64_t key, std::uint64_t bytes, void* data) {
    asm volatile("" ::"r"(key), "r"(bytes), "r"(data));
}

Callback* const callbacks[most_callbacks] = {&callback<0>, &callback<1>, &callback<2>, &callback<3>,
                                             &callback<4>, &callback<5>, &callback<6>, &callback<7>};

namespace {

constexpr CallbackWithData* with_data[most_callbacks] = {&callback_with_data<0>, &callback_with_data<1>, &callback_with_data<2>,
                                                         &callback_with_data<3>, &callback_with_data<4>, &callback_with_data<5>,
                                                         &callback_with_data<6>, &callback_with_data<7>};

struct ListenerArray {
    Listener entries[most_callbacks + 1];
};

constinit int something = 0;

constexpr ListenerArray array_of(std::size_t count) {
    ListenerArray made{};
    for (std::size_t i = 0; i < count; ++i) made.entries[i] = {with_data[i], &something};
    return made;
}

constinit const ListenerArray arrays[] = {array_of(0), array_of(1), array_of(2), array_of(3), array_of(4),
                                          array_of(5), array_of(6), array_of(7), array_of(8)};

}  // namespace

std::uint32_t iterator_switch = 1;
const Listener* listeners[most_callbacks + 1] = {arrays[0].entries, arrays[1].entries, arrays[2].entries,
                                                 arrays[3].entries, arrays[4].entries, arrays[5].entries,
                                                 arrays[6].entries, arrays[7].entries, arrays[8].entries};

}  // namespace bench
