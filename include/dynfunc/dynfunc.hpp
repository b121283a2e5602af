// SPDX-License-Identifier: MIT
// Dynamic functions: assigned like a variable, called like a function.
//
//     // crc.hpp
//     DYNFUNC_DECLARE(crc, std::uint32_t(std::span<const std::byte>));
//     // crc.cpp
//     DYNFUNC(crc, std::uint32_t(std::span<const std::byte>), &crc_portable);
//     // anywhere
//     std::uint32_t sum = crc(bytes);                       // one direct call, to whatever crc is at the moment
//     if (auto done = crc.retarget(&crc_hw); !done) report(done.error().message());
//
// How: a call site calls a hidden 16-byte trampoline in its own executable or shared object, and retargeting rewrites the jump
// in it while other threads run it: one aligned store and one membarrier, no signal handler, no page that is writable and
// executable. Where a process may not patch, the trampoline jumps through a pointer: same meaning, a little slower.
// dynfunc::capabilities() (introspect.hpp) says which form this process uses and why.
//
// What if the target is null? Calls do nothing and return a value-initialised result. The arguments are evaluated all the same.
//
//     log_line.retarget(nullptr);        // void: calls return at once.  int: calls return 0.  std::string: an empty one
//
// When is the old target done? retarget() publishes: calls that begin after it reach the new target. It tells nothing about
// calls that began before: any number of threads may still be inside the old target. Before you free what it uses, or unload
// it, let the callers hold a dynfunc::ReadSection and call dynfunc::synchronize() (grace_period.hpp).
//
// A target inside a shared object that is unloaded: when an object that uses this library (any macro below, or
// DYNFUNC_GUARD_DSO) leaves by dlclose(), every function that still points into it goes back to its default target.
// An object that does not use the library cannot be noticed; retarget away from it first, as with any function pointer.
//
// Limits: not inside functions and unnamed namespaces, nor with their types in the signature (a static_assert says so). A
// signature with a comma outside parentheses needs a type alias. One copy of the library serves a function: link the shared
// library if several shared objects use it.
#pragma once

#include <initializer_list>
#include <span>
#include <type_traits>

#include <dynfunc/detail/name.hpp>
#include <dynfunc/detail/site.hpp>
#include <dynfunc/result.hpp>

namespace dynfunc {

// One element of a batch: this function is to reach that target. Made by Function::to().
class Retarget {
public:
    constexpr Retarget() noexcept = default;  // an empty element; retarget_all() refuses it

private:
    template <class Tag, class Sig>
    friend class Function;
    friend class Registry;
    constexpr Retarget(detail::FunctionKey* key, void* target) noexcept : key_(key), target_(target) {}

    detail::FunctionKey* key_ = nullptr;
    void* target_ = nullptr;
};

// Redirects many functions, all or none, with one membarrier for all of them. Callers may see the elements change one after
// the other while it runs; when it returns every new call of each function reaches its new target.
// Threads:  any; updates are serialised.
// Blocks:   yes, takes the library's text lock. Not from signal handlers.
// Ordering: as Function::retarget.
// Errors:   empty_batch, duplicate_in_batch, foreign_key, no_null_target, bytes_changed, out_of_memory,
//           text_not_writable, sync_failed; `element` is the index. Then every function is as it was.
[[nodiscard]] DYNFUNC_EXPORT Result<void> retarget_all(std::span<const Retarget> batch) noexcept;

[[nodiscard]] inline Result<void> retarget_all(std::initializer_list<Retarget> batch) noexcept {
    return retarget_all(std::span<const Retarget>(batch.begin(), batch.size()));
}

// One dynamic function. Made by the macros below, never by hand; not copied, not moved.
// `Tag` is unique to the function; `Sig` is its function type.
template <class Tag, class Sig>
class alignas(128) Function {
    using Signature = detail::Signature<Sig>;
    static_assert(Signature::is_supported);  // first, so that the reason is what the compiler says first

public:
    using Pointer = std::add_pointer_t<Sig>;

    // For DYNFUNC only.
    consteval Function(Pointer default_target, const char* file, unsigned line, const char* signature)
        : initial_{.jump = {.target = or_null_target(default_target),
                            .null_target = null_target(),
                            .trampolines = nullptr,
                            .identity_at = offsetof(detail::FunctionKey, identity),
                            .abi = detail::abi_version,
                            .returns_void = Signature::returns_void,
                            .in_batch = false,
                            .changed = 0},
                   .default_target = or_null_target(default_target),
                   .identity = detail::identity_of<Tag>(file, line, signature, this)} {}

    Function(const Function&) = delete;
    Function& operator=(const Function&) = delete;

    // Makes `crc(bytes)` a direct call, with the arguments passed once. Do not keep the pointer: with trampolines it goes on to
    // reach the current target, but in a generic build it is the target of this moment.
    operator Pointer() const noexcept {
        static_assert(!detail::mentions_unnamed_namespace<Tag, Sig>(),
                      "dynfunc: a dynamic function, or a type in its signature, cannot stand in an unnamed namespace: give the "
                      "namespace a name");
        return detail::Site<Tag, Sig>::call_address();
    }

    // Redirects this function to `new_target`; null: see above.
    // Threads:  any; updates are serialised.
    // Blocks:   yes, takes the library's text lock. Not from signal handlers.
    // Ordering: what the caller wrote before retarget() is visible inside the new target in every call that reaches it; a
    //           call that begins after retarget() returned reaches that target (or a later one).
    // Old code: may still run on return; synchronize() before unloading it.
    // Errors:   foreign_key, no_null_target, bytes_changed, out_of_memory, text_not_writable, sync_failed; then every
    //           caller still reaches the old target.
    [[nodiscard]] Result<void> retarget(Pointer new_target) noexcept {
        const Retarget one = to(new_target);
        return retarget_all(std::span<const Retarget>(&one, 1));
    }

    // A lambda without captures is a function and converts; anything with state cannot be the target of a jump.
    template <class F>
    requires std::is_class_v<std::remove_cvref_t<F>>
    [[nodiscard]] Result<void> retarget(F&& callable) noexcept {
        static_assert(std::is_convertible_v<F, Pointer>,
                      "dynfunc: the target must be a function of exactly this signature. A capturing lambda or another object "
                      "with state cannot be one: keep the state elsewhere and retarget to a plain function");
        return retarget(static_cast<Pointer>(callable));
    }

    [[nodiscard]] Result<void> retarget(std::nullptr_t) noexcept {
        static_assert(
            Signature::allows_null,
            "dynfunc: a null target needs a result that can be value-initialised (no reference, a default constructor)");
        return retarget(static_cast<Pointer>(nullptr));
    }

    // The current target; null if it was set to null.
    // Threads: any, also signal handlers.  Ordering: acquire.
    Pointer target() const noexcept {
        const auto now = reinterpret_cast<Pointer>(__atomic_load_n(&key_.jump.target, __ATOMIC_ACQUIRE));
        return now == reinterpret_cast<Pointer>(key_.jump.null_target) ? nullptr : now;
    }

    // An element for retarget_all().
    [[nodiscard]] Retarget to(Pointer new_target) noexcept { return Retarget(&key_, reinterpret_cast<void*>(new_target)); }

private:
    static consteval Pointer null_target() {
        if constexpr (Signature::allows_null)
            return &Signature::null_target;
        else
            return nullptr;
    }
    static consteval Pointer or_null_target(Pointer declared) {
        // gcc with -fsanitize=undefined does not fold the comparison of a template's address with null.
        if (!(__builtin_constant_p(declared == nullptr) && declared == nullptr)) return declared;
        if (!Signature::allows_null) throw "dynfunc: a null target needs a result that can be value-initialised";
        return null_target();
    }

    union {
        detail::BasicFunctionKey<Pointer> initial_;  // typed, so that it is constant-initialised
        detail::FunctionKey key_;                    // the same bytes, as everything else reads them
    };
    static_assert(sizeof(initial_) == sizeof(key_));
};

}  // namespace dynfunc

// Declares a dynamic function, in a header used by any number of files, in any named namespace. It has the visibility of its
// surroundings: a library compiled with -fvisibility=hidden that exports one puts `#pragma GCC visibility push(default)` and
// `pop` around it. (The tag is declared by itself first: named only in the next line it would be an outer namespace's.)
#define DYNFUNC_DECLARE(name, ...)                                    \
    struct name##_dynfunc_tag;                                        \
    extern ::dynfunc::Function<name##_dynfunc_tag, __VA_ARGS__> name; \
    ::dynfunc::detail::KeyConstant<&name> dynfunc_key_of(name##_dynfunc_tag*)

// Defines it, in one file, declared before or not. `default_target` is its target at start; it may be nullptr.
#define DYNFUNC(name, signature, default_target) \
    DYNFUNC_DECLARE(name, signature);            \
    DYNFUNC_DEFINE_STATIC(name, signature, default_target)

// The same for a static member: the declaration inside the class (any access), the definition outside, with its class:
//     class Codec { DYNFUNC_DECLARE_STATIC(decode, int(int)); };          DYNFUNC_DEFINE_STATIC(Codec::decode, int(int),
//     &slow);
#define DYNFUNC_DECLARE_STATIC(name, ...)                             \
    struct name##_dynfunc_tag;                                        \
    static ::dynfunc::Function<name##_dynfunc_tag, __VA_ARGS__> name; \
    friend ::dynfunc::detail::KeyConstant<&name> dynfunc_key_of(name##_dynfunc_tag*)

#define DYNFUNC_DEFINE_STATIC(name, signature, default_target)                                                            \
    [[gnu::used, gnu::retain, gnu::section("dynfunc_keys")]] constinit ::dynfunc::Function<name##_dynfunc_tag, signature> \
        name {                                                                                                            \
        default_target, __FILE__, __LINE__, #signature                                                                    \
    }

// In one file of a plug-in that has no dynamic function of its own but serves targets: has the plug-in noticed when it leaves.
#define DYNFUNC_GUARD_DSO() [[gnu::used]] static void (*const dynfunc_guard_dso)() = &::dynfunc::detail::emit_registrar
