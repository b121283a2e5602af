// SPDX-License-Identifier: MIT
#include "patterns.hpp"

#include <fnmatch.h>

#include <algorithm>

#include "first_use.hpp"
#include "reclaim.hpp"
#include "registry.hpp"

namespace dynfunc {

class Pattern : public Retired {
public:
    Pattern(std::string_view glob_text, std::unique_ptr<detail::PatternCallback> target, const AttachOptions& how)
        : glob(glob_text), callback(std::move(target)), options(how) {
        reclaim = [](Retired& item) noexcept { delete static_cast<Pattern*>(&item); };
        options.memory = nullptr;
        options.static_lifetime = false;
    }

    std::string glob;
    std::unique_ptr<detail::PatternCallback> callback;
    AttachOptions options;
    std::vector<Subscription> subscriptions;
    std::size_t missed = 0;
    Pattern* next_pattern = nullptr;
};

class Patterns::Hold {
public:
    explicit Hold(Patterns& patterns) noexcept : patterns_(patterns) {
        { const Registry::Hold notices_a_fresh_child(Registry::instance()); }
        patterns_.lock_.lock();
    }
    ~Hold() { patterns_.lock_.unlock(); }
    Hold(const Hold&) = delete;

private:
    Patterns& patterns_;
};

Patterns& Patterns::instance() noexcept {
    static constinit MadeOnFirstUse<Patterns> patterns;
    return patterns.get([] { return Patterns(); });
}

// All that match, or none. `for_each_tracepoint` calls its argument with each key that is to be looked at.
template <class ForEach>
Result<void> Patterns::attach(Pattern& pattern, ForEach&& for_each_tracepoint) {
    std::size_t keys = 0;
    for_each_tracepoint([&](detail::TracepointKey&) { ++keys; });
    std::vector<detail::TracepointKey*> matching;
    matching.reserve(keys);  // under the text lock nothing is allocated
    detail::RelayTarget* const target = pattern.callback.get();
    // Those of a library that arrives may be attached already, by a subscribe() at the same time.
    const auto is_attached = [target](const detail::TracepointKey& key) {
        const OwnedList* list = list_of(key);
        return list != nullptr && std::any_of(list->begin, list->end, [target](const detail::Callback& callback) {
                   return callback.function != nullptr && callback.data == target;
               });
    };
    for_each_tracepoint([&](detail::TracepointKey& key) {
        if (matching.size() < keys && fnmatch(pattern.glob.c_str(), key.identity.name, 0) == 0 && !is_attached(key))
            matching.push_back(&key);
    });
    if (matching.empty()) return {};
    std::vector<Attachment> batch;
    batch.reserve(matching.size());
    for (detail::TracepointKey* key : matching) {
        batch.push_back(
            Attachment(*key, {key->function(detail::TraceFunction::relay), target, true, 0, 1, nullptr}, pattern.options));
    }
    std::vector<Subscription> attached(batch.size());
    pattern.subscriptions.reserve(pattern.subscriptions.size() + batch.size());
    if (auto done = Registry::instance().attach(batch, attached.data()); !done) {
        pattern.missed += batch.size();
        return done;
    }
    std::move(attached.begin(), attached.end(), std::back_inserter(pattern.subscriptions));
    return {};
}

Result<PatternSubscription> Patterns::subscribe(std::string_view glob, std::unique_ptr<detail::PatternCallback> callback,
                                                const AttachOptions& options) noexcept try {
    try_reclaim_own();
    auto pattern = std::make_unique<Pattern>(glob, std::move(callback), options);
    const Hold hold(*this);
    if (auto done = attach(*pattern, [](auto&& visit) { Registry::instance().for_each_tracepoint(visit); }); !done) {
        // Refused in the middle: threads may have met it.
        if (done.error().code == Errc::sync_failed || done.error().code == Errc::text_not_writable) retire(*pattern.release());
        return std::unexpected(done.error());
    }
    pattern->next_pattern = first_;
    first_ = pattern.get();
    return PatternSubscription(pattern.release());
} catch (const std::bad_alloc&) {
    return std::unexpected(Error{.code = Errc::out_of_memory});
}

void Patterns::arrived(detail::Tables& tables) noexcept {
    if (tables.tracepoints_end - tables.tracepoints <= 1) return;  // the empty entry alone
    const Hold hold(*this);
    for (Pattern* pattern = first_; pattern != nullptr; pattern = pattern->next_pattern) {
        if (pattern->callback == nullptr) continue;  // its code is gone
        try {
            static_cast<void>(
                attach(*pattern, [&](auto&& visit) { Registry::instance().for_each_tracepoint_of(tables, visit); }));
        } catch (const std::bad_alloc&) {
            ++pattern->missed;
        }
    }
}

bool Patterns::leave(detail::Tables& tables) noexcept {
    const AddressRange range{Address{tables.begin}, Address{tables.end}};
    detail::PatternCallback* dropped = nullptr;
    {
        const Hold hold(*this);
        if (!Registry::instance().leave(tables)) return false;
        for (Pattern* pattern = first_; pattern != nullptr; pattern = pattern->next_pattern) {
            const bool drops = pattern->callback != nullptr && range.contains(Address::of(pattern->callback->call));
            // Those of its tracepoints are detached already; if the callback's code goes, all are.
            std::erase_if(pattern->subscriptions, [drops](Subscription& subscription) {
                return (drops || !subscription.is_attached()) && subscription.detach_nosync().has_value();
            });
            if (!drops || !pattern->subscriptions.empty()) continue;
            pattern->callback->next = std::exchange(dropped, pattern->callback.get());
            static_cast<void>(pattern->callback.release());
        }
    }
    if (dropped != nullptr && !is_in_section()) synchronize();
    while (dropped != nullptr) delete std::exchange(dropped, dropped->next);
    return true;
}

Result<void> Patterns::detach(Pattern& pattern) noexcept {
    const Reclaiming before_its_code_is_unloaded;
    {
        const Hold hold(*this);
        for (Subscription& subscription : pattern.subscriptions)
            if (auto done = subscription.detach_nosync(); !done) return done;
        for (Pattern** link = &first_; *link != nullptr; link = &(*link)->next_pattern) {
            if (*link != &pattern) continue;
            *link = pattern.next_pattern;
            break;
        }
    }
    if (is_in_section()) {
        retire(pattern);
    } else {
        synchronize();
        delete &pattern;
    }
    return {};
}

std::size_t Patterns::attached(const Pattern& pattern) noexcept {
    const Hold hold(*this);
    return static_cast<std::size_t>(std::count_if(pattern.subscriptions.begin(), pattern.subscriptions.end(),
                                                  [](const Subscription& each) { return each.is_attached(); }));
}

std::size_t Patterns::missed(const Pattern& pattern) noexcept {
    const Hold hold(*this);
    return pattern.missed;
}

Result<PatternSubscription> detail::subscribe(std::string_view glob, std::unique_ptr<PatternCallback> callback,
                                              const AttachOptions& options) noexcept {
    return Patterns::instance().subscribe(glob, std::move(callback), options);
}

PatternSubscription::~PatternSubscription() {
    // Refused: it stays attached, and what it needs stays alive.
    static_cast<void>(detach());
}

std::size_t PatternSubscription::size() const noexcept {
    return pattern_ != nullptr ? Patterns::instance().attached(*pattern_) : 0;
}

std::size_t PatternSubscription::missed() const noexcept {
    return pattern_ != nullptr ? Patterns::instance().missed(*pattern_) : 0;
}

Result<void> PatternSubscription::detach() noexcept {
    if (pattern_ == nullptr) return {};
    if (auto done = Patterns::instance().detach(*pattern_); !done) return done;
    pattern_ = nullptr;
    return {};
}

}  // namespace dynfunc
