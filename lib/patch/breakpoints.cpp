// SPDX-License-Identifier: MIT
// Places in a table with open addressing; when it is half full, a larger one takes its place, published by one store. The old
// one stays as it is, for handlers that are in it: all together they are smaller than the newest.
#include "breakpoints.hpp"

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
#include "os.hpp"

namespace dynfunc {
namespace {

// Where to go on is one word: an address, or the bytes of an instruction and a last byte that no address has.
constexpr std::uint64_t is_code = std::uint64_t{0xff} << 56;

struct Place {
    std::atomic<std::uintptr_t> at;  // 0: free; entered last
    std::atomic<std::uint64_t> resume;
};

constinit std::uint64_t changed = 0;  // under the text lock

struct Table {
    std::size_t size, used;  // a power of two
    Place* places() noexcept { return reinterpret_cast<Place*>(this + 1); }

    // Where it is, or would be.
    Place& place_of(std::uintptr_t at) noexcept {
        constexpr std::uint64_t golden = 0x9e37'79b9'7f4a'7c15;  // Knuth, The Art of Computer Programming, 6.4
        std::size_t i = static_cast<std::size_t>((at * golden) >> 20) & (size - 1);
        for (;; i = (i + 1) & (size - 1)) {
            const std::uintptr_t there = places()[i].at.load(std::memory_order_acquire);
            if (there == at || there == 0) return places()[i];
        }
    }
    void put(Place& place, std::uintptr_t at, std::uint64_t resume) noexcept {
        const bool is_known = place.at.load(std::memory_order_relaxed) == at;
        if (is_known && place.resume.load(std::memory_order_relaxed) != resume) ++changed;
        place.resume.store(resume, std::memory_order_release);
        if (is_known) return;
        place.at.store(at, std::memory_order_release);
        ++used;
    }
};

constinit std::atomic<Table*> table{nullptr};

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

Table* make_table(std::size_t size) noexcept {
    void* memory =
        mmap(nullptr, sizeof(Table) + size * sizeof(Place), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return nullptr;
    auto* made = static_cast<Table*>(memory);
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
    Table* now = table.load(std::memory_order_relaxed);
    constexpr std::size_t smallest = 255;  // with its header 4 KiB
    if (now == nullptr || 2 * now->used >= now->size) {
        Table* larger = make_table(now == nullptr ? smallest + 1 : 4 * now->size);
        if (larger == nullptr) return std::unexpected(Error{.code = Errc::out_of_memory, .address = at, .os_error = ENOMEM});
        for (std::size_t i = 0; now != nullptr && i < now->size; ++i)
            if (const Place& old = now->places()[i]; old.at != 0) larger->put(larger->place_of(old.at), old.at, old.resume);
        table.store(larger, std::memory_order_release);
        now = larger;
    }
    now->put(now->place_of(at.value), at.value, resume);
    return {};
}

}  // namespace

Result<void> Breakpoints::enter(Address at, Address resume) noexcept { return put(at, resume.value); }

std::uint64_t Breakpoints::changes() noexcept { return changed; }

Result<void> Breakpoints::enter(Address at, const SiteCode& instead) noexcept {
    std::uint64_t word = is_code;
    std::memcpy(&word, instead.data(), instead.size());
    return put(at, word);
}

bool Breakpoints::find(Address at, SiteCode& instead) noexcept {
    Table* const now = table.load(std::memory_order_acquire);
    if (now == nullptr) return false;
    const Place& place = now->place_of(at.value);
    const std::uint64_t resume = place.resume.load(std::memory_order_acquire);
    if (place.at.load(std::memory_order_relaxed) != at.value || (resume & is_code) != is_code) return false;
    std::memcpy(instead.data(), &resume, instead.size());
    return true;
}

[[gnu::section("dynfunc_hot")]] bool Breakpoints::go_on(void* context) noexcept {
    Table* const now = table.load(std::memory_order_acquire);
    const Address at = arch::trapped_at(context);
    if (now == nullptr) return false;
    const Place& place = now->place_of(at.value);
    if (place.at.load(std::memory_order_relaxed) != at.value) return false;
    const std::uint64_t resume = place.resume.load(std::memory_order_acquire);
    if ((resume & is_code) == is_code)
        return arch::step_over_site(context, {reinterpret_cast<const std::byte*>(&resume), sizeof(SiteCode)}, at);
    arch::go_on_at(context, Address{static_cast<std::uintptr_t>(resume)});
    return true;
}

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
