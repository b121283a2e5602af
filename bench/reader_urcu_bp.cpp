// SPDX-License-Identifier: MIT
// The flavour urcu-bp, "bulletproof", of the bench "readers": threads need not register, their words are found by a pointer.
#include "reader_flavours.hpp"
#if BENCH_HAS_URCU_BP
#include "reader_urcu.hpp"
// Behind it:
#include <urcu/urcu-bp.h>
#endif

namespace bench::readers {

#if BENCH_HAS_URCU_BP
namespace {

struct Section {
    Section() noexcept { urcu_bp_read_lock(); }
    ~Section() { urcu_bp_read_unlock(); }
};

}  // namespace

void add_urcu_bp(std::vector<Flavour>& all) {
    all.push_back({.id = "urcu-bp", .read = &read_in_sections<Section>, .synchronize = &urcu_bp_synchronize_rcu});
}
#else
void add_urcu_bp(std::vector<Flavour>& all) {
    all.push_back({.id = "urcu-bp", .absent = "liburcu-dev was not there when this was built"});
}
#endif

}  // namespace bench::readers
