// SPDX-License-Identifier: MIT
// The tracepoints of hackbench.cpp, in two kinds behind one set of names: dynfunc's (-DHACKBENCH_DYNFUNC), and what the Linux
// kernel had before static calls: a flag, and an array of functions and data that each site walks with an indirect call for
// each. Neither takes a read section: the callbacks are never detached.
//
//     HACKBENCH_TRACEPOINT(sent, void(int socket, int bytes));
//     void on_sent(int socket, int bytes HACKBENCH_DATA) { ... }
//     attach(sent, &on_sent);
//     HACKBENCH_TRACE(sent, socket, bytes);
#pragma once

#ifdef HACKBENCH_DYNFUNC
#include <cstdio>
#include <cstdlib>
#include <dynfunc/introspect.hpp>
#include <dynfunc/tracepoint.hpp>

#define HACKBENCH_TRACEPOINT(...) DYNFUNC_TRACEPOINT(__VA_ARGS__)
#define HACKBENCH_TRACE(...) DYNFUNC_TRACE(__VA_ARGS__)
#define HACKBENCH_DATA

namespace hackbench {

template <class Tracepoint, class Callback>
void attach(Tracepoint& tracepoint, Callback* callback) {
    // The Subscription stays for ever, so that no destructor detaches while others still run.
    static auto subscription = new auto(tracepoint.attach(callback, {.static_lifetime = true}));
    if (*subscription) return;
    std::fprintf(stderr, "hackbench: attach: %s\n", subscription->error().message().c_str());
    std::exit(1);
}

inline const char* form() { return to_string(dynfunc::capabilities().form); }

}  // namespace hackbench
#else
#define HACKBENCH_TRACEPOINT(name, ...) constinit ::hackbench::Tracepoint<__VA_ARGS__> name
#define HACKBENCH_TRACE(name, ...)        \
    do {                                  \
        if ((name).is_on()) [[unlikely]]  \
            (name).call_all(__VA_ARGS__); \
    } while (false)
#define HACKBENCH_DATA , void*

namespace hackbench {

template <class Sig>
class Tracepoint;

template <class... A>
class Tracepoint<void(A...)> {
public:
    bool is_on() const { return __atomic_load_n(&on_, __ATOMIC_RELAXED); }

    [[gnu::always_inline]] void call_all(A... a) const {
        for (const Listener* each = __atomic_load_n(&listeners_, __ATOMIC_ACQUIRE); each->function != nullptr; ++each)
            each->function(a..., each->data);
    }

    void attach(void (*function)(A..., void*)) {
        __atomic_store_n(&listeners_, new Listener[2]{{function, nullptr}, {nullptr, nullptr}}, __ATOMIC_RELEASE);
        __atomic_store_n(&on_, true, __ATOMIC_RELAXED);
    }

private:
    struct Listener {
        void (*function)(A..., void*);
        void* data;
    };
    static constexpr Listener none = {nullptr, nullptr};
    const Listener* listeners_ = &none;
    bool on_ = false;
};

template <class Tracepoint, class Callback>
void attach(Tracepoint& tracepoint, Callback* callback) {
    tracepoint.attach(callback);
}

inline const char* form() { return "none"; }

}  // namespace hackbench
#endif
