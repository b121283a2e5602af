// SPDX-License-Identifier: MIT
// Tracepoints: places in a program to which anyone may attach callbacks while it runs.
//
//     DYNFUNC_TRACEPOINT(cache_miss, void(std::uint64_t key, std::size_t bytes));          // one file, any named namespace
//     DYNFUNC_TRACEPOINT_DECLARE(cache_miss, void(std::uint64_t key, std::size_t bytes));  // a header
//     void load(std::uint64_t key) { DYNFUNC_TRACE(cache_miss, key, expensive_size(key)); }
//
//     auto subscription = cache_miss.attach([&n](std::uint64_t, std::size_t) { ++n; });    // ends with the Subscription
//     if (!subscription) report(subscription.error().message());
//
// Callbacks for tracepoints whose types, or libraries, are not known yet: trace_pattern.hpp.
//
// How: while nobody listens a DYNFUNC_TRACE is one nop and its arguments are not evaluated. With one callback the nop becomes a
// jump to a direct call of a trampoline, which leads to the callback by direct calls and jumps alone; with several the
// trampoline jumps to generated code that calls one after the other: no loop, no indirect call. Where a process may not patch,
// the site loads and tests a word, and several callbacks are called from an immutable array. dynfunc::tracepoints()
// (introspect.hpp) shows what each one is.
//
// Which callback is called first? The one of higher priority; of equal ones the one attached earlier.
//
// When is a callback done? detach() returns, and a callable object is destroyed, when no thread can be inside it any more. The
// price is a ReadSection around every event that is delivered. A plain function that is never unloaded may be attached with
// .static_lifetime: while it is the only callback it is called without a section, and detach() does not wait for it.
//
// May callbacks attach and detach, themselves and others? Yes. detach() from inside a callback cannot wait for that callback:
// it returns at once, and what it detached is destroyed by the next detach() or synchronize() outside.
//
// May a callback fire tracepoints, its own too? Yes. Events in a section may be nested `max_nested_events` deep in a thread;
// what is nested deeper is counted (TracepointInfo::cut) and not delivered. A function called without a section is called like
// any function: its recursion is its own affair.
//
// What if a callback throws? The exception leaves the DYNFUNC_TRACE; callbacks after it do not see that event. It must not
// leave by longjmp: its section would stay open for ever. A callback runs in the thread that fires, in any number of threads at
// once, with no lock of the library held. It must not call dlclose() or synchronize().
//
// A library that is unloaded takes its tracepoints and their subscriptions with it; callbacks that lie in it are detached, and
// dlclose() waits, with the dynamic linker's lock held, until no thread is inside a callback. So a callback must not wait for
// that lock while libraries with callbacks are unloaded (dlopen, dlsym, a thread's first use of a thread_local with a
// destructor); or detach them before dlclose(): then it waits for nobody.
//
// Limits: not inside functions and unnamed namespaces. At most 16 parameters: trivially copyable values of at most 16 bytes, or
// lvalue references, since one event goes to several callbacks.
#pragma once

#include <cstdint>
#include <memory>
#include <memory_resource>
#include <new>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include <dynfunc/detail/trace.hpp>
#include <dynfunc/result.hpp>

namespace dynfunc {

inline constexpr unsigned max_nested_events = 4;

struct AttachOptions {
    int priority = 0;              // higher first
    bool static_lifetime = false;  // a plain function that is never unloaded: see above. Without effect on anything else
    bool count_hits = false;       // Subscription::hits(): one atomic addition an event
    std::pmr::memory_resource* memory = nullptr;  // for the callback; outlives it; null: new and delete
};

// One attached callback. Move-only; detaches when it is destroyed.
class [[nodiscard]] Subscription {
public:
    Subscription() noexcept = default;  // of nothing
    Subscription(Subscription&& other) noexcept : callback_(std::exchange(other.callback_, nullptr)) {}
    Subscription& operator=(Subscription&& other) noexcept {
        Subscription(std::move(other)).swap(*this);
        return *this;
    }
    // As detach(). If that is refused, the callback stays attached, and alive, for the rest of the process.
    DYNFUNC_EXPORT ~Subscription();

    void swap(Subscription& other) noexcept { std::swap(callback_, other.callback_); }

    // False: empty, detached, or its tracepoint was unloaded.
    DYNFUNC_EXPORT bool is_attached() const noexcept;
    // Events that reached this callback, if it was attached with count_hits.
    DYNFUNC_EXPORT std::uint64_t hits() const noexcept;

    // No event reaches the callback any more; returns when no thread is inside it, and destroys it. From inside a callback or
    // another ReadSection: returns at once, destroyed later. Detaching what is not attached does nothing.
    // Threads:  any. One Subscription is used by one thread at a time.
    // Blocks:   yes, as synchronize(); takes the library's text lock. Not from signal handlers.
    // Errors:   bytes_changed, text_not_writable, sync_failed: then it is attached as before. Never for lack of memory.
    [[nodiscard]] DYNFUNC_EXPORT Result<void> detach() noexcept;

    // The same without waiting: destroyed by the next detach() or synchronize(), of any thread. For many: detach_nosync() each,
    // then one synchronize(): no thread is inside a callback any more. Where another thread reclaims at that moment it may be
    // the one that destroys them, and a little later.
    [[nodiscard]] DYNFUNC_EXPORT Result<void> detach_nosync() noexcept;

private:
    friend class Registry;
    explicit Subscription(detail::AttachedCallback* callback) noexcept : callback_(callback) {}

    detail::AttachedCallback* callback_ = nullptr;
};

// A callback that is ready to be attached; one element of attach_all(). Made by Tracepoint::attachment(). Move-only.
class [[nodiscard]] Attachment {
public:
    Attachment(Attachment&& other) noexcept
        : key_(other.key_),
          callback_(std::exchange(other.callback_, nullptr)),
          destroy_(other.destroy_),
          refused_(other.refused_) {}
    Attachment& operator=(Attachment&&) = delete;
    DYNFUNC_EXPORT ~Attachment();

private:
    template <class Tag, class Sig>
    friend class Tracepoint;
    friend class Registry;
    friend class Patterns;
    DYNFUNC_EXPORT Attachment(detail::TracepointKey& key, const detail::CallbackShape& shape,
                              const AttachOptions& options) noexcept;
    // Where the callable object is to be made; null: refused.
    DYNFUNC_EXPORT void* object() const noexcept;
    // It was made, and is to be destroyed.
    DYNFUNC_EXPORT void owns_object() noexcept;

    detail::TracepointKey* key_;
    detail::AttachedCallback* callback_;
    void (*destroy_)(void* object) noexcept = nullptr;
    Errc refused_{};  // why there is no callback_
};

// Attaches one, or many to different tracepoints, all or none, with one membarrier for all. Callers may see the elements
// arrive one after the other.
// Threads:  any, also callbacks.
// Blocks:   yes, takes the library's text lock. Not from signal handlers.
// Ordering: what the caller wrote before is visible inside the callbacks.
// Errors:   empty_batch, duplicate_in_batch (a tracepoint twice), already_attached (the same function with the same data),
//           no_callback, foreign_key, out_of_memory, bytes_changed, text_not_writable, sync_failed; `element` is the index.
//           Then nothing is attached, and the callbacks are destroyed with their Attachments (after sync_failed: by the next
//           synchronize(), because threads may have met them).
[[nodiscard]] DYNFUNC_EXPORT Result<Subscription> attach(Attachment attachment) noexcept;
[[nodiscard]] DYNFUNC_EXPORT Result<std::vector<Subscription>> attach_all(std::span<Attachment> batch) noexcept;

template <class... Attachments>
requires(sizeof...(Attachments) > 0 && (std::is_same_v<Attachments, Attachment> && ...))
    [[nodiscard]] Result<std::vector<Subscription>> attach_all(Attachments&&... batch) noexcept {
    Attachment all[] = {std::move(batch)...};
    return attach_all(std::span<Attachment>(all));
}

// One tracepoint. Made by the macros below, never by hand; not copied, not moved.
// `Tag` is unique to it; `Sig` is void(types...).
template <class Tag, class Sig>
class Tracepoint {
    static_assert(!std::is_same_v<Sig, Sig>,
                  "dynfunc: the signature of a tracepoint is void(types...): no result, no noexcept, no '...'");
};

template <class Tag, class... A>
class Tracepoint<Tag, void(A...)> {
    static_assert(sizeof...(A) <= 16, "dynfunc: a tracepoint has at most 16 parameters");
    static_assert(((std::is_lvalue_reference_v<A> || std::is_trivially_copyable_v<std::remove_reference_t<A>>)&&...) &&
                      (!std::is_rvalue_reference_v<A> && ...),
                  "dynfunc: one event goes to several callbacks, so a tracepoint's parameters are trivially copyable values or "
                  "lvalue references; pass others as const T&");

    using Function = void(A...);
    using FunctionWithData = void(A..., void*);
    using Code = detail::TraceCode<Tag, A...>;

public:
    // For DYNFUNC_TRACEPOINT only.
    consteval Tracepoint(const char* file, unsigned line, const char* signature)
        : initial_{.branch = {.enabled = 0,
                              .sites = nullptr,
                              .identity_at = offsetof(detail::TracepointKey, identity),
                              .abi = detail::abi_version,
                              .in_batch = false},
                   .outer = jump_at(offsetof(detail::TracepointKey, outer)),
                   .inner = jump_at(offsetof(detail::TracepointKey, inner)),
                   .list = nullptr,
                   .function = &Code::function,
                   .places = &detail::argument_places<A...>,
                   .parameters = Code::parameters.data(),
                   .parameter_count = sizeof...(A),
                   .chain_part = detail::ChainRoom<Tag>::part,
                   .chain_base = detail::ChainRoom<Tag>::base,
                   .emit_room = detail::ChainRoom<Tag>::emit,
                   .cut = 0,
                   .identity = detail::identity_of<Tag>(file, line, signature, this)} {
        static_assert(((std::is_reference_v<A> || (sizeof(A) <= 16 && alignof(A) <= 16)) && ...),
                      "dynfunc: a tracepoint's parameter takes more than 16 bytes: pass it as const T&");
        static_assert(sizeof(initial_) == sizeof(key_));
    }

    Tracepoint(const Tracepoint&) = delete;
    Tracepoint& operator=(const Tracepoint&) = delete;

    // Attaches a plain function; a function that gets `data` behind the arguments; a callable object, which is moved in, owned
    // and destroyed after it is detached (called in any number of threads at once). Higher priority first.
    // Contract: as dynfunc::attach(). Throws: what moving the callable throws.
    [[nodiscard]] Result<Subscription> attach(Function* function, AttachOptions options = {}) noexcept {
        return dynfunc::attach(attachment(function, options));
    }
    [[nodiscard]] Result<Subscription> attach(FunctionWithData* function, void* data, AttachOptions options = {}) noexcept {
        return dynfunc::attach(attachment(function, data, options));
    }
    template <class F>
    requires std::is_class_v<std::remove_cvref_t<F>>
    [[nodiscard]] Result<Subscription> attach(F&& callable, AttachOptions options = {}) {
        return dynfunc::attach(attachment(std::forward<F>(callable), options));
    }

    // The same as elements for attach_all().
    [[nodiscard]] Attachment attachment(Function* function, AttachOptions options = {}) noexcept {
        return Attachment(key_, {reinterpret_cast<void*>(function), nullptr, false, 0, 1, nullptr}, options);
    }
    [[nodiscard]] Attachment attachment(FunctionWithData* function, void* data, AttachOptions options = {}) noexcept {
        return Attachment(key_, {reinterpret_cast<void*>(function), data, true, 0, 1, nullptr}, options);
    }
    template <class F>
    requires std::is_class_v<std::remove_cvref_t<F>>
    [[nodiscard]] Attachment attachment(F&& callable, AttachOptions options = {}) {
        using Object = std::remove_cvref_t<F>;
        static_assert(std::is_invocable_v<Object&, A...>, "dynfunc: the callback does not take the tracepoint's arguments");
        if constexpr (std::is_convertible_v<Object, Function*>) {
            return attachment(static_cast<Function*>(callable), options);
        } else {
            Attachment made(key_,
                            {reinterpret_cast<void*>(&call_object<Object>), nullptr, true, sizeof(Object), alignof(Object),
                             [](void* object) noexcept { std::destroy_at(static_cast<Object*>(object)); }},
                            options);
            if (void* place = made.object()) {
                new (place) Object(std::forward<F>(callable));
                made.owns_object();
            }
            return made;
        }
    }

    // Whether anybody listens: for code that prepares an event. Loads the key.
    bool is_on() const noexcept { return detail::is_enabled(key_.branch); }

    // For DYNFUNC_TRACE only.
    [[gnu::always_inline]] friend bool dynfunc_is_traced(const Tracepoint& tracepoint) noexcept {
        static_assert(!detail::mentions_unnamed_namespace<Tag, void(A...)>(),
                      "dynfunc: a tracepoint, or a type in its signature, cannot stand in an unnamed namespace: give the "
                      "namespace a name");
        return detail::branch_unlikely<Tag>(tracepoint.key_.branch);
    }
    [[gnu::always_inline]] Function* dynfunc_outer_call() const noexcept {
        // No instruction. A block with nothing but a tail call in it becomes a conditional jump elsewhere, in clang, and then
        // the nop of a site at the end of a function is followed by a jump over what is left of it.
        asm volatile("");
        return detail::Site<detail::OuterCall<Tag>, Function>::call_address();
    }
    consteval const void* outer_jump() const { return &initial_.outer; }
    consteval const void* inner_jump() const { return &initial_.inner; }
    detail::TracepointKey& key() noexcept { return key_; }

private:
    template <class Object>
    static void call_object(A... a, void* object) {
        detail::tell_thread_sanitizer<Tag>();
        (*static_cast<Object*>(object))(static_cast<A&&>(a)...);
    }

    static consteval detail::BasicJump<Function*> jump_at(std::size_t offset) {
        return {.target = &Code::null_target,
                .null_target = &Code::null_target,
                .trampolines = nullptr,
                .identity_at = static_cast<std::uint32_t>(offsetof(detail::TracepointKey, identity) - offset),
                .abi = detail::abi_version,
                .returns_void = true,
                .in_batch = false,
                .changed = 0};
    }

    union {
        detail::BasicTracepointKey<Function*> initial_;  // typed, so that it is constant-initialised
        detail::TracepointKey key_;                      // the same bytes, as everything else reads them
    };
};

}  // namespace dynfunc

// Declares a tracepoint, in a header used by any number of files, in any named namespace.
#define DYNFUNC_TRACEPOINT_DECLARE(name, ...)                           \
    struct name##_dynfunc_tag;                                          \
    extern ::dynfunc::Tracepoint<name##_dynfunc_tag, __VA_ARGS__> name; \
    ::dynfunc::detail::KeyConstant<&name> dynfunc_key_of(name##_dynfunc_tag*)

// Defines it, in one file, declared before or not.
#define DYNFUNC_TRACEPOINT(name, ...)                                                                        \
    DYNFUNC_TRACEPOINT_DECLARE(name, __VA_ARGS__);                                                           \
    [[gnu::used, gnu::retain,                                                                                \
      gnu::section("dynfunc_tracepoints")]] constinit ::dynfunc::Tracepoint<name##_dynfunc_tag, __VA_ARGS__> \
        name {                                                                                               \
        __FILE__, __LINE__, #__VA_ARGS__                                                                     \
    }

// An event: while nobody listens, a nop; the arguments are evaluated only if somebody does. A statement.
// Threads:  any, also signal handlers.
#define DYNFUNC_TRACE(name, ...)                      \
    do {                                              \
        if (dynfunc_is_traced(name)) [[unlikely]]     \
            (name).dynfunc_outer_call()(__VA_ARGS__); \
    } while (false)
