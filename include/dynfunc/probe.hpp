// SPDX-License-Identifier: MIT
// Probes: code of yours that runs whenever a thread comes to a function, or to any instruction, of this process.
//
//     auto probe = dynfunc::Probe::attach(&open_file, {.on_hit = [](dynfunc::ProbeHit& hit) {
//         std::fprintf(stderr, "open_file(%s)\n", reinterpret_cast<const char*>(hit.registers.integer(0)));
//         return dynfunc::AfterHit::keep;
//     }});
//     if (!probe) std::fprintf(stderr, "%s\n", probe.error().message().c_str());     // ends with the Probe
//
// How: a jump takes the place of the instructions there; it leads to code that keeps all registers, calls whoever listens, and
// goes on with a copy of the instructions. No lock, no trap, no system call, no memory and no reference count on a hit.
//
//     class        the jump replaces                                  share of function begins (libc, libstdc++)
//     whole        one instruction of 5 bytes or more                 23.5 %, 4.1 %
//     guarded      several: whoever stands between them traps,        76.1 %, 95.8 %
//                  and goes on in their copy, whenever that is
//     punned       one shorter one: its successors are a part of      0.4 %, 0.1 %
//                  the jump's distance, and stay as they are
//     breakpoint   nothing: a trap, 2000 times the cost of a call     where nothing else fits
//
// Which registers may a handler use? With `Needs::vectors` all of them: they are saved, also what calculations leave behind in
// MXCSR. With `Needs::registers` the handler is not to touch a vector or x87 register (compiled with -mgeneral-regs-only, or
// the attribute of that name), and a hit costs less. x87 registers are not saved: a handler uses them as any function does that
// is called with arguments in them.
//
// May a handler attach and detach, itself and others? Yes: what it attaches is hit from then on, what it detaches is not called
// again; detach() does not wait there. May it call what is probed? Yes: a hit inside a handler of the same thread is not
// delivered, and counted (missed()). It must not throw: that terminates, and not leave by longjmp. It may use malloc, where the
// probe is not inside of malloc itself.
//
// fork: the child has the probes of its parent, or none (set_probes_in_children()). dlclose of what is probed: the probes are
// gone (ProbeInfo::is_gone), the rest stays.
//
// All classes but `whole` need SIGTRAP. From the first attach on, a handler that the program sets for it through libc is called
// for the traps that are not ours, and the signal is left out of masks that the program sets. A thread that blocks it
// nevertheless (since before; by a system call of its own, a mask of ppoll() and its like; the child between posix_spawn() and
// exec) and comes to a trap ends the process: at a place of class breakpoint at once, at others if it comes there in the moment
// in which they change.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <dynfunc/registers.hpp>
#include <dynfunc/result.hpp>
#include <dynfunc/site_class.hpp>

namespace dynfunc {

struct ProbeHit {
    Registers& registers;  // changes count: also of where the thread goes on
    Address at;            // where the probe is
    void* data;            // ProbeOptions::data
};

enum class AfterHit : std::uint8_t {
    keep,
    disable,  // no further hit calls this handler, until Probe::enable()
};

enum class Needs : std::uint8_t {
    registers,  // the handler and the filter touch general registers alone
    vectors,    // they are any functions, and see vector registers
};

enum class AllowBreakpoint : std::uint8_t {
    never,      // where no jump fits, the attach is refused
    if_needed,  // class breakpoint where no jump fits, unless a thread of the process blocks SIGTRAP: then it is refused
    always,     // class breakpoint, also where a jump would fit
};

struct ProbeOptions {
    AfterHit (*on_hit)(ProbeHit&) = nullptr;
    void* data = nullptr;
    Needs needs = Needs::vectors;
    bool (*filter)(void* data) = nullptr;  // decides before the handler whether this thread is served
    int priority = 0;                      // higher first; of equal ones the one attached earlier
    bool is_enabled = true;                // otherwise it waits for Probe::enable(), and nothing stands in the code
    AllowBreakpoint breakpoint = AllowBreakpoint::if_needed;
};

// Where a probe goes.
class ProbeTarget {
public:
    ProbeTarget(Address at) noexcept : at_(at) {}
    template <class R, class... A>
    ProbeTarget(R (*function)(A...)) noexcept : at_(Address::of(function)) {}
    template <class R, class... A>
    ProbeTarget(R (*function)(A...) noexcept) noexcept : at_(Address::of(function)) {}
    // Exported by some loaded object, as dlsym(RTLD_DEFAULT) finds it.
    ProbeTarget(const char* symbol) noexcept : symbol_(symbol) {}
    // Exported by the object of that file name, with or without its folder; `offset` bytes behind its begin.
    ProbeTarget(const char* module, const char* symbol, std::ptrdiff_t offset = 0) noexcept
        : module_(module), symbol_(symbol), offset_(offset) {}

    // Errors: no_symbol.  Blocks: on the dynamic linker's lock.
    DYNFUNC_EXPORT Result<Address> resolve() const noexcept;

private:
    Address at_{};
    const char *module_ = nullptr, *symbol_ = nullptr;
    std::ptrdiff_t offset_ = 0;
};

struct ProbeRequest {
    ProbeTarget target;
    ProbeOptions options;
};

// What a child of fork() does with its parent's probes.
enum class InChildren : std::uint8_t {
    keep,  // as they are, with their counts so far
    drop,  // all are disabled there: handlers are not called, code is as it was linked
};
// Of children to come. Threads: any.  Blocks: on attaches and detaches.
DYNFUNC_EXPORT void set_probes_in_children(InChildren what);

// A thread that runs a breakpoint of a probe (class breakpoint; of others, while they change) looks up where it goes on. With
// the cache it asks 4096 sets of 4 entries first, 272 KB for each CPU, which stay when it is switched off again. Off, unless
// DYNFUNC_PROBE_CACHE=1: the table is as fast, at every distribution of hits that was measured (docs/decisions/0012).
// Threads: any.  Blocks: on attaches and detaches.  Errors: out_of_memory.
DYNFUNC_EXPORT Result<void> set_probe_cache(bool on) noexcept;
DYNFUNC_EXPORT bool has_probe_cache() noexcept;

// A copy, taken at one moment.
struct ProbeInfo {
    Address at;
    SiteClass site_class;
    std::string reason;             // why no better class; empty: it is `whole`
    Address stub;                   // what the jump leads to in the end
    std::vector<std::byte> before;  // the bytes that were replaced
    bool is_armed;                  // they are replaced now
    bool is_gone;                   // what was probed is not loaded any more
    std::size_t consumers;          // of this place, and enabled
};

namespace detail {
struct Consumer;
}

// One handler at one place.
class [[nodiscard]] Probe {
public:
    // Threads: any, also handlers.  Blocks: on other attaches and detaches.  Ordering: hits that begin after it returns are
    // seen. The first attach in an object reads all of its code: some 30 ns for each instruction. Errors: no_callback;
    // no_symbol; not_executable; inside_library (the code that runs at every hit); denied (functions that cannot be probed: the
    // unwinder's, what returns from signal handlers); patched_place (a jump of this library's stands there); no_unwind_table,
    // not_an_instruction, middle_of_instruction; foreign_breakpoint; not_movable, exclusive_access; out_of_reach (no memory
    // near enough: to the place, or else address = what its instructions refer to); with AllowBreakpoint::never too_short,
    // branch_inside, call_inside, landing_pad, with if_needed signal_blocked; copied_half_way; text_not_writable, sync_failed,
    // out_of_memory.  Throws: std::bad_alloc.
    DYNFUNC_EXPORT static Result<Probe> attach(const ProbeTarget& target, const ProbeOptions& options);
    // All or none; Error::element says which one is refused. Code is synchronised once for all.
    DYNFUNC_EXPORT static Result<std::vector<Probe>> attach(std::span<const ProbeRequest> requests);

    Probe() noexcept = default;
    Probe(Probe&& other) noexcept : consumer_(other.consumer_) { other.consumer_ = nullptr; }
    Probe& operator=(Probe&& other) noexcept {
        if (this == &other) return *this;
        detach();
        consumer_ = other.consumer_;
        other.consumer_ = nullptr;
        return *this;
    }
    ~Probe() { detach(); }

    // Afterwards the handler is not called, and no thread is inside it; from inside a handler or a ReadSection it does not
    // wait. Blocks: as synchronize().
    DYNFUNC_EXPORT void detach() noexcept;
    // Without waiting: synchronize() does it once for many. The data must stay until then.
    DYNFUNC_EXPORT void detach_nosync() noexcept;
    // Those that are attached, with one synchronisation of code and one synchronize().
    DYNFUNC_EXPORT static void detach(std::span<Probe> probes) noexcept;

    // A probe that is disabled costs no hit: if nobody else listens there, the code is as it was linked. Its place is kept for
    // it, with the stub; other probes go round it. One that is enabled, or disabled, already stays as it is. Threads: any,
    // also handlers.  Blocks: on attaches and detaches.
    //
    // Hits that begin after it returns are seen. Errors: not_loaded: what was probed is gone; signal_blocked; bytes_changed;
    // text_not_writable, sync_failed, copied_half_way, out_of_memory.  Throws: std::bad_alloc.
    DYNFUNC_EXPORT Result<void> enable();
    // All or none; Error::element says which one is refused. Code is synchronised once for all.
    DYNFUNC_EXPORT static Result<void> enable(std::span<Probe> probes);
    // Afterwards as after detach().
    DYNFUNC_EXPORT void disable() noexcept;
    DYNFUNC_EXPORT static void disable(std::span<Probe> probes) noexcept;
    // Threads: any.
    DYNFUNC_EXPORT bool is_enabled() const noexcept;

    explicit operator bool() const noexcept { return consumer_ != nullptr; }

    // How often its handler was called: exact once no thread is inside. Threads: any.
    DYNFUNC_EXPORT std::uint64_t hits() const noexcept;
    // How often a thread came there, since this was attached, inside of a handler or of the library's own work: not delivered.
    DYNFUNC_EXPORT std::uint64_t missed() const noexcept;
    // Throws: std::bad_alloc.
    DYNFUNC_EXPORT ProbeInfo info() const;

private:
    explicit Probe(detail::Consumer* consumer) noexcept : consumer_(consumer) {}
    friend class Probes;

    detail::Consumer* consumer_ = nullptr;
};

}  // namespace dynfunc
