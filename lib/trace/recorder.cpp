// SPDX-License-Identifier: MIT
#include "recorder.hpp"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <new>

#include "at_hit.hpp"
#include "callers.hpp"
#include "function_numbers.hpp"
#include "hit.hpp"
#include "os.hpp"
#include "ticks.hpp"

namespace dynfunc::trace {

constinit RecordingHeader* Recorder::header_ = nullptr;

namespace {

constinit std::byte* slots_begin = nullptr;  // of all slots, or of the shared one alone
constinit std::size_t usable_slots = 0, slot_bytes = 0, tree_at = 0, ring_at = 0, most_events = 0;
pthread_key_t thread_end;

#define DYNFUNC_OF_THREAD [[gnu::tls_model("initial-exec")]] constinit thread_local
// This thread's slot; null: it has not been seen yet.
DYNFUNC_OF_THREAD std::byte* mine = nullptr;
DYNFUNC_OF_THREAD bool is_own_work = false;
// In a child that was just forked: where its thread was, in its parent's slot.
DYNFUNC_OF_THREAD const std::byte* slot_before = nullptr;
DYNFUNC_OF_THREAD std::uint32_t node_before = 0;

DYNFUNC_IN_HIT CallTree& tree_of(std::byte* slot) noexcept { return *reinterpret_cast<CallTree*>(slot + tree_at); }
DYNFUNC_IN_HIT const CallTree& tree_of(const std::byte* slot) noexcept {
    return *reinterpret_cast<const CallTree*>(slot + tree_at);
}
DYNFUNC_IN_HIT bool is_shared(const std::byte* slot) noexcept { return slot == slots_begin; }

template <class Record>
DYNFUNC_IN_HIT Record& record(std::uint32_t number) noexcept {
    return reinterpret_cast<Record*>(mine)[number];
}

template <class Value>
DYNFUNC_IN_HIT void add(Value& to, Value value) noexcept {
    if (is_shared(mine))
        __atomic_fetch_add(&to, value, __ATOMIC_RELAXED);
    else
        __atomic_store_n(&to, to + value, __ATOMIC_RELAXED);
}

// ---- The tree. Its owner alone writes to it, and no hit of the thread is delivered within another ----

// The child of a node for a function; 0: there is no room.
DYNFUNC_IN_HIT std::uint32_t child_of(CallTree& tree, std::uint32_t parent, std::uint32_t function) noexcept {
    std::uint32_t& cached = tree.cache[(parent * 0x9e37'79b1u ^ function * 0x85eb'ca77u) >> 22];
    static_assert(CallTree::cached == 1u << (32 - 22));
    const CallNode& likely = tree.nodes[cached];
    if (likely.parent == parent && likely.function == function && cached != 0) return cached;
    CallNode& above = tree.nodes[parent];
    std::uint32_t node = above.first_child;
    while (node != 0 && tree.nodes[node].function != function) node = tree.nodes[node].next_sibling;
    if (node == 0) {
        node = tree.nodes_used + 1;
        if (node >= CallTree::most_nodes || above.depth + 1 >= CallTree::most_depth) return 0;
        CallNode& made = tree.nodes[node];
        made.function = function;
        made.depth = above.depth + 1;
        made.parent = parent;
        made.next_sibling = above.first_child;
        __atomic_store_n(&tree.nodes_used, node, __ATOMIC_RELEASE);
        above.first_child = node;
    }
    cached = node;
    return node;
}

// The same chain of callers in another slot's tree; 0: there is no room. Its frames are taken for live until they return.
DYNFUNC_AT_HIT std::uint32_t chain_in(CallTree& tree, const CallTree& from, std::uint32_t node) noexcept {
    // Callers that are still to be found, the first one last: in place of the frames that will be theirs.
    std::uint32_t depth = 0;
    for (std::uint32_t above = node; above != 0; above = from.nodes[above].parent)
        tree.frames[from.nodes[above].depth].return_address = from.nodes[above].function;
    const std::uint32_t deepest = from.nodes[node].depth;
    std::uint32_t found = 0;
    while (depth < deepest) {
        CallTree::Frame& frame = tree.frames[++depth];
        const std::uint32_t next = child_of(tree, found, static_cast<std::uint32_t>(frame.return_address));
        if (next == 0) return 0;
        found = next;
        frame = {.stack_pointer = ~std::uint64_t{0}, .return_address = 0, .began = 0};
    }
    return found;
}

// The call that is entered has this caller. Calls that longjmp has left are none: their frames lie below, or at the same place,
// where a live one lies only if it has ended in a jump to what is entered now, and will be returned to.
DYNFUNC_IN_HIT std::uint32_t caller_of(const CallTree& tree, std::uint64_t return_address, Registers& registers) noexcept {
    const std::uint64_t stack_pointer = registers.stack_pointer();
    std::uint32_t node = tree.current;
    while (node != 0) {
        const CallTree::Frame& frame = tree.frames[tree.nodes[node].depth];
        if (frame.stack_pointer > stack_pointer ||
            (frame.stack_pointer == stack_pointer && frame.return_address != return_address &&
             Callers::is_place_of_return(return_address, registers)))
            break;
        node = tree.nodes[node].parent;
    }
    return node;
}

// ---- Slots. No system call: the program may have forbidden them ----

constinit std::int32_t process = 0;  // this one

// The C library knows, and keeps it in every mutex that wants its owner back.
std::int32_t this_thread() noexcept {
    pthread_mutex_t mutex = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
    pthread_mutex_lock(&mutex);
    const std::int32_t owner = mutex.__data.__owner;
    pthread_mutex_unlock(&mutex);
    return owner;
}

bool claim_slot(std::size_t slot) noexcept {
    auto& owner = const_cast<RecordingHeader&>(Recorder::header()).owner[slot];
    std::int32_t nobody = 0;
    return owner.load(std::memory_order_relaxed) == 0 &&
           owner.compare_exchange_strong(nobody, process, std::memory_order_acquire);
}

void claim_slot() noexcept {
    const Recorder::OwnWork own;
    const os::KeepErrno keep;
    std::size_t slot = shared_slot + 1;
    while (slot < usable_slots && !claim_slot(slot)) ++slot;
    mine = slots_begin;
    if (slot >= usable_slots) return;
    mine = slots_begin + slot * slot_bytes;
    pthread_setspecific(thread_end, reinterpret_cast<void*>(slot));
    if (Recorder::header().with_tree == 0) return;
    CallTree& tree = tree_of(mine);
    tree.process = process;
    tree.thread = this_thread();
    __atomic_store_n(&tree.current, 0, __ATOMIC_RELEASE);
    if (const std::byte* const before = std::exchange(slot_before, nullptr); before != nullptr)
        __atomic_store_n(&tree.current, chain_in(tree, tree_of(before), node_before), __ATOMIC_RELEASE);
}

// At a hit, with vector registers kept.
DYNFUNC_AT_HIT [[gnu::noinline]] void claim_slot(Registers& registers) noexcept {
    dynfunc_keep_vectors([](void*, Registers*) { claim_slot(); }, nullptr, &registers);
}

void release_slot(void* slot) noexcept {
    if (mine != nullptr && !is_shared(mine) && Recorder::header().with_tree != 0)
        __atomic_store_n(&tree_of(mine).current, 0, __ATOMIC_RELAXED);
    mine = slots_begin;  // destructors that come later
    const_cast<RecordingHeader&>(Recorder::header())
        .owner[reinterpret_cast<std::size_t>(slot)]
        .store(0, std::memory_order_release);
}

// ---- Hits ----

DYNFUNC_AT_HIT AfterHit on_hit(ProbeHit& hit) {
    if (is_own_work) return AfterHit::keep;
    if (mine == nullptr) claim_slot(hit.registers);
    add(record<CountRecord>(static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(hit.data))).calls, std::uint64_t{1});
    return AfterHit::keep;
}

struct Call {
    std::uint64_t began = 0;
    std::uint32_t number = 0;
    std::uint32_t node = 0;  // 0: none; of the tree of
    std::byte* slot = nullptr;
};

template <bool with_tree>
DYNFUNC_AT_HIT Track on_entry(Call& call, Registers& registers) {
    if (is_own_work) return Track::skip;
    if (mine == nullptr) claim_slot(registers);
    // Another handler may have sent the call elsewhere: the library's own, for sigaction() and its like.
    call.number = FunctionNumbers::at(registers.instruction_pointer());
    if (call.number == FunctionNumbers::none) return Track::skip;
    auto& times = record<TimeRecord>(call.number);
    add(times.calls, std::uint64_t{1});
    const std::uint64_t stack_pointer = registers.stack_pointer();
    const std::uint64_t return_address = registers.return_address();
    if (!Callers::has_unwind_information(return_address, registers)) {
        add(times.untimed, std::uint64_t{1});
        return Track::skip;
    }
    if constexpr (with_tree) {
        CallTree& tree = tree_of(mine);
        call.slot = mine;
        call.node = 0;
        if (!is_shared(mine)) call.node = child_of(tree, caller_of(tree, return_address, registers), call.number);
        if (call.node == 0) {
            add(tree.unplaced, std::uint64_t{1});
        } else {
            CallNode& node = tree.nodes[call.node];
            __atomic_store_n(&node.calls, node.calls + 1, __ATOMIC_RELAXED);
            call.began = arch::ticks();
            tree.frames[node.depth] = {stack_pointer, return_address, call.began};
            __atomic_store_n(&tree.current, call.node, __ATOMIC_RELEASE);
            return Track::track;
        }
    }
    call.began = arch::ticks();
    return Track::track;
}

// One by one, as they end.
DYNFUNC_IN_HIT void write_event(const CallTree& tree, const Call& call, std::uint64_t took) noexcept {
    auto& ring = *reinterpret_cast<EventRing*>(mine + ring_at);
    CallEvent& event = reinterpret_cast<CallEvent*>(&ring + 1)[ring.written & (most_events - 1)];
    __atomic_store_n(&event.function, 0, __ATOMIC_RELAXED);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    event.began = call.began;
    event.took = took;
    event.process = tree.process;
    event.thread = tree.thread;
    __atomic_store_n(&event.function, call.number + 1, __ATOMIC_RELEASE);
    __atomic_store_n(&ring.written, ring.written + 1, __ATOMIC_RELEASE);
}

DYNFUNC_IN_HIT void end_in_tree(const Call& call, std::uint64_t took) noexcept {
    if (is_shared(mine) || call.node == 0) return;
    CallTree& tree = tree_of(mine);
    std::uint32_t place = call.node;
    // Begun by another thread, or by the process that this one was forked from.
    if (call.slot != mine) place = chain_in(tree, tree_of(call.slot), place);
    if (place == 0) return;
    CallNode& node = tree.nodes[place];
    __atomic_store_n(&node.ended, node.ended + 1, __ATOMIC_RELAXED);
    __atomic_store_n(&node.total, node.total + took, __ATOMIC_RELAXED);
    __atomic_store_n(&tree.current, node.parent, __ATOMIC_RELEASE);
    if (most_events != 0) write_event(tree, call, took);
}

template <bool with_tree>
DYNFUNC_IN_HIT void end(const Call& call, std::uint64_t took) noexcept {
    auto& times = record<TimeRecord>(call.number);
    add(times.ended, std::uint64_t{1});
    add(times.total, took);
    if (took > times.most) times.most = took;  // of the shared ones, perhaps one is lost to another that is as rare
    add(times.histogram[Histogram::bucket_of(took)], std::uint32_t{1});
    if constexpr (with_tree) end_in_tree(call, took);
}
template <bool with_tree>
DYNFUNC_AT_HIT void on_return(Call& call, Registers& registers) {
    const std::uint64_t took = arch::ticks() - call.began;
    if (mine == nullptr) claim_slot(registers);
    end<with_tree>(call, took);
}
template <bool with_tree>
void on_unwind(Call& call) {
    const std::uint64_t took = arch::ticks() - call.began;
    if (mine == nullptr) claim_slot();
    end<with_tree>(call, took);
}

template <bool with_tree>
void set_handlers(detail::ReturnPlan& plan) noexcept {
    using Handler = detail::ReturnPlan::Handler;
    plan.on_entry = reinterpret_cast<Handler>(&on_entry<with_tree>);
    plan.on_return = reinterpret_cast<Handler>(&on_return<with_tree>);
    plan.on_unwind = reinterpret_cast<Handler>(&on_unwind<with_tree>);
}

}  // namespace

Recorder::OwnWork::OwnWork() noexcept : before_(std::exchange(is_own_work, true)) {}
Recorder::OwnWork::~OwnWork() { is_own_work = before_; }

bool Recorder::open(int recording) noexcept {
    if (pthread_key_create(&thread_end, &release_slot) != 0) return false;
    RecordingSettings first{};
    if (pread(recording, &first, sizeof first, 0) != sizeof first) return false;
    for (const std::size_t count : {slots, shared_slot + 1}) {
        // Far from all code, whose neighbourhood is needed for stubs: programs lie at the ends of the 47 bits of x86-64.
        void* const far = reinterpret_cast<void*>(std::uintptr_t{1} << 45);
        const std::size_t bytes = header_bytes + count * first.slot_bytes();
        void* const memory = mmap(far, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, recording, 0);
        if (memory == MAP_FAILED) continue;
        madvise(memory, bytes, MADV_DONTDUMP);
        header_ = static_cast<RecordingHeader*>(memory);
        slots_begin = static_cast<std::byte*>(memory) + header_bytes;
        usable_slots = count;
        slot_bytes = first.slot_bytes();
        tree_at = first.tree_at();
        ring_at = first.ring_at();
        most_events = first.most_events;
        process = getpid();
        return true;
    }
    return false;
}

AfterHit (*Recorder::counting() noexcept)(ProbeHit&) { return &on_hit; }

void Recorder::set_timing(detail::ReturnPlan& plan) noexcept {
    if (header_->with_tree != 0)
        set_handlers<true>(plan);
    else
        set_handlers<false>(plan);
    plan.data_bytes = sizeof(Call);
    plan.data_alignment = alignof(Call);
    plan.construct = [](const void*, void* data) { new (data) Call; };
}

void Recorder::before_fork() noexcept {
    slot_before = nullptr;
    if (mine == nullptr || is_shared(mine) || header_->with_tree == 0) return;
    node_before = tree_of(mine).current;
    slot_before = mine;
}

void Recorder::in_child() noexcept {
    process = getpid();
    mine = nullptr;
}

}  // namespace dynfunc::trace
