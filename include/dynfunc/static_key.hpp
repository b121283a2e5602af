// SPDX-License-Identifier: MIT
// Static keys: switches that are read all the time and changed rarely. While nobody changes them they cost a nop or a jump, and
// no load.
//
//     DYNFUNC_STATIC_KEY_FALSE(verbose);                       // one file, in any named namespace; _TRUE: enabled at start
//     DYNFUNC_STATIC_KEY_DECLARE(verbose);                     // a header
//     void step(int n) { if (static_branch_unlikely(verbose)) log(n); }
//     if (auto done = verbose.enable(); !done) report(done.error().message());
//
// How: each static_branch_...() is a branch site, one instruction that the library rewrites while other threads run it: one
// aligned store and one membarrier, no signal handler. What stands at a site:
//
//                                  key enabled    key disabled
//     static_branch_likely()       nop            jump
//     static_branch_unlikely()     jump           nop
//
// with the expected side next to the nop. The initial value decides nothing but the start: a site of a key that starts enabled
// is the same as one of a key that was enabled later, as these four show in the instant after start-up:
//
//                                  DYNFUNC_STATIC_KEY_TRUE    DYNFUNC_STATIC_KEY_FALSE
//     static_branch_likely()       nop                        jump
//     static_branch_unlikely()     jump                       nop
//
// What if a process cannot patch, or before its sites are announced? As linked, a site jumps to code that loads the key and
// tests it: same results, a little slower. dynfunc::static_keys() (introspect.hpp) tells how many sites are patched.
//
// What does it cost at start-up? Each page of code that has sites is written once and then is a private copy of the process.
//
// Limits: not inside functions and unnamed namespaces.
#pragma once

#include <initializer_list>
#include <span>

#include <dynfunc/detail/branch.hpp>
#include <dynfunc/detail/name.hpp>
#include <dynfunc/result.hpp>

namespace dynfunc {

// One element of a batch: this key is to be enabled or disabled. Made by StaticKey::to().
class KeyUpdate {
public:
    constexpr KeyUpdate() noexcept = default;  // an empty element; update_all() refuses it

private:
    template <class Tag>
    friend class StaticKey;
    friend class Registry;
    enum class Step : std::uint8_t { enable, disable, increment, decrement };
    constexpr KeyUpdate(detail::StaticKeyData* key, Step step) noexcept : key_(key), step_(step) {}

    detail::StaticKeyData* key_ = nullptr;
    Step step_ = Step::enable;
};

// Changes many keys, all or none, with one membarrier for all of them. Running code may see the elements change one after the
// other while it works; when it returns every site of each key goes the new way.
// Threads:  any; updates are serialised.
// Blocks:   yes, takes the library's text lock. Not from signal handlers.
// Ordering: what the caller wrote before is visible on the new side of every site that takes it.
// Errors:   empty_batch, duplicate_in_batch, foreign_key, count_out_of_range, bytes_changed, out_of_memory, text_not_writable,
//           sync_failed; `element` is the index. Then every key is as it was.
[[nodiscard]] DYNFUNC_EXPORT Result<void> update_all(std::span<const KeyUpdate> batch) noexcept;

[[nodiscard]] inline Result<void> update_all(std::initializer_list<KeyUpdate> batch) noexcept {
    return update_all(std::span<const KeyUpdate>(batch.begin(), batch.size()));
}

// One static key. Made by the macros below, never by hand; not copied, not moved. `Tag` is unique to the key.
template <class Tag>
class StaticKey {
public:
    // For the macros only.
    consteval StaticKey(bool enabled, const char* file, unsigned line)
        : key_{.branch = {.enabled = enabled,
                          .sites = nullptr,
                          .identity_at = offsetof(detail::StaticKeyData, identity) - offsetof(detail::StaticKeyData, branch),
                          .abi = detail::abi_version,
                          .in_batch = false},
               .count = enabled,
               .identity = detail::identity_of<Tag>(file, line, "", this)} {}

    StaticKey(const StaticKey&) = delete;
    StaticKey& operator=(const StaticKey&) = delete;

    // Loads the key. For code that asks rarely; otherwise static_branch_...().
    // Threads: any, also signal handlers.  Ordering: acquire.
    bool is_enabled() const noexcept { return detail::is_enabled(key_.branch); }

    // enable(): enabled with a count of 1, unless it is enabled already. disable(): disabled, whatever the count was.
    // increment(), decrement(): for several users of one key, each of whom takes back what it gave: enabled while the count is
    // above 0. Do not mix the two pairs on one key.
    // Contract: as update_all(). Errors: count_out_of_range also where a decrement() has no increment() to take back.
    [[nodiscard]] Result<void> enable() noexcept { return update(KeyUpdate::Step::enable); }
    [[nodiscard]] Result<void> disable() noexcept { return update(KeyUpdate::Step::disable); }
    [[nodiscard]] Result<void> increment() noexcept { return update(KeyUpdate::Step::increment); }
    [[nodiscard]] Result<void> decrement() noexcept { return update(KeyUpdate::Step::decrement); }

    // An element for update_all(): as enable(), as disable().
    [[nodiscard]] KeyUpdate to(bool enabled) noexcept {
        return KeyUpdate(&key_, enabled ? KeyUpdate::Step::enable : KeyUpdate::Step::disable);
    }

    // The two branches. `if (static_branch_unlikely(verbose))`: the body is out of the way and costs a nop while disabled.
    // Threads: any, also signal handlers.
    [[gnu::always_inline]] friend bool static_branch_unlikely(const StaticKey& key) noexcept {
        refuse_unnamed();
        return detail::branch_unlikely<Tag>(key.key_.branch);
    }
    [[gnu::always_inline]] friend bool static_branch_likely(const StaticKey& key) noexcept {
        refuse_unnamed();
        return detail::branch_likely<Tag>(key.key_.branch);
    }

private:
    static consteval void refuse_unnamed() {
        static_assert(!detail::mentions_unnamed_namespace<Tag>(),
                      "dynfunc: a static key cannot stand in an unnamed namespace: give the namespace a name");
    }
    Result<void> update(KeyUpdate::Step step) noexcept {
        const KeyUpdate one(&key_, step);
        return update_all(std::span<const KeyUpdate>(&one, 1));
    }

    detail::StaticKeyData key_;
};

}  // namespace dynfunc

// Declares a static key, in a header used by any number of files, in any named namespace. (The tag is declared by itself first:
// named only in the next line it would be an outer namespace's.)
#define DYNFUNC_STATIC_KEY_DECLARE(name)                  \
    struct name##_dynfunc_tag;                            \
    extern ::dynfunc::StaticKey<name##_dynfunc_tag> name; \
    ::dynfunc::detail::KeyConstant<&name> dynfunc_key_of(name##_dynfunc_tag*)

// Defines it, in one file, declared before or not.
#define DYNFUNC_STATIC_KEY_TRUE(name) DYNFUNC_DETAIL_STATIC_KEY(name, true)
#define DYNFUNC_STATIC_KEY_FALSE(name) DYNFUNC_DETAIL_STATIC_KEY(name, false)
#define DYNFUNC_DETAIL_STATIC_KEY(name, enabled)                                                                              \
    DYNFUNC_STATIC_KEY_DECLARE(name);                                                                                         \
    [[gnu::used, gnu::retain, gnu::section("dynfunc_static_keys")]] constinit ::dynfunc::StaticKey<name##_dynfunc_tag> name { \
        enabled, __FILE__, __LINE__                                                                                           \
    }
