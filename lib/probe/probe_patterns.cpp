// SPDX-License-Identifier: MIT
// Patterns, and the objects that each was applied to.
//
//     attach      1. a probe on what the dynamic linker calls   2. the pattern is listed   3. the objects of now
//     dlopen      the thread holds the dynamic linker's lock; the new object is mapped, not relocated, its code never ran
//
// What comes between 2 and 3 is found twice and applied once. Who holds the lock of patterns does not ask the dynamic linker.
#include <dynfunc/probe_pattern.hpp>

#include <dlfcn.h>
#include <link.h>
#include <sys/auxv.h>

#include <algorithm>
#include <memory>

#include "exported_functions.hpp"
#include "first_use.hpp"
#include "lock.hpp"
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

namespace {

// Of the dynamic linker, for debuggers. By the program's own entry: a symbol of that name may be a copy that nobody keeps.
const r_debug* debug_interface() noexcept {
    const auto* const headers = reinterpret_cast<const ElfW(Phdr)*>(getauxval(AT_PHDR));
    const std::size_t count = getauxval(AT_PHNUM);
    Address base{};
    for (std::size_t i = 0; i < count; ++i)
        if (headers[i].p_type == PT_PHDR) base = Address::of(headers) - static_cast<std::ptrdiff_t>(headers[i].p_vaddr);
    for (std::size_t i = 0; i < count; ++i) {
        if (headers[i].p_type != PT_DYNAMIC) continue;
        const auto* entry = (base + static_cast<std::ptrdiff_t>(headers[i].p_vaddr)).as<const ElfW(Dyn)*>();
        for (; entry->d_tag != DT_NULL; ++entry)
            if (entry->d_tag == DT_DEBUG) return reinterpret_cast<const r_debug*>(entry->d_un.d_ptr);
    }
    return nullptr;
}

}  // namespace

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
    const r_debug* debug_ = nullptr;
    Probe watching_;
    std::vector<std::unique_ptr<FunctionPattern>> patterns_;
};

// Once; the probe stays.
Result<void> ProbePatterns::watch() {
    {
        const AdoptedLock hold(fork_part_);
        if (debug_ != nullptr) return {};
    }
    const r_debug* const debug = debug_interface();
    if (debug == nullptr || debug->r_brk == 0) return {};  // nothing is ever loaded
    auto probe = Probe::attach(Address{debug->r_brk}, {.on_hit = [](ProbeHit&) {
                                   instance().on_change();
                                   return AfterHit::keep;
                               }});
    if (!probe) return std::unexpected(probe.error());
    const AdoptedLock hold(fork_part_);
    debug_ = debug;
    watching_ = std::move(*probe);
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

// In the dynamic linker, when its list has changed.
void ProbePatterns::on_change() noexcept {
    const AdoptedLock hold(fork_part_);
    if (debug_ == nullptr || debug_->r_state != r_debug::RT_CONSISTENT) return;
    for (const auto& pattern : patterns_) {
        std::erase_if(pattern->applied, [this](FunctionPattern::Applied& applied) {
            for (const link_map* map = debug_->r_map; map != nullptr; map = map->l_next)
                if (applied.object.base.value == map->l_addr && applied.object.dynamic == map->l_ld) return false;
            for (FunctionPattern::Match& match : applied.matches) match.probe.detach_nosync();
            return true;
        });
        for (const link_map* map = debug_->r_map; map != nullptr; map = map->l_next) {
            try {
                // The program comes first, and was there before any pattern.
                const LoadedObject object{Address{map->l_addr}, map->l_ld, map->l_name, false};
                if (map == debug_->r_map || pattern->is_applied_to(object) || !object.matches(pattern->module)) continue;
                if (!apply(*pattern, object, exported_functions(object, pattern->function))) ++pattern->missed_objects;
            } catch (const std::bad_alloc&) {
                ++pattern->missed_objects;
            }
        }
    }
}

namespace {

// Keeps an object loaded; nothing is kept where it is not loaded any more. Asks the dynamic linker: not under a lock.
class KeepLoaded {
public:
    explicit KeepLoaded(const LoadedObject& object) noexcept
        : handle_(dlopen(object.is_program ? nullptr : object.path.c_str(), RTLD_LAZY | RTLD_NOLOAD)) {
        const auto* const map = static_cast<const link_map*>(handle_);
        is_loaded_ = map != nullptr && map->l_addr == object.base.value && map->l_ld == object.dynamic;
    }
    KeepLoaded(KeepLoaded&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)), is_loaded_(other.is_loaded_) {}
    ~KeepLoaded() {
        if (handle_ != nullptr) dlclose(handle_);
    }
    bool is_loaded() const noexcept { return is_loaded_; }

private:
    void* handle_;
    bool is_loaded_ = false;
};

}  // namespace

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
    struct Found {
        const FunctionPattern& pattern;
        std::vector<std::pair<LoadedObject, std::vector<ExportedFunction>>> objects{};
        bool is_first = true, is_out_of_memory = false;
    } found{pattern};
    dl_iterate_phdr(
        [](dl_phdr_info* info, std::size_t, void* data) {
            auto& found = *static_cast<Found*>(data);
            try {
                const bool is_program = std::exchange(found.is_first, false);
                LoadedObject object{Address{info->dlpi_addr}, nullptr, is_program ? program_invocation_name : info->dlpi_name,
                                    is_program};
                for (std::size_t i = 0; i < info->dlpi_phnum; ++i)
                    if (info->dlpi_phdr[i].p_type == PT_DYNAMIC)
                        object.dynamic =
                            (object.base + static_cast<std::ptrdiff_t>(info->dlpi_phdr[i].p_vaddr)).as<const ElfW(Dyn)*>();
                if (object.dynamic == nullptr || !object.matches(found.pattern.module)) return 0;
                auto functions = exported_functions(object, found.pattern.function);
                found.objects.emplace_back(std::move(object), std::move(functions));
            } catch (const std::bad_alloc&) {
                found.is_out_of_memory = true;
            }
            return 0;
        },
        &found);
    if (found.is_out_of_memory) return std::unexpected(Error{.code = Errc::out_of_memory});
    std::vector<KeepLoaded> loaded;
    loaded.reserve(found.objects.size());
    for (const auto& [object, functions] : found.objects) loaded.emplace_back(object);
    Result<void> applied;
    {
        const AdoptedLock hold(fork_part_);
        for (std::size_t i = 0; i < loaded.size() && applied; ++i)
            if (loaded[i].is_loaded()) applied = apply(pattern, found.objects[i].first, found.objects[i].second);
    }
    if (!applied) return std::unexpected(applied.error());
    return handle;
}

void ProbePatterns::detach(FunctionPattern& pattern) noexcept {
    std::unique_ptr<FunctionPattern> gone;
    {
        const AdoptedLock hold(fork_part_);
        const auto listed = std::ranges::find(patterns_, &pattern, &std::unique_ptr<FunctionPattern>::get);
        gone = std::move(*listed);
        patterns_.erase(listed);
    }
    for (FunctionPattern::Applied& applied : gone->applied)
        for (FunctionPattern::Match& match : applied.matches) match.probe.detach_nosync();
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
