// SPDX-License-Identifier: MIT
// x86-64: a trap after every instruction, as a debugger that steps through pop and push does with the processor's trap flag.
// No sequence ever gets through then; a pop and a push must come to their end nevertheless. And a handler that pops and pushes
// after the first instruction, after the second, and so on, meets them in every state there is.
#include <dynfunc/object_pool.hpp>

#include <gtest/gtest.h>
#include <ucontext.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <set>
#include <vector>

#include "child.hpp"
#include "cpus.hpp"
#include "pools.hpp"

namespace dynfunc {
namespace {

struct Item {
    std::uint64_t n, unused;
};

constexpr greg_t trap_flag = 0x100;
constexpr long too_many = 200'000;  // of instructions, for what takes hundreds
volatile long steps = 0;
volatile bool gave_up = false;
volatile long last_step = 0;  // 0: all
void (*volatile at_last_step)() = nullptr;

void trapped(int, siginfo_t*, void* context) {
    steps = steps + 1;
    gave_up = steps > too_many;
    if (!gave_up && steps != last_step) return;
    static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_EFL] &= ~trap_flag;
    if (steps == last_step) at_last_step();
}

// 128 bytes below the stack pointer are the function's own.
[[gnu::always_inline]] inline void begin_steps() {
    asm volatile("lea -128(%%rsp), %%rsp\n pushfq\n orq $0x100, (%%rsp)\n popfq\n lea 128(%%rsp), %%rsp" ::: "memory", "cc");
}
[[gnu::always_inline]] inline void end_steps() {
    asm volatile("lea -128(%%rsp), %%rsp\n pushfq\n andq $~0x100, (%%rsp)\n popfq\n lea 128(%%rsp), %%rsp" ::: "memory", "cc");
}

class PoolStepping : public testing::Test {
protected:
    void SetUp() override {
        struct sigaction action {};
        action.sa_sigaction = trapped;
        action.sa_flags = SA_SIGINFO;
        sigaction(SIGTRAP, &action, &before_);
        last_step = 0;
        gave_up = false;
    }
    void TearDown() override { sigaction(SIGTRAP, &before_, nullptr); }

private:
    struct sigaction before_ {};
};

class PoolStep : public PoolStepping, public testing::WithParamInterface<PoolBackEnd> {
protected:
    void SetUp() override {
        PoolStepping::SetUp();
        if (GetParam() == PoolBackEnd::restartable && *test::no_sequences_because() != '\0')
            GTEST_SKIP() << test::no_sequences_because();
    }

    // How many instructions that took. The pool must have an object.
    static long step_through_a_pair(ObjectPool<Item>& pool, Item*& object) {
        steps = 0;
        begin_steps();
        object = pool.try_pop_raw();
        if (object != nullptr) pool.push(object);
        end_steps();
        return steps;
    }
};

TEST_P(PoolStep, APopAndAPushEndThoughEveryInstructionIsInterrupted) {
    long most = 0;
    for (const std::size_t capacity : {1, 2, 40}) {
        auto pool = test::make_pool<Item>(capacity, GetParam());
        for (int round = 0; round < 8; ++round) {
            Item* object = nullptr;
            most = std::max(most, step_through_a_pair(pool, object));
            ASSERT_FALSE(gave_up) << "no end after " << too_many << " instructions";
            EXPECT_NE(object, nullptr);
            // Beside stepped operations, others fill this CPU's stack again.
            for (int i = 0; i < round; ++i) static_cast<void>(pool.try_pop());
        }
        EXPECT_EQ(test::count_free(pool), capacity);
        EXPECT_EQ(pool.counters().misses, 1u);
        EXPECT_EQ(pool.close(), 0u);
    }
    EXPECT_GT(most, 10) << "nothing was stepped through";
    std::printf("at most %ld instructions\n", most);
}

// All of a pool's objects in this CPU's stack, where no stepped sequence reaches them: they are drained.
TEST_P(PoolStep, EveryObjectIsReached) {
    for (const std::size_t capacity : {1, 7, 30}) {
        auto pool = test::make_pool<Item>(capacity, GetParam());
        EXPECT_EQ(test::count_free(pool), capacity);
        std::vector<Item*> objects;
        objects.reserve(capacity + 1);
        steps = 0;
        begin_steps();
        while (Item* object = pool.try_pop_raw()) objects.push_back(object);
        end_steps();
        ASSERT_FALSE(gave_up);
        EXPECT_EQ(std::set(objects.begin(), objects.end()).size(), capacity);
        steps = 0;
        begin_steps();
        for (Item* object : objects) pool.push(object);
        end_steps();
        ASSERT_FALSE(gave_up);
        EXPECT_EQ(test::count_free(pool), capacity);
        EXPECT_EQ(pool.close(), 0u);
    }
}

TEST_P(PoolStep, AHandlerPopsAndPushesAfterAnyInstruction) {
    static ObjectPool<Item>* pool;
    static Item* held[3];
    static long popped, refused;
    auto made = test::make_pool<Item>(3, GetParam());
    pool = &made;
    popped = refused = 0;
    long missed = 0;
    at_last_step = [] {
        for (Item*& object : held) {
            object = pool->try_pop_raw();
            object != nullptr ? ++popped : ++refused;
        }
        // In another order than they came.
        for (Item*& object : held)
            if (object != nullptr) pool->push(object);
    };
    long step = 1;
    for (; step == last_step + 1; ++step) {
        last_step = step;
        std::fill_n(held, 3, nullptr);
        Item* object = nullptr;
        const bool whole = step_through_a_pair(made, object) < step;
        ASSERT_FALSE(gave_up);
        missed += object == nullptr;
        ASSERT_EQ(test::count_free(made), 3u) << "after instruction " << step;
        if (whole) break;
    }
    EXPECT_GT(step, 20);
    const auto rounds = static_cast<std::uint64_t>(step);
    EXPECT_EQ(made.counters().hits, static_cast<std::uint64_t>(popped - missed) + 4 * rounds);
    EXPECT_EQ(made.counters().misses, static_cast<std::uint64_t>(refused + missed) + rounds);
    EXPECT_EQ(made.close(), 0u);
}

// A child that no fork handler saw: what its first thread holds is not to be taken for what the parent's threads left behind.
TEST_F(PoolStepping, ARawClonesChildIsInterruptedInItsFirstDrain) {
    if (*test::no_sequences_because() != '\0') GTEST_SKIP() << test::no_sequences_because();
    const std::vector<int> cpus = test::allowed_cpus();
    if (cpus.size() == 1) GTEST_SKIP() << "with one CPU nothing is drained from another";
    static ObjectPool<Item>* pool;
    static Item* found[16];
    static std::size_t count;
    constexpr int over_before = 41, good = 42;
    at_last_step = [] {
        while (count < 8 && (found[count] = pool->try_pop_raw()) != nullptr) ++count;
    };
    int status = good;
    long step = 1;
    for (; status == good && step < 5'000; step += 11) {
        last_step = step;
        auto made = test::make_pool<Item>(4, PoolBackEnd::restartable);
        pool = &made;
        const test::OnCpu here(cpus[0]);
        EXPECT_EQ(test::count_free(made), 4u);  // now they lie in this CPU's stack
        test::OnCpu::move_to(cpus[1]);
        steps = 0;
        count = 0;
        status = test::wait_for(test::start_raw_child([] {
                     begin_steps();
                     Item* const first = pool->try_pop_raw();
                     end_steps();
                     if (steps < last_step) return over_before;
                     if (first != nullptr) found[count++] = first;
                     while (count < 16 && (found[count] = pool->try_pop_raw()) != nullptr) ++count;
                     std::sort(found, found + count);
                     if (std::unique(found, found + count) != found + count) return 1;
                     return count == 4 ? good : 2;
                 })).status;
    }
    EXPECT_EQ(status, over_before) << "1: an object twice, 2: one lost; interrupted after instruction " << step - 11;
}

// Many lists, with bits that say where a search is worth it: one operation is interrupted after each third of its
// instructions by another one on another CPU.
class PoolBits : public PoolStepping {
protected:
    void SetUp() override {
        PoolStepping::SetUp();
        ASSERT_TRUE(pool_->clears_bits());
        while (void* object = test::pop_on(*pool_, 0)) out_.push_back(object);
    }
    void TearDown() override {
        for (void* object : out_) test::push_on(*pool_, 0, object);
        EXPECT_EQ(pool_->close(), 0u);
        PoolStepping::TearDown();
    }
    // Runs `operation` with `interruption` after each of its instructions in turn; an object may be lost, or be found by
    // `search`.
    template <class Begin, class Operation, class Search>
    static void interrupt_everywhere(Begin&& begin, Operation&& operation, Search&& search, void (*interruption)()) {
        at_last_step = interruption;
        long step = 1;
        for (; step < 2'000; step += 3) {
            begin();
            last_step = step;
            steps = 0;
            begin_steps();
            operation();
            end_steps();
            const bool interrupted = steps == step, found = search();
            if (!interrupted) break;  // it was over before
            ASSERT_TRUE(found) << "lost after instruction " << step;
        }
        EXPECT_GT(step, 50);
        EXPECT_LT(step, 2'000);
    }

    // On 9 CPUs, each with a list of its own.
    const test::ToldCpus told_;
    const Topology topology_ = test::interleaved(1, 9, 3);
    const test::OwnedPool owned_ = test::pool_on(topology_, 36, PoolBackEnd::tagged);
    std::vector<void*> out_;
    static inline Pool* pool_;
    static inline void *moving_, *found_;

    PoolBits() { pool_ = owned_.get(); }
    // The list of CPU 5 is empty, and its bit says that it is not.
    static void begin() {
        test::push_on(*pool_, 5, moving_);
        ASSERT_EQ(test::pop_on(*pool_, 5), moving_);
        ASSERT_TRUE(is_set(pool_->occupancy.filled, pool_->stack(5).list));
        found_ = nullptr;
    }
    static bool search() {
        if (found_ == nullptr) found_ = test::pop_on(*pool_, 1);
        return found_ == moving_;
    }
};

TEST_F(PoolBits, APushInTheMiddleOfAMissIsFoundNext) {
    moving_ = out_.back();
    interrupt_everywhere(
        &begin, [] { found_ = test::pop_on(*pool_, 0); }, &search,
        [] {
            test::push_on(*pool_, 5, moving_);
            test::be_on(0);
        });
}

TEST_F(PoolBits, AMissInTheMiddleOfAPushHidesNothing) {
    moving_ = out_.back();
    static void* found_in_handler;
    interrupt_everywhere(
        [] {
            begin();
            found_in_handler = nullptr;
        },
        [] { test::push_on(*pool_, 5, moving_); },
        [] {
            if (found_in_handler != nullptr) found_ = found_in_handler;
            return search();
        },
        [] {
            found_in_handler = test::pop_on(*pool_, 0);
            test::be_on(5);
        });
}

INSTANTIATE_TEST_SUITE_P(By, PoolStep, testing::Values(PoolBackEnd::restartable, PoolBackEnd::tagged, PoolBackEnd::single),
                         [](const auto& info) { return to_string(info.param); });

}  // namespace
}  // namespace dynfunc
