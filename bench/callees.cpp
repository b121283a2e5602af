// SPDX-License-Identifier: MIT
#include "callees.hpp"

namespace bench {
namespace {

struct AddOne final : Adder {
    [[gnu::aligned(64)]] int add(int x) override { return x + 1; }
};
AddOne add_one;

template <int step>
[[gnu::aligned(64)]] int add_step(int x) {
    return x + step;
}

}  // namespace

[[gnu::aligned(64)]] int callee_0(int x) { return x + 1; }

const std::array<Callee*, 8> callees = {&callee_0,    &add_step<2>, &add_step<3>, &add_step<4>,
                                        &add_step<5>, &add_step<6>, &add_step<7>, &add_step<8>};
Callee* callee_pointer = &callee_0;
Adder* adder = &add_one;

}  // namespace bench
