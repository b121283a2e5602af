// SPDX-License-Identifier: MIT
// Probes on every exported function whose name matches, in every object whose file name matches, loaded now or later.
//
//     auto all = dynfunc::ProbePattern::attach("libz.so*", "*inflate*", {.on_hit = &count});
//     if (!all) std::fprintf(stderr, "%s\n", all.error().message().c_str());
//     for (const auto& match : all->matches()) std::printf("%s %lu\n", match.function.c_str(), match.hits);
//
// Objects that come later are probed before their constructors run. How: the dynamic linker calls a function of its own
// whenever its list of objects has changed, for debuggers (r_debug::r_brk); that function has a probe of the library's.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <dynfunc/probe.hpp>

namespace dynfunc {

// A probe that a pattern has made.
struct PatternMatch {
    std::string module, function;  // of several names of one address the first in the alphabet
    Address at;
    std::uint64_t hits, missed;  // as Probe's
};

// What matched and cannot be probed.
struct PatternRefusal {
    std::string module, function;
    Error error;
};

// Move-only; detaches when it is destroyed.
class [[nodiscard]] ProbePattern {
public:
    // `module`: of the file name, without its folder unless there is a / in it; the program has the name that it was started
    // by. `function`: of the name as it is exported (of C++ functions: mangled). Both as fnmatch(3): * ? [...]. Every match
    // gets a probe with these options, and is enabled; what is refused is listed, and is no error. Not seen: objects in other
    // namespaces of the dynamic linker (dlmopen); what is loaded while a handler on that thread calls dlopen(), until the next
    // change. Threads: any, not handlers.  Blocks: on the dynamic linker's lock, other attaches and detaches.  Errors:
    // no_callback; of the probe on the dynamic linker; text_not_writable, sync_failed, out_of_memory.  Throws: std::bad_alloc.
    DYNFUNC_EXPORT static Result<ProbePattern> attach(std::string_view module, std::string_view function,
                                                      const ProbeOptions& options);

    ProbePattern() noexcept = default;
    ProbePattern(ProbePattern&& other) noexcept : pattern_(std::exchange(other.pattern_, nullptr)) {}
    ProbePattern& operator=(ProbePattern&& other) noexcept {
        ProbePattern moved(std::move(other));
        std::swap(pattern_, moved.pattern_);
        return *this;
    }
    ~ProbePattern() { detach(); }

    explicit operator bool() const noexcept { return pattern_ != nullptr; }

    // Copies, taken at one moment. Of an object that was unloaded nothing is listed. Threads: any.  Throws: std::bad_alloc.
    DYNFUNC_EXPORT std::vector<PatternMatch> matches() const;
    DYNFUNC_EXPORT std::vector<PatternRefusal> refused() const;
    // Objects that could not be looked through, for want of memory or because the system refused.
    DYNFUNC_EXPORT std::size_t missed_objects() const noexcept;

    // As Probe::detach(), of all of them.
    DYNFUNC_EXPORT void detach() noexcept;

private:
    friend class ProbePatterns;
    explicit ProbePattern(class FunctionPattern* pattern) noexcept : pattern_(pattern) {}

    class FunctionPattern* pattern_ = nullptr;
};

}  // namespace dynfunc
