// SPDX-License-Identifier: MIT
// Patterns, and the objects that each was applied to.
//
//     attach      1. a probe on what the dynamic linker calls   2. the pattern is listed   3. the objects of now
//     dlopen      the thread holds the dynamic linker's lock; the new object is mapped, not relocated, its code never ran
//
// What comes between 2 and 3 is found twice and applied once. Who holds the lock of patterns does not ask the dynamic linker.
#include <dynfunc/probe_pattern.hpp>

#include <time.h>

#include <algorithm>
#include <memory>

#include "exported_functions.hpp"
#include "first_use.hpp"
#include "lock.hpp"
#include "object_watch.hpp"
#include "probes.hpp"
#include "reclaim.hpp"
#include "registry.hpp"

namespace dynfunc {

class FunctionPattern {
public:
    struct Match {
        Probe probe;
        std::string function;
        Address at;
    };
    // What a pattern found in one object.
    struct Applied {
        LoadedObject object;
        std::vector<Match> matches;
        std::vector<PatternRefusal> refused;
    };

    FunctionPattern(std::string_view module, std::string_view function, const ProbeOptions& options)
        : module(module), function(function), options(options) {
        this->options.is_enabled = true;  // nobody could enable them
    }

    bool is_applied_to(const LoadedObject& object) const noexcept {
        return std::ranges::any_of(applied, [&](const Applied& each) { return each.object.is(object); });
    }

    std::string module, function;
    ProbeOptions options;
    std::vector<Applied> applied;
    std::size_t missed_objects = 0;
};

class ProbePatterns {
public:
    static ProbePatterns& instance() noexcept {
        static constinit MadeOnFirstUse<ProbePatterns> patterns;
        return patterns.get([] { return ProbePatterns(); });
    }

    Result<ProbePattern> attach(std::string_view module, std::string_view function, const ProbeOptions& options);
    void detach(FunctionPattern& pattern) noexcept;
    std::vector<PatternMatch> matches(const FunctionPattern& pattern);
    std::vector<PatternRefusal> refused(const FunctionPattern& pattern);
    std::size_t missed_objects(const FunctionPattern& pattern) noexcept;

private:
    Result<void> watch();
    Result<void> apply(FunctionPattern& pattern, const LoadedObject& object, const std::vector<ExportedFunction>& functions);
    void on_change() noexcept;

    RankedMutex lock_{LockRank::probe_patterns};
    ForkPart fork_part_{lock_, [](Copied) noexcept {}};
    ObjectWatch watch_;
    std::vector<std::unique_ptr<FunctionPattern>> patterns_;
};

// Once; the probe stays.
Result<void> ProbePatterns::watch() {
    {
        const AdoptedLock hold(fork_part_);
        if (watch_.debug != nullptr) return {};
    }
    auto watch = watch_objects([]() noexcept { instance().on_change(); });
    if (!watch) return std::unexpected(watch.error());
    const AdoptedLock hold(fork_part_);
    if (watch_.debug == nullptr) watch_ = std::move(*watch);
    return {};
}

// What there is of the functions that match gets probes.
Result<void> ProbePatterns::apply(FunctionPattern& pattern, const LoadedObject& object,
                                  const std::vector<ExportedFunction>& functions) {
    if (pattern.is_applied_to(object)) return {};
    FunctionPattern::Applied applied{object, {}, {}};
    if (!functions.empty()) {
        std::vector<ProbeRequest> requests;
        requests.reserve(functions.size());
        for (const ExportedFunction& function : functions) requests.push_back({function.at, pattern.options});
        Probes::Tolerance tolerance{.loading = object.base};
        auto probes = Probes::instance().attach(requests, &tolerance);
        if (!probes) return std::unexpected(probes.error());
        auto refused = tolerance.refused.begin();
        auto probe = probes->begin();
        for (std::size_t i = 0; i < functions.size(); ++i) {
            if (refused != tolerance.refused.end() && refused->element == i)
                applied.refused.push_back({object.path, functions[i].name, *refused++});
            else
                applied.matches.push_back({std::move(*probe++), functions[i].name, functions[i].at});
        }
    }
    pattern.applied.push_back(std::move(applied));
    return {};
}

// In the dynamic linker, before and after its list changes.
void ProbePatterns::on_change() noexcept {
    // Before anything is unmapped, too: whoever writes to text, with the text lock, is waited for.
    const AdoptedLock hold(fork_part_);
    if (watch_.debug == nullptr || !watch_.is_consistent()) return;
    for (const auto& pattern : patterns_) {
        std::erase_if(pattern->applied, [this](FunctionPattern::Applied& applied) {
            if (watch_.is_listed(applied.object)) return false;
            for (FunctionPattern::Match& match : applied.matches) match.probe.detach_nosync();
            return true;
        });
        watch_.for_each([&](const auto& object_of) noexcept {
            try {
                const LoadedObject object = object_of();
                // The program was there before any pattern.
                if (object.is_program || pattern->is_applied_to(object) || !object.matches(pattern->module)) return;
                if (!apply(*pattern, object, exported_functions(object, pattern->function))) ++pattern->missed_objects;
            } catch (const std::bad_alloc&) {
                ++pattern->missed_objects;
            }
        });
    }
}

Result<ProbePattern> ProbePatterns::attach(std::string_view module, std::string_view function, const ProbeOptions& options) {
    if (options.on_hit == nullptr) return std::unexpected(Error{.code = Errc::no_callback});
    if (auto watched = watch(); !watched) return std::unexpected(watched.error());
    auto made = std::make_unique<FunctionPattern>(module, function, options);
    FunctionPattern& pattern = *made;
    {
        const AdoptedLock hold(fork_part_);
        patterns_.push_back(std::move(made));
    }
    ProbePattern handle(&pattern);

    // Read while nothing can be unloaded.
    std::vector<std::pair<LoadedObject, std::vector<ExportedFunction>>> found;
    const auto read = for_each_loaded_object([&](LoadedObject& object) {
        if (!object.matches(pattern.module)) return;
        auto functions = exported_functions(object, pattern.function);
        found.emplace_back(std::move(object), std::move(functions));
    });
    if (!read) return std::unexpected(read.error());
    std::vector<KeepLoaded> loaded;
    loaded.reserve(found.size());
    for (const auto& [object, functions] : found) loaded.emplace_back(object);
    Result<void> applied;
    {
        const AdoptedLock hold(fork_part_);
        for (std::size_t i = 0; i < loaded.size() && applied; ++i)
            if (loaded[i].is_loaded()) applied = apply(pattern, found[i].first, found[i].second);
    }
    if (!applied) return std::unexpected(applied.error());
    return handle;
}

// Nothing may be unmapped while jumps are taken out. Whoever is about to waits for the lock in on_change(); whoever is past
// that is waited for here, without it: nothing of a user's runs until the list is consistent. Not for ever: in a child process
// the thread that was unloading does not exist.
void ProbePatterns::detach(FunctionPattern& pattern) noexcept {
    std::unique_ptr<FunctionPattern> gone;
    constexpr int patience = 1000;
    for (int waited = 0; gone == nullptr; ++waited) {
        {
            const AdoptedLock hold(fork_part_);
            if (watch_.debug == nullptr || watch_.is_consistent() || waited == patience) {
                const auto listed = std::ranges::find(patterns_, &pattern, &std::unique_ptr<FunctionPattern>::get);
                gone = std::move(*listed);
                patterns_.erase(listed);
                for (FunctionPattern::Applied& applied : gone->applied)
                    for (FunctionPattern::Match& match : applied.matches) match.probe.detach_nosync();
            }
        }
        constexpr timespec pause{0, 1'000'000};
        if (gone == nullptr) nanosleep(&pause, nullptr);
    }
    if (!is_in_section()) synchronize();
}

std::vector<PatternMatch> ProbePatterns::matches(const FunctionPattern& pattern) {
    const AdoptedLock hold(fork_part_);
    std::vector<PatternMatch> all;
    for (const FunctionPattern::Applied& applied : pattern.applied)
        for (const FunctionPattern::Match& match : applied.matches)
            all.push_back({applied.object.path, match.function, match.at, match.probe.hits(), match.probe.missed()});
    return all;
}

std::vector<PatternRefusal> ProbePatterns::refused(const FunctionPattern& pattern) {
    const AdoptedLock hold(fork_part_);
    std::vector<PatternRefusal> all;
    for (const FunctionPattern::Applied& applied : pattern.applied)
        all.insert(all.end(), applied.refused.begin(), applied.refused.end());
    return all;
}

std::size_t ProbePatterns::missed_objects(const FunctionPattern& pattern) noexcept {
    const AdoptedLock hold(fork_part_);
    return pattern.missed_objects;
}

Result<ProbePattern> ProbePattern::attach(std::string_view module, std::string_view function, const ProbeOptions& options) {
    return ProbePatterns::instance().attach(module, function, options);
}

std::vector<PatternMatch> ProbePattern::matches() const {
    return pattern_ == nullptr ? std::vector<PatternMatch>{} : ProbePatterns::instance().matches(*pattern_);
}

std::vector<PatternRefusal> ProbePattern::refused() const {
    return pattern_ == nullptr ? std::vector<PatternRefusal>{} : ProbePatterns::instance().refused(*pattern_);
}

std::size_t ProbePattern::missed_objects() const noexcept {
    return pattern_ == nullptr ? 0 : ProbePatterns::instance().missed_objects(*pattern_);
}

void ProbePattern::detach() noexcept {
    if (FunctionPattern* const pattern = std::exchange(pattern_, nullptr)) ProbePatterns::instance().detach(*pattern);
}

}  // namespace dynfunc
