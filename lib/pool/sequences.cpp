// SPDX-License-Identifier: MIT
#include "sequences.hpp"

#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

#include "first_use.hpp"
#include "fork_watch.hpp"
#include "os.hpp"
#include "rseq_area.hpp"

namespace dynfunc {
namespace {

constinit std::atomic<std::uint64_t> generation{0};
constinit ForkWatch fork_watch{};

void begin_generation() noexcept {
    if (!fork_watch.is_armed()) return;  // there are no pools
    generation.fetch_add(1, std::memory_order_relaxed);
    // Inherited by some kernels and not by others; a refusal shows when it is first needed.
    if (cpu_area != 0) os::register_sync_sequences();
    fork_watch.arm();
}

// At start, not at the first use: which a fork waits for, as older C libraries do for whoever adds a handler.
[[gnu::constructor(102)]] void watch_forks() noexcept { pthread_atfork(nullptr, nullptr, begin_generation); }

#if defined(__SANITIZE_THREAD__)
constexpr bool thread_sanitizer = true;
#elif defined(__has_feature)
constexpr bool thread_sanitizer = __has_feature(thread_sanitizer);
#else
constexpr bool thread_sanitizer = false;
#endif

SequenceSupport find_support() noexcept {
    if (thread_sanitizer) return {0, "the thread sanitizer does not see what the interrupt of a sequence orders", 0};
    if (detail::Restartable::thread_pointer() == nullptr) return {0, "there are none for this machine, or in this build", 0};
    const os::RseqArea area = os::rseq_area();
    if (area.refusal != nullptr) return {0, area.refusal, 0};
    cpu_area = area.offset;
    if (const int error = os::register_sync_sequences(); error != 0)
        return {area.offset, "membarrier(PRIVATE_EXPEDITED_RSEQ) is refused", error};
    return {area.offset, nullptr, 0};
}

}  // namespace

[[gnu::tls_model("initial-exec")]] thread_local constinit CpuGuess cpu_guess;

constinit std::ptrdiff_t cpu_area = 0;

const SequenceSupport& sequence_support() noexcept {
    // Every pool is made after this; a process without one watches nothing.
    static constinit MadeOnFirstUse<SequenceSupport> support;
    return support.get([] {
        fork_watch.arm();
        return find_support();
    });
}

void CpuGuess::ask() noexcept {
    const os::KeepErrno keep;
    const int now = sched_getcpu();
    cpu = now < 0 ? 0 : static_cast<unsigned>(now);
}

void mark_thread_without_sequences() noexcept {
    const os::RseqArea area = os::rseq_area();
    if (area.offset == 0) return;
    const os::KeepErrno keep;
    // The kernel compares with the area that it knows (EINVAL); only without one it looks at the address that it is given.
    constexpr std::uintptr_t of_the_kernel = ~std::uintptr_t{0xfff};
    constexpr unsigned area_bytes = 32;
    if (syscall(SYS_rseq, of_the_kernel, area_bytes, 0, 0) == -1 && errno == EFAULT)
        detail::Restartable::set_no_cpu(area.offset);
}

int interrupt_sequences(unsigned cpu) noexcept {
    int error = os::sync_sequences(cpu);
    // A raw clone's child may not have inherited the registration.
    if (error == EPERM && os::register_sync_sequences() == 0) error = os::sync_sequences(cpu);
    return error;
}

std::uint64_t process_generation() noexcept { return generation.load(std::memory_order_relaxed); }

void notice_new_process() noexcept {
    if (fork_watch.is_new_process()) begin_generation();
}

}  // namespace dynfunc
