// SPDX-License-Identifier: MIT
#include <dynfunc/grace_period.hpp>

#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <time.h>

#include <array>
#include <mutex>
#include <new>
#include <utility>

#include "fatal.hpp"
#include "fork_watch.hpp"
#include "lock.hpp"
#include "os.hpp"
#include "reclaim.hpp"

namespace dynfunc {
namespace detail {

constinit std::atomic<std::uint64_t> current_period{1};
// A section that opens before the library's constructor knows better pays for the fence.
constinit std::atomic<bool> readers_fence{true};
thread_local constinit ReaderWord* reader_word = nullptr;

void full_fence() noexcept { __sync_synchronize(); }

}  // namespace detail

namespace {

// One thread's word. Readers are never freed, only handed on to the next thread, so that the list may be walked and extended
// without a lock, also by signal handlers.
struct alignas(64) Reader {
    detail::ReaderWord word{0};
    std::atomic<bool> in_use{false};
    Reader* next = nullptr;
};

constexpr std::size_t chunk_readers = 64;
struct Chunk {
    std::array<Reader, chunk_readers> readers;
    Chunk* next = nullptr;
};
constinit Chunk first_chunk{};
constinit std::atomic<Chunk*> chunks{&first_chunk};  // the newest first

constinit std::atomic<Retired*> retired{nullptr}, retired_own{nullptr};
// Threads that have taken items out of `retired` and not finished with them.
// Two counts, used in turn, so that whoever waits for the older ones is not held up by those who come later.
constinit std::atomic<int> reclaimers[2]{};
constinit std::atomic<unsigned> reclaimer_turn{0};
[[gnu::tls_model("initial-exec")]] thread_local constinit int reclaiming = 0;

constinit RankedMutex period_lock{LockRank::grace_period};
constinit ForkWatch fork_watch{};
pthread_key_t thread_end;
constinit bool has_thread_end = false;

template <class Visit>
void for_each_reader(Visit&& visit) {
    for (Chunk* chunk = chunks.load(std::memory_order_acquire); chunk != nullptr; chunk = chunk->next)
        for (Reader& reader : chunk->readers) visit(reader);
}

Reader* claim_free_reader() noexcept {
    for (Chunk* chunk = chunks.load(std::memory_order_acquire); chunk != nullptr; chunk = chunk->next)
        for (Reader& reader : chunk->readers)
            if (!reader.in_use.load(std::memory_order_relaxed) && !reader.in_use.exchange(true, std::memory_order_acquire))
                return &reader;
    return nullptr;
}

void add_chunk() noexcept {
    void* memory = mmap(nullptr, sizeof(Chunk), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) fatal("no memory to register another thread that opens a ReadSection");
    auto* chunk = new (memory) Chunk{};
    chunk->next = chunks.load(std::memory_order_relaxed);
    while (!chunks.compare_exchange_weak(chunk->next, chunk, std::memory_order_release, std::memory_order_relaxed)) {
    }
}

void release_reader(void* reader) noexcept {
    detail::reader_word = nullptr;
    static_cast<Reader*>(reader)->in_use.store(false, std::memory_order_release);
}

// The child of a fork has one thread: every other section in the copied list will never be closed.
void close_sections_of_the_parent() noexcept {
    period_lock.reset_in_child();
    // What the parent's other threads had taken is lost here.
    reclaimers[0].store(0, std::memory_order_relaxed);
    reclaimers[1].store(0, std::memory_order_relaxed);
    for_each_reader([](Reader& reader) {
        if (&reader.word == detail::reader_word) return;
        reader.word.store(0, std::memory_order_relaxed);
        reader.in_use.store(false, std::memory_order_relaxed);
    });
    if (!detail::readers_fence.load(std::memory_order_relaxed) && os::register_sync_memory() != 0)
        fatal("membarrier is refused in a child of a process that had it");
    fork_watch.arm();
}

[[gnu::constructor(101)]] void start_grace_periods() noexcept {
    has_thread_end = pthread_key_create(&thread_end, release_reader) == 0;
    if (os::register_sync_memory() == 0) detail::readers_fence.store(false, std::memory_order_relaxed);
    fork_watch.arm();
    // No handler before fork() takes the lock: the forking thread may be inside a section that a synchronize() waits for.
    pthread_atfork(nullptr, nullptr, close_sections_of_the_parent);
}

// A static copy of the library in a plug-in leaves with it: threads that end later must not be sent into it.
[[gnu::destructor(101)]] void stop_grace_periods() noexcept {
    if (has_thread_end) pthread_key_delete(thread_end);
    has_thread_end = false;
}

// (E) pairs with (D) in ~ReadSection.
bool is_over(const detail::ReaderWord& word, std::uint64_t period) noexcept {
    const std::uint64_t began = word.load(std::memory_order_acquire);
    return began == 0 || began >= period;
}

// Until the section that `word` shows has ended, or is a newer one.
void wait_for(const detail::ReaderWord& word, std::uint64_t period) noexcept {
    for (unsigned round = 0; !is_over(word, period); ++round) {
        if (round < 16) {
            sched_yield();
        } else {
            const timespec pause{0, round < 64 ? 50'000 : 1'000'000};
            nanosleep(&pause, nullptr);
        }
    }
}

}  // namespace

detail::ReaderWord* detail::register_reader() noexcept {
    Reader* reader = claim_free_reader();
    while (reader == nullptr) {
        add_chunk();
        reader = claim_free_reader();
    }
    // A handler may have registered this thread meanwhile; then its word is the thread's and ours goes back.
    if (reader_word != nullptr) {
        reader->in_use.store(false, std::memory_order_release);
        return reader_word;
    }
    reader_word = &reader->word;
    static_assert(offsetof(Reader, word) == 0);
    if (has_thread_end) pthread_setspecific(thread_end, reader);  // otherwise the reader is not reused: memory, no harm
    return reader_word;
}

namespace {

// Every section whose word is not seen afterwards is of the new period.
std::uint64_t begin_period() noexcept {
    // Release: who reads the new number sees what the caller replaced before.
    const std::uint64_t period = detail::current_period.fetch_add(1, std::memory_order_seq_cst) + 1;
    // (C) pairs with (B) in ReadSection: a section whose word is not seen below has not read anything yet.
    if (detail::readers_fence.load(std::memory_order_relaxed))
        detail::full_fence();
    else if (os::sync_memory() != 0)
        fatal("membarrier is refused though it was granted at start: the order of read sections is lost");
    return period;
}

void push(std::atomic<Retired*>& list, Retired& item) noexcept {
    item.next = list.load(std::memory_order_relaxed);
    // (L) release: whoever takes the item sees it whole. Pairs with the exchange in Taken.
    while (!list.compare_exchange_weak(item.next, &item, std::memory_order_release, std::memory_order_relaxed)) {
    }
}

unsigned enter_reclaimer() noexcept {
    const unsigned turn = reclaimer_turn.load(std::memory_order_seq_cst) % 2;
    reclaimers[turn].fetch_add(1, std::memory_order_seq_cst);
    return turn;
}
void leave_reclaimer(unsigned turn, int count) noexcept { reclaimers[turn].fetch_sub(count, std::memory_order_seq_cst); }

// Everything that is retired in a list, taken out of it until this ends.
class Taken {
public:
    explicit Taken(std::atomic<Retired*>& list) noexcept : list_(list) {
        turn_ = enter_reclaimer();
        items_ = list.exchange(nullptr, std::memory_order_seq_cst);
        // Who reclaims nothing, or only the library's own, holds up nobody.
        if (items_ == nullptr || &list != &retired) leave_reclaimer(turn_, std::exchange(counted_, 0));
    }
    ~Taken() { leave_reclaimer(turn_, counted_); }
    Taken(const Taken&) = delete;

    void reclaim() noexcept {
        reclaiming += counted_;
        for_each([](Retired& item) { item.reclaim(item); });
        reclaiming -= counted_;
    }
    void put_back() noexcept {
        for_each([this](Retired& item) { push(list_, item); });
    }

private:
    template <class Visit>
    void for_each(Visit&& visit) noexcept {
        for (Retired* next = items_; next != nullptr;) {
            Retired& item = *next;
            next = item.next;
            visit(item);
        }
    }
    std::atomic<Retired*>& list_;
    Retired* items_;
    unsigned turn_;
    int counted_ = 1;
};

bool has_retired() noexcept { return retired.load(std::memory_order_seq_cst) != nullptr; }

}  // namespace

void retire(Retired& item) noexcept { push(retired, item); }
void retire_own(Retired& item) noexcept { push(retired_own, item); }

bool is_in_section() noexcept {
    return detail::reader_word != nullptr && detail::reader_word->load(std::memory_order_relaxed) != 0;
}

void synchronize() noexcept {
    if (fork_watch.is_new_process()) close_sections_of_the_parent();  // a raw clone ran no fork handler
    if (is_in_section()) fatal("synchronize() inside a ReadSection would wait for itself");
    Taken due(retired), own(retired_own);
    {
        const std::lock_guard hold(period_lock);
        const std::uint64_t period = begin_period();
        for_each_reader([&](const Reader& reader) { wait_for(reader.word, period); });
    }
    own.reclaim();
    due.reclaim();
}

void try_reclaim_own() noexcept {
    if (retired_own.load(std::memory_order_relaxed) == nullptr || is_in_section()) return;
    if (fork_watch.is_new_process()) close_sections_of_the_parent();
    Taken own(retired_own);
    const std::uint64_t period = begin_period();
    bool all_over = true;
    for_each_reader([&](const Reader& reader) { all_over = all_over && is_over(reader.word, period); });
    if (all_over)
        own.reclaim();
    else
        own.put_back();
}

Reclaiming::Reclaiming() noexcept {
    ++reclaiming;
    turn_ = enter_reclaimer();
}

Reclaiming::~Reclaiming() {
    leave_reclaimer(turn_, 1);
    --reclaiming;
}

void reclaim_retired() noexcept {
    if (is_in_section()) return;
    while (has_retired()) synchronize();
    // Whoever is called back by a reclaimer, itself perhaps, must not wait for it.
    for (int turns = 0; reclaiming == 0 && turns < 2; ++turns) {
        const unsigned older = reclaimer_turn.fetch_add(1, std::memory_order_seq_cst) % 2;
        while (reclaimers[older].load(std::memory_order_seq_cst) > 0) sched_yield();
    }
}

}  // namespace dynfunc
