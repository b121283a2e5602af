// SPDX-License-Identifier: MIT
#include "sequences.hpp"

#include <pthread.h>
#include <sched.h>

#include <atomic>
#include <cerrno>

#include "fork_watch.hpp"
#include "os.hpp"
#include "rseq_area.hpp"

namespace dynfunc {
namespace {

constinit std::atomic<std::uint64_t> generation{0};
constinit ForkWatch fork_watch{};

void begin_generation() noexcept {
    generation.fetch_add(1, std::memory_order_relaxed);
    // Inherited by some kernels and not by others; a refusal shows when it is first needed.
    if (cpu_area != 0) os::register_sync_sequences();
    fork_watch.arm();
}

void watch_forks() noexcept {
    fork_watch.arm();
    pthread_atfork(nullptr, nullptr, begin_generation);
}

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
    static const SequenceSupport support = [] {
        watch_forks();
        return find_support();
    }();
    return support;
}

void CpuGuess::ask() noexcept {
    const os::KeepErrno keep;
    const int now = sched_getcpu();
    cpu = now < 0 ? 0 : static_cast<unsigned>(now);
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
