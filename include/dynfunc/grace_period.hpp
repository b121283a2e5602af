// SPDX-License-Identifier: MIT
// Waiting until nobody can be inside something old any more.
//
//     // every caller                                        // whoever replaces the codec
//     { dynfunc::ReadSection inside; out = decode(in); }     decode.retarget(&new_decode);
//                                                            dynfunc::synchronize();   // every section that was open is closed
//                                                            dlclose(old_codec);
//
// Without a section around its calls, retargeting a function tells nothing about who is still inside the old target:
// synchronize() waits for sections, not for calls.
//
// How: a section is one word of its thread, written with plain stores; synchronize() pays for the ordering with a membarrier
// and waits until each thread's word shows that its section began later, or ended. After liburcu's "memb" flavour
// (Desnoyers et al., User-Level Implementations of Read-Copy Update, IEEE TPDS 2012), with a 64-bit period number in place of
// a phase bit, so that one pass is enough. Where membarrier is refused a section costs a full fence.
//
// Bench "readers" (Zen 3, 2 virtual CPUs, beside other work): a section costs 0.7 to 0.8 ns, liburcu's memb 1.0 to 1.3, its
// bulletproof flavour 1.3 to 1.8, counters for each CPU as in SRCU 4.6 to 5.1. synchronize() is little more than its one
// membarrier: 0.5 to 0.8 us, 14 to 20 us while a reader runs on another CPU; liburcu's, with two of them, twice that. Counters
// without membarrier wait 0.03 and 0.6 us, and the readers pay.
#pragma once

#include <atomic>
#include <cstdint>

#include <dynfunc/detail/export.hpp>

namespace dynfunc {

namespace detail {

// What a thread's word holds: 0 outside every section, else the number of the period in which its outermost section began.
using ReaderWord = std::atomic<std::uint64_t>;

DYNFUNC_EXPORT extern constinit std::atomic<std::uint64_t> current_period;
DYNFUNC_EXPORT extern constinit std::atomic<bool> readers_fence;  // membarrier is refused
// Initial-exec: no call to the dynamic linker's lazy allocator, so that a signal handler may open a section.
[[gnu::tls_model("initial-exec")]] DYNFUNC_EXPORT extern thread_local constinit ReaderWord* reader_word;

DYNFUNC_EXPORT ReaderWord* register_reader() noexcept;
DYNFUNC_EXPORT void full_fence() noexcept;

}  // namespace detail

// While one exists, no synchronize() that began after it returns. Sections nest. Keep them short: each one that is open holds
// up every synchronize().
// Threads:  the thread that opened it closes it, in reverse order; signal handlers may open their own.
// Blocks:   never. The first section of a thread registers it (lock-free; it takes memory when more than 64 threads have one).
class [[nodiscard]] ReadSection {
public:
    [[nodiscard, gnu::always_inline]] ReadSection() noexcept {
        word_ = detail::reader_word;
        if (word_ == nullptr) [[unlikely]]
            word_ = detail::register_reader();
        outer_ = word_->load(std::memory_order_relaxed);
        // A handler between this load and the store opens and closes its own section and leaves the word as it found it.
        // Acquire: a section that carries the new period's number sees what was replaced before that period began.
        if (outer_ == 0) word_->store(detail::current_period.load(std::memory_order_acquire), std::memory_order_relaxed);
        // (B) pairs with (C) in synchronize(): either the word is seen there, or what was replaced before is seen here.
        std::atomic_signal_fence(std::memory_order_seq_cst);
        if (detail::readers_fence.load(std::memory_order_relaxed)) [[unlikely]]
            detail::full_fence();
    }
    // (D) pairs with (E) in synchronize(): everything read inside is read before the section is seen closed.
    [[gnu::always_inline]] ~ReadSection() { word_->store(outer_, std::memory_order_release); }

    ReadSection(const ReadSection&) = delete;
    ReadSection& operator=(const ReadSection&) = delete;

    // Whether it was opened inside another one of this thread.
    bool is_nested() const noexcept { return outer_ != 0; }

private:
    detail::ReaderWord* word_;
    std::uint64_t outer_;
};

namespace detail {

// A ReadSection that is known to be the outermost of a thread that is registered already. It keeps nothing, so that a function
// may hold one across a call without keeping a register.
class [[nodiscard]] OutermostSection {
public:
    // Whether this thread may open one.
    [[gnu::always_inline]] static bool is_possible() noexcept {
        return reader_word != nullptr && reader_word->load(std::memory_order_relaxed) == 0;
    }
    [[nodiscard, gnu::always_inline]] OutermostSection() noexcept {
        reader_word->store(current_period.load(std::memory_order_acquire), std::memory_order_relaxed);
        std::atomic_signal_fence(std::memory_order_seq_cst);  // (B)
        if (readers_fence.load(std::memory_order_relaxed)) [[unlikely]]
            full_fence();
    }
    [[gnu::always_inline]] ~OutermostSection() { reader_word->store(0, std::memory_order_release); }  // (D)

    OutermostSection(const OutermostSection&) = delete;
    OutermostSection& operator=(const OutermostSection&) = delete;
};

}  // namespace detail

// Returns when every section that was open when it was called is closed.
// Threads:  any. Calling it inside a section would wait for itself: that aborts with a message.
// Blocks:   yes, as long as the longest such section. Not from signal handlers.
// Ordering: what those sections read and wrote happens before the return; what the caller replaced before the call is what
//           every section opened later sees.
// Retired:  it reclaims what was retire()d before it was called, on this thread, with no lock held; but for items that another
//           thread has taken and is about to reclaim.
// fork():   the child has only the thread that forked; sections of the others are closed in it.
DYNFUNC_EXPORT void synchronize() noexcept;

// Something that is out of every new section's sight and is to be freed when no older section can see it any more. Part of the
// thing itself, so that retiring needs no memory.
struct Retired {
    void (*reclaim)(Retired& item) noexcept = nullptr;
    Retired* next = nullptr;  // the library's
};

// Hands `item` over: a synchronize() that is called afterwards, by anyone, calls item.reclaim(item) once, with no lock held.
// (Of two that are called at once either does it, and the other may return first.) Nobody may touch `item` before.
// Threads:  any, also inside sections and in signal handlers.
// Blocks:   never.
DYNFUNC_EXPORT void retire(Retired& item) noexcept;

}  // namespace dynfunc
