// SPDX-License-Identifier: MIT
// What the compiler makes for each tracepoint, and what its sites and the library share.
//
// A tracepoint is a branch key and two jumps. Its sites branch by the key to a call of the outer trampoline:
//
//     callbacks                              outer         inner
//     none                                   returns       returns
//     one, static_lifetime, plain function   the function  the function
//     one plain function                     deliver       the function
//     one with data                          deliver       stub: data to its register, jump to the function
//     several                                deliver       chain: calls one after the other
//                                            `deliver` opens a ReadSection and calls the inner trampoline
//
// The site holds one call and nothing else, so that the code around it is compiled as if it were not there. (A ReadSection in
// the site makes compilers save registers at the start of the function, for code that is hardly ever run.)
//
// INV-outer: the outer jump leads to code that is never freed: a function with static_lifetime, or `deliver`. So a thread that
// comes from a site needs no section until it is in `deliver`. Both jumps are always right for the current list, whichever
// version of the other one a thread has met.
//
// Function and data are together in code that is not changed while a thread can be in it, or in one entry of an immutable list;
// so no thread meets a function with another's data, and no transition needs a grace period before it.
#pragma once

#include <algorithm>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>

#include <dynfunc/detail/branch.hpp>
#include <dynfunc/detail/machine.hpp>
#include <dynfunc/detail/name.hpp>
#include <dynfunc/grace_period.hpp>

namespace dynfunc::detail {

// The two jumps of a tracepoint, as places that trampolines ask.
template <class Tag>
struct OuterCall;
template <class Tag>
struct InnerCall;

template <class Tag>
struct PlaceAddress<OuterCall<Tag>> {
    static constexpr const void* value = Key<Tag>::object->outer_jump();
};
template <class Tag>
struct PlaceAddress<InnerCall<Tag>> {
    static constexpr const void* value = Key<Tag>::object->inner_jump();
};

// One callback in a list. Immutable, but for `function`.
struct Callback {
    void* function;  // null once it was detached from a list that could not be replaced
    void* data;
    std::uint64_t* hits;  // null: not counted
    bool with_data;       // void(A..., void*), not void(A...)
    bool static_lifetime;
    struct AttachedCallback* attached;
};

struct CallbackList {
    const Callback *begin, *end;
};

// A callback that is attached to a tracepoint or about to be. A callable object lies behind it.
struct AttachedCallback;

struct CallbackShape {
    void* function;
    void* data;  // null: the object behind
    bool with_data;
    std::size_t object_bytes, object_alignment;
    void (*destroy)(void* object) noexcept;  // null: nothing to destroy
};

// An event in a section, opened before or nested in a callback: whether it is to be delivered; then leave_nested_event()
// follows. Threads: any, also signal handlers.
DYNFUNC_EXPORT bool enter_nested_event(TracepointKey& key) noexcept;
DYNFUNC_EXPORT void leave_nested_event() noexcept;

class NestedEvent {
public:
    explicit NestedEvent(TracepointKey& key) noexcept
        : delivered_(!section_.is_nested() || enter_nested_event(key)), left_(!section_.is_nested() || !delivered_) {}
    ~NestedEvent() {
        if (!left_) leave_nested_event();
    }
    NestedEvent(const NestedEvent&) = delete;
    NestedEvent& operator=(const NestedEvent&) = delete;

    bool is_delivered() const noexcept { return delivered_; }

private:
    ReadSection section_;
    bool delivered_, left_;
};

template <class T>
consteval ParameterKind kind_of() {
    using V = std::remove_cvref_t<T>;
    if constexpr (std::is_same_v<V, bool>)
        return ParameterKind::boolean;
    else if constexpr (std::is_same_v<V, char>)
        return ParameterKind::character;
    else if constexpr (std::is_integral_v<V>)
        return std::is_signed_v<V> ? ParameterKind::signed_integer : ParameterKind::unsigned_integer;
    else if constexpr (std::is_floating_point_v<V>)
        return ParameterKind::floating_point;
    else if constexpr (std::is_pointer_v<V>)
        return ParameterKind::pointer;
    else if constexpr (std::is_same_v<V, std::string_view>)
        return ParameterKind::string_view;
    else if constexpr (std::is_same_v<V, std::string>)
        return ParameterKind::string;
    else
        return ParameterKind::other;
}

template <class T>
consteval Parameter parameter_of() {
    using V = std::remove_cvref_t<T>;
    if constexpr (requires { sizeof(V); })
        return {.type = TypeName<V>::text.data(), .kind = kind_of<T>(), .size = sizeof(V)};
    else
        return {.type = TypeName<V>::text.data(), .kind = ParameterKind::other, .size = 0};
}

// One event as a callback of a pattern sees it.
struct EventArguments {
    const TracepointKey* key;
    const void* const* values;
};
struct RelayTarget {
    void (*call)(RelayTarget& target, const EventArguments& event);
};

// Whoever comes through patched code sees what was written before it was patched; the thread sanitizer does not know that, and
// is told by a load of what was stored before the code.
template <class Tag>
inline void tell_thread_sanitizer() noexcept {
#ifdef DYNFUNC_DETAIL_THREAD_SANITIZER
    static_cast<void>(__atomic_load_n(&Key<Tag>::object->key().list, __ATOMIC_ACQUIRE));
#endif
}

template <class Tag, class... A>
struct DYNFUNC_HIDDEN TraceCode {
    static constexpr std::array<Parameter, sizeof...(A) + 1> parameters{parameter_of<A>()..., Parameter{}};

    static void null_target(A...) {}

    static void deliver(A... a) {
        if (!OutermostSection::is_possible()) [[unlikely]]
            return deliver_nested(static_cast<A&&>(a)...);
        const OutermostSection section;
        tell_thread_sanitizer<Tag>();
        Site<InnerCall<Tag>, void(A...)>::call_address()(static_cast<A&&>(a)...);
    }

    // Also the first event of a thread.
    [[gnu::noinline, gnu::cold]] static void deliver_nested(A... a) {
        const NestedEvent event(Key<Tag>::object->key());
        tell_thread_sanitizer<Tag>();
        if (event.is_delivered()) Site<InnerCall<Tag>, void(A...)>::call_address()(static_cast<A&&>(a)...);
    }

    // The form of processes that cannot patch, and of tracepoints for which there is no room.
    static void iterate(A... a) {
        // (K) pairs with the store of the list in Update::exchange: its entries are seen as they were written.
        const CallbackList* list = __atomic_load_n(&Key<Tag>::object->key().list, __ATOMIC_ACQUIRE);
        if (list == nullptr) return;
        for (const Callback* callback = list->begin; callback != list->end; ++callback) {
            void* function = __atomic_load_n(&callback->function, __ATOMIC_RELAXED);
            if (function == nullptr) continue;
            if (callback->hits != nullptr) __atomic_fetch_add(callback->hits, 1, __ATOMIC_RELAXED);
            if (callback->with_data)
                reinterpret_cast<void (*)(A..., void*)>(function)(static_cast<A&&>(a)..., callback->data);
            else
                reinterpret_cast<void (*)(A...)>(function)(static_cast<A&&>(a)...);
        }
    }

    static void relay(A... a, void* data) {
        const void* const values[] = {static_cast<const void*>(std::addressof(a))..., nullptr};
        tell_thread_sanitizer<Tag>();
        auto* target = static_cast<RelayTarget*>(data);
        target->call(*target, {&Key<Tag>::object->key(), values});
    }

    static void* function(TraceFunction which) noexcept {
        switch (which) {
            case TraceFunction::deliver:
                return reinterpret_cast<void*>(&deliver);
            case TraceFunction::iterate:
                return reinterpret_cast<void*>(&iterate);
            case TraceFunction::relay:
                return reinterpret_cast<void*>(&relay);
        }
        return nullptr;
    }
};

extern "C" DYNFUNC_HIDDEN void dynfunc_chain_base();

#ifdef DYNFUNC_DETAIL_FRAME_RULE
// Room for generated code, in the text of the DSO that defines the tracepoint: near its trampolines, with symbols, and with
// unwind rules that need no registration at run time. A part of 128 bytes for each tracepoint, and a base for each DSO.
template <class Tag>
struct DYNFUNC_HIDDEN ChainRoom {
    DYNFUNC_HIDDEN static void part();
    static constexpr void (*base)() = &dynfunc_chain_base;

#define DYNFUNC_DETAIL_CHAIN_ROOM(name, size)                  \
    ".pushsection dynfunc_chains,\"axG\",@progbits," name      \
    ",comdat\n"                                                \
    ".p2align 4\n"                                             \
    ".weak " name                                              \
    "\n"                                                       \
    ".hidden " name "\n" name                                  \
    ":\n"                                                      \
    ".cfi_startproc\n" DYNFUNC_DETAIL_FRAME_RULE ".zero " size \
    "\n.cfi_endproc\n"                                         \
    ".size " name ",.-" name                                   \
    "\n"                                                       \
    ".popsection\n"
    [[gnu::used, gnu::noinline]] DYNFUNC_HIDDEN static void emit() {
        asm volatile(".ifndef %c0\n" DYNFUNC_DETAIL_CHAIN_ROOM(
            "%c0", "128") ".endif\n"
                          ".ifndef dynfunc_chain_base\n" DYNFUNC_DETAIL_CHAIN_ROOM(
                              "dynfunc_chain_base", "32768") ".endif" ::DYNFUNC_DETAIL_SYMBOL(&part));
    }
#undef DYNFUNC_DETAIL_CHAIN_ROOM
};
#else
template <class Tag>
struct ChainRoom {
    static constexpr void (*part)() = nullptr;
    static constexpr void (*base)() = nullptr;
    static constexpr void (*emit)() = nullptr;
};
#endif

}  // namespace dynfunc::detail
