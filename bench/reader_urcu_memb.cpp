// SPDX-License-Identifier: MIT
// The flavour urcu-memb of the bench "readers": a word of each thread and membarrier; threads register.
#include "reader_flavours.hpp"
#if BENCH_HAS_URCU_MEMB
#include "reader_urcu.hpp"
// Behind it:
#include <urcu/urcu-memb.h>
#endif

namespace bench::readers {

#if BENCH_HAS_URCU_MEMB
namespace {

struct Section {
    Section() noexcept { urcu_memb_read_lock(); }
    ~Section() { urcu_memb_read_unlock(); }
};

struct Registration {
    Registration() noexcept { urcu_memb_register_thread(); }
    ~Registration() { urcu_memb_unregister_thread(); }
};

void read(std::size_t sections) {
    static const thread_local Registration registered;
    read_in_sections<Section>(sections);
}

}  // namespace

void add_urcu_memb(std::vector<Flavour>& all) {
    all.push_back({.id = "urcu-memb", .read = &read, .synchronize = &urcu_memb_synchronize_rcu});
}
#else
void add_urcu_memb(std::vector<Flavour>& all) {
    all.push_back({.id = "urcu-memb", .absent = "liburcu-dev was not there when this was built"});
}
#endif

}  // namespace bench::readers
