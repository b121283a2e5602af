// SPDX-License-Identifier: MIT
// The table, the cache in front of it, and the handler. When a larger table takes a table's place, published by one store, the
// old one stays as it is, for handlers that are in it: all together they are smaller than the newest.
#include "breakpoints.hpp"

#include <dynfunc/object_pool.hpp>

#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <new>

#include "arch.hpp"
#include "breakpoint_table.hpp"
#include "lookup_cache.hpp"
#include "os.hpp"
#include "rseq_area.hpp"

namespace dynfunc {
namespace {

// Where to go on is one word: an address, or the bytes of an instruction and a last byte that no address has.
constexpr std::uint64_t is_code = std::uint64_t{0xff} << 56;

constinit std::atomic<BreakpointTable*> table{nullptr};
constinit std::atomic<std::uint64_t> changed{0};  // written under the text lock

struct Caches {
    std::size_t cpus;
    std::ptrdiff_t area;  // os::rseq_area()

    LookupCache* all() noexcept { return reinterpret_cast<LookupCache*>(this + 1); }
    // Of a thread whose CPU is not known: the first one.
    [[gnu::always_inline]] LookupCache& mine() noexcept {
        const std::int32_t cpu = area == 0 ? 0 : detail::Restartable::cpu(area);
        return all()[cpu < 0 ? 0 : static_cast<std::size_t>(cpu) % cpus];
    }
};
constinit std::atomic<Caches*> caches{nullptr};  // null: off
constinit Caches* made_caches = nullptr;         // under the text lock; threads may be in them for ever

// 0: it is none of ours.
[[gnu::always_inline]] inline std::uint64_t find_in_table(std::uintptr_t at) noexcept {
    BreakpointTable* const now = table.load(std::memory_order_acquire);
    return now == nullptr ? 0 : now->find(at);
}

// The same through the cache, where there is one.
[[gnu::section("dynfunc_hot")]] std::uint64_t resume_of(std::uintptr_t at) noexcept {
    Caches* const cached = caches.load(std::memory_order_acquire);
    if (cached == nullptr) return find_in_table(at);
    LookupCache& cache = cached->mine();
    // (Y) before the table: what is put belongs to this generation, or is forgotten with it.
    const std::uint64_t generation = changed.load(std::memory_order_acquire);
    std::uint64_t resume = 0;
    if (cache.find(at, generation, resume)) return resume;
    resume = find_in_table(at);
    if (resume != 0) cache.put(at, generation, resume);
    return resume;
}

// What we took the signal from, the latest last: a program may take it after us, hand on to us, and be taken from again.
constexpr std::size_t most_formers = 4;
struct Former {
    struct sigaction action;
    std::atomic<std::uintptr_t> handler;  // of it; what handlers read
    std::atomic<bool> is_once;

    void set(const struct sigaction& to) noexcept {
        action = to;
        is_once.store((to.sa_flags & static_cast<int>(SA_RESETHAND)) != 0, std::memory_order_relaxed);
        handler.store(reinterpret_cast<std::uintptr_t>(to.sa_handler), std::memory_order_release);
    }
};
constinit Former formers[most_formers] = {};
constinit std::atomic<std::size_t> former_count{0};
constinit std::atomic_flag formers_change{};  // by one thread at a time, for a moment

class ChangeFormers {
public:
    ChangeFormers() noexcept {
        while (formers_change.test_and_set(std::memory_order_acquire)) sched_yield();
    }
    ~ChangeFormers() { formers_change.clear(std::memory_order_release); }
    ChangeFormers(const ChangeFormers&) = delete;
};

[[gnu::tls_model("initial-exec")]] constinit thread_local std::size_t handing_on = 0;

void* map_memory(std::size_t bytes) noexcept {
    void* const memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? nullptr : memory;
}

BreakpointTable* make_table(std::size_t size) noexcept {
    auto* const made = static_cast<BreakpointTable*>(map_memory(BreakpointTable::bytes(size)));
    if (made == nullptr) return nullptr;
    made->size = size;
    made->used = 0;
    return made;
}

// Not through libc, whose functions may have our own probes.
void end_by_default(int signal) noexcept {
    constexpr std::size_t set_bytes = 8;  // of the kernel's signal sets
    const std::uint64_t by_default[8] = {}, open = std::uint64_t{1} << (signal - 1);
    syscall(SYS_rt_sigaction, signal, by_default, nullptr, set_bytes);
    syscall(SYS_rt_sigprocmask, SIG_UNBLOCK, &open, nullptr, set_bytes);
    syscall(SYS_tgkill, getpid(), gettid(), signal);
}

// As if our handler were not there. Whoever hands on to us in turn is answered by what was there before him.
void hand_on(int signal, siginfo_t* info, void* context) noexcept {
    const std::size_t count = former_count.load(std::memory_order_acquire);
    if (handing_on >= count) return end_by_default(signal);
    Former& former = formers[count - 1 - handing_on];
    ++handing_on;
    std::uintptr_t handler = former.handler.load(std::memory_order_acquire);
    if (former.is_once.load(std::memory_order_relaxed) &&
        !former.handler.compare_exchange_strong(handler, reinterpret_cast<std::uintptr_t>(SIG_DFL)))
        handler = reinterpret_cast<std::uintptr_t>(SIG_DFL);
    if (handler == reinterpret_cast<std::uintptr_t>(SIG_IGN)) {
        if (info->si_code > 0)
            end_by_default(signal);  // the kernel ends a process that ignores the signal of a breakpoint, too
    } else if (handler == reinterpret_cast<std::uintptr_t>(SIG_DFL)) {
        end_by_default(signal);
    } else {
        // Also one that expects the signal's number alone: the convention lets it have more.
        reinterpret_cast<void (*)(int, siginfo_t*, void*)>(handler)(signal, info, context);
    }
    --handing_on;
}

// The kernel also sends the signal after each step of a thread that steps through code, and others send it: then nothing is
// known of what stands before the next instruction. (x86 says SI_KERNEL for a breakpoint, arm64 and emulators TRAP_BRKPT.)
[[gnu::section("dynfunc_hot")]] bool is_breakpoint(const siginfo_t& info) noexcept {
    return info.si_code == SI_KERNEL || info.si_code == TRAP_BRKPT;
}

[[gnu::section("dynfunc_hot")]] void on_trap(int signal, siginfo_t* info, void* context) noexcept {
    if (is_breakpoint(*info))
        if (Breakpoints::go_on(context)) return;
    const os::KeepErrno keep;
    hand_on(signal, info, context);
}

Result<void> put(Address at, std::uint64_t resume) noexcept {
    BreakpointTable* now = table.load(std::memory_order_relaxed);
    if (now == nullptr || now->is_full()) {
        BreakpointTable* larger = make_table(now == nullptr ? BreakpointTable::smallest : BreakpointTable::growth * now->size);
        if (larger == nullptr) return std::unexpected(Error{.code = Errc::out_of_memory, .address = at, .os_error = ENOMEM});
        for (std::size_t i = 0; now != nullptr && i < now->size; ++i)
            if (const BreakpointTable::Place& old = now->places()[i]; old.at != 0) larger->put(old.at, old.resume);
        table.store(larger, std::memory_order_release);
        now = larger;
    }
    const bool changes = now->put(at.value, resume);
    // (Y) after the table: whoever sees the next generation finds what it has.
    if (changes) changed.store(changed.load(std::memory_order_relaxed) + 1, std::memory_order_release);
    return {};
}

}  // namespace

Result<void> Breakpoints::enter(Address at, Address resume) noexcept { return put(at, resume.value); }

std::uint64_t Breakpoints::changes() noexcept { return changed.load(std::memory_order_relaxed); }

Result<void> Breakpoints::enter(Address at, const SiteCode& instead) noexcept {
    std::uint64_t word = is_code;
    std::memcpy(&word, instead.data(), instead.size());
    return put(at, word);
}

bool Breakpoints::find(Address at, SiteCode& instead) noexcept {
    const std::uint64_t resume = find_in_table(at.value);
    if ((resume & is_code) != is_code) return false;
    std::memcpy(instead.data(), &resume, instead.size());
    return true;
}

[[gnu::section("dynfunc_hot")]] bool Breakpoints::go_on(void* context) noexcept {
    const Address at = arch::trapped_at(context);
    const std::uint64_t resume = resume_of(at.value);
    if (resume == 0) return false;
    if ((resume & is_code) == is_code)
        return arch::step_over_site(context, {reinterpret_cast<const std::byte*>(&resume), sizeof(SiteCode)}, at);
    arch::go_on_at(context, Address{static_cast<std::uintptr_t>(resume)});
    return true;
}

Result<void> Breakpoints::set_cache(bool on, std::size_t cpus) noexcept {
    if (on && made_caches == nullptr) {
        made_caches = static_cast<Caches*>(map_memory(sizeof(Caches) + cpus * sizeof(LookupCache)));
        if (made_caches == nullptr) return std::unexpected(Error{.code = Errc::out_of_memory, .os_error = ENOMEM});
        *made_caches = {cpus, os::rseq_area().offset};
    }
    caches.store(on ? made_caches : nullptr, std::memory_order_release);
    return {};
}

bool Breakpoints::has_cache() noexcept { return caches.load(std::memory_order_relaxed) != nullptr; }

bool Breakpoints::is_handling() noexcept {
    struct sigaction now {};
    return sigaction(SIGTRAP, nullptr, &now) == 0 && (now.sa_flags & SA_SIGINFO) != 0 && now.sa_sigaction == &on_trap;
}

Result<void> Breakpoints::handle() noexcept {
    if (is_handling()) return {};
    struct sigaction ours {
    }, before{};
    ours.sa_sigaction = &on_trap;
    ours.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER | SA_RESTART;
    const auto refused = [] { return std::unexpected(Error{.code = Errc::text_not_writable, .os_error = errno}); };
    if (sigaction(SIGTRAP, nullptr, &before) != 0) return refused();
    const ChangeFormers change;
    const std::size_t count = std::min(former_count.load(std::memory_order_relaxed), most_formers - 1);
    formers[count].set(before);
    former_count.store(count + 1, std::memory_order_release);
    if (sigaction(SIGTRAP, &ours, nullptr) == 0) return {};
    former_count.store(count, std::memory_order_release);
    return refused();
}

void Breakpoints::set_former(const struct sigaction* next, struct sigaction* before) noexcept {
    const ChangeFormers change;
    Former& former = formers[former_count.load(std::memory_order_relaxed) - 1];
    const struct sigaction now = former.action;
    const bool is_over = former.handler.load(std::memory_order_relaxed) != reinterpret_cast<std::uintptr_t>(now.sa_handler);
    if (next != nullptr) former.set(*next);
    if (before == nullptr) return;
    *before = now;
    if (is_over) before->sa_handler = SIG_DFL;
}

void Breakpoints::reset_in_child() noexcept { formers_change.clear(std::memory_order_release); }

}  // namespace dynfunc
