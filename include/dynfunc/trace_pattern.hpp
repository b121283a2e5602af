// SPDX-License-Identifier: MIT
// One callback for every tracepoint whose name matches, now and in libraries that are loaded later.
//
//     auto all = dynfunc::subscribe("cache_*", [](const dynfunc::TraceEvent& e) { std::puts(e.text().c_str()); });
//         cache_miss(42, 4096)
//
// The callback sees the arguments by their types as they were compiled. It is called as any other callback of a tracepoint
// (tracepoint.hpp), one function further away: a tracer's way, not the fastest.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include <dynfunc/tracepoint.hpp>

namespace dynfunc {

// One event as a callback sees it that is attached by pattern, to tracepoints whose types it does not know.
class TraceEvent {
public:
    explicit TraceEvent(const detail::EventArguments& event) noexcept : event_(event) {}

    std::string_view name() const noexcept { return event_.key->identity.name; }
    std::string_view signature() const noexcept { return event_.key->identity.signature; }  // as written at the definition
    std::size_t size() const noexcept { return event_.key->parameter_count; }

    // Argument `index`, if it is a T (arithmetic types: of the same kind and size).
    template <class T>
    std::optional<T> get(std::size_t index) const noexcept {
        if (index >= size()) return std::nullopt;
        constexpr detail::Parameter wanted = detail::parameter_of<T>();
        const detail::Parameter& parameter = event_.key->parameters[index];
        const bool arithmetic = std::is_arithmetic_v<T> && wanted.kind == parameter.kind && wanted.size == parameter.size;
        if (!arithmetic && std::string_view(wanted.type) != parameter.type) return std::nullopt;
        return *static_cast<const T*>(event_.values[index]);
    }
    // "cache_miss(42, 4096)": numbers, strings and addresses; ? for other types.
    // Throws: std::bad_alloc.
    DYNFUNC_EXPORT std::string text() const;

private:
    detail::EventArguments event_;
};

// A callback attached to every tracepoint whose qualified name matches. Move-only; detaches when it is destroyed.
class [[nodiscard]] PatternSubscription {
public:
    PatternSubscription() noexcept = default;
    PatternSubscription(PatternSubscription&& other) noexcept : pattern_(std::exchange(other.pattern_, nullptr)) {}
    PatternSubscription& operator=(PatternSubscription&& other) noexcept {
        PatternSubscription moved(std::move(other));
        std::swap(pattern_, moved.pattern_);
        return *this;
    }
    // As detach().
    DYNFUNC_EXPORT ~PatternSubscription();

    // How many tracepoints it is attached to now.
    DYNFUNC_EXPORT std::size_t size() const noexcept;
    // How many came with a library, matched, and could not be attached to.
    DYNFUNC_EXPORT std::size_t missed() const noexcept;
    // Contract: as Subscription::detach(). On an error some tracepoints may still be attached, and it may be called again.
    [[nodiscard]] DYNFUNC_EXPORT Result<void> detach() noexcept;

private:
    friend class Patterns;
    explicit PatternSubscription(class Pattern* pattern) noexcept : pattern_(pattern) {}
    Pattern* pattern_ = nullptr;
};

namespace detail {

class PatternCallback : public RelayTarget {
public:
    virtual ~PatternCallback() = default;
    PatternCallback(const PatternCallback&) = delete;
    PatternCallback* next = nullptr;  // the library's

protected:
    explicit PatternCallback(void (*relay)(RelayTarget&, const EventArguments&)) noexcept : RelayTarget{relay} {}
};

template <class F>
class OwnedPatternCallback final : public PatternCallback {
public:
    explicit OwnedPatternCallback(F&& callable)
        : PatternCallback([](RelayTarget& target, const EventArguments& event) {
              static_cast<OwnedPatternCallback&>(target).callable_(TraceEvent(event));
          }),
          callable_(std::move(callable)) {}

private:
    F callable_;
};

DYNFUNC_EXPORT Result<PatternSubscription> subscribe(std::string_view glob, std::unique_ptr<PatternCallback> callback,
                                                     const AttachOptions& options) noexcept;

}  // namespace detail

// Attaches callable(const TraceEvent&) to every tracepoint whose qualified name matches `glob` (as fnmatch(3): * ? [...]), all
// or none, and to each in libraries loaded later, before their constructors run. Contract: as attach_all(). .memory and
// .static_lifetime have no effect. Throws: what moving the callable throws, bad_alloc.
template <class F>
[[nodiscard]] Result<PatternSubscription> subscribe(std::string_view glob, F callable, AttachOptions options = {}) {
    static_assert(std::is_invocable_v<F&, const TraceEvent&>, "dynfunc: the callback is called with a const TraceEvent&");
    return detail::subscribe(glob, std::make_unique<detail::OwnedPatternCallback<F>>(std::move(callable)), options);
}

}  // namespace dynfunc
