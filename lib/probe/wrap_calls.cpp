// SPDX-License-Identifier: MIT
// Begin and end of a wrapped call. Whoever begins is counted inside a ReadSection, in which the wrap was active; so after a
// grace period no call begins that a detached wrap would not know of. Begins and ends are counted for themselves, because a
// call may end in another thread than it began in (fibers).
#include "wrap_calls.hpp"

#include <dynfunc/detail/machine.hpp>

#include "hit_threads.hpp"
#include "os.hpp"

namespace dynfunc {
namespace {

using detail::WrapContext;
using detail::WrapCore;

// Null: it is not there yet.
[[gnu::always_inline]] inline std::uint64_t* counter_of_thread(const HitCounts* counts, std::uint32_t counter) noexcept {
    std::uint64_t* const chunk = counts->chunk[counter / HitCounts::chunk_size];  // its own thread's: nobody else writes it
    return chunk == nullptr ? nullptr : chunk + counter % HitCounts::chunk_size;
}

// What is wrapped may be what this calls.
class Preparing {
public:
    Preparing() noexcept { dynfunc_thread_work |= prepares_a_call; }
    ~Preparing() { dynfunc_thread_work &= ~prepares_a_call; }
    Preparing(const Preparing&) = delete;

private:
    const os::KeepErrno keep_;
};

[[gnu::noinline, gnu::cold]] bool is_busy_indeed() noexcept {
    forget_left_hit();
    return is_at_work();
}

[[gnu::noinline, gnu::cold]] void register_thread() noexcept {
    const Preparing preparing;
    dynfunc_register_hit_thread(nullptr, nullptr);
}

// Null: no memory.
[[gnu::noinline, gnu::cold]] std::uint64_t* make_counter(std::uint32_t counter) noexcept {
    const Preparing preparing;
    make_hit_chunk(counter / HitCounts::chunk_size);
    return counter_of_thread(dynfunc_hit_counts, counter);
}

// Also inside a section, in a thread that has not called anything wrapped before, or not this.
[[gnu::noinline, gnu::section("dynfunc_hot")]] WrapCore* begin_slowly(WrapContext& context) noexcept {
    if (is_at_work() && is_busy_indeed()) return nullptr;
    if (dynfunc_hit_counts == nullptr || detail::reader_word == nullptr) register_thread();
    const ReadSection section;
    WrapCore* const core = context.active.load(std::memory_order_acquire);
    if (core == nullptr) return nullptr;
    std::uint64_t* counter = counter_of_thread(dynfunc_hit_counts, core->began);
    if (counter == nullptr) counter = make_counter(core->began);
    if (counter == nullptr) return nullptr;
    DYNFUNC_DETAIL_COUNT(*counter);
    return core;
}

[[gnu::noinline, gnu::section("dynfunc_hot")]] void end_slowly(std::uint32_t ended) noexcept {
    if (dynfunc_hit_counts == nullptr) register_thread();
    std::uint64_t* counter = counter_of_thread(dynfunc_hit_counts, ended);
    if (counter == nullptr) counter = make_counter(ended);
    if (counter != nullptr) DYNFUNC_DETAIL_COUNT(*counter);  // otherwise the callable stays for ever
}

}  // namespace

// What is rare is left to a function that this one ends with, so that it keeps no register for it.
[[gnu::section("dynfunc_hot")]] WrapCore* begin_wrapped_call(WrapContext& context) noexcept {
    const HitCounts* const counts = dynfunc_hit_counts;
    if (is_at_work() || counts == nullptr || !detail::OutermostSection::is_possible()) [[unlikely]]
        return begin_slowly(context);
    {
        const detail::OutermostSection section;
        WrapCore* const core = context.active.load(std::memory_order_acquire);
        if (core == nullptr) [[unlikely]]
            return nullptr;
        if (std::uint64_t* const counter = counter_of_thread(counts, core->began)) [[likely]] {
            DYNFUNC_DETAIL_COUNT(*counter);
            return core;
        }
    }
    return begin_slowly(context);
}

// Once it is counted, the wrap may be gone.
[[gnu::section("dynfunc_hot")]] void end_wrapped_call(WrapCore& core) noexcept {
    const HitCounts* const counts = dynfunc_hit_counts;
    std::uint64_t* const counter = counts == nullptr ? nullptr : counter_of_thread(counts, core.ended);
    if (counter == nullptr) [[unlikely]]
        return end_slowly(core.ended);
    DYNFUNC_DETAIL_COUNT(*counter);
}

}  // namespace dynfunc
