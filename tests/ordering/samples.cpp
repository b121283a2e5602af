// SPDX-License-Identifier: MIT
// What the library's headers put into the code of its users, for ordering_test.py to read.
#include <dynfunc/dynfunc.hpp>
#include <dynfunc/grace_period.hpp>
#include <dynfunc/object_pool.hpp>
#include <dynfunc/static_key.hpp>
#include <dynfunc/tracepoint.hpp>

namespace samples {
DYNFUNC(function, int(int), nullptr);
DYNFUNC_STATIC_KEY_FALSE(key);
DYNFUNC_TRACEPOINT(event, void(int value));
}  // namespace samples

#define SAMPLE extern "C" [[gnu::visibility("default"), gnu::noinline]]

SAMPLE int sample_section(const int* value) {
    const dynfunc::ReadSection section;
    return *value;
}

SAMPLE int sample_call(int x) { return samples::function(x) + 1; }

SAMPLE bool sample_is_enabled() { return samples::key.is_enabled(); }

SAMPLE void sample_iterate(int value) { DYNFUNC_TRACE(samples::event, value); }

SAMPLE void* sample_pop(dynfunc::ObjectPool<long>& pool) { return pool.try_pop_raw(); }
