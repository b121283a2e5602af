// SPDX-License-Identifier: MIT
// Threads pop, hold, hand over and push objects of one pool. Timer signals, whose handlers pop and push, interrupt them at any
// instruction, and each other; another thread moves them from CPU to CPU, and takes away the pages that the pool lies in, so
// that sequences also wait in their middle. Each object has an owner, exchanged at every hand-out and return:
//
//     - nothing is handed out that is out already, and nothing that is not the pool's
//     - at the end every object is found once
//     - hits and misses are exactly as many as the threads and handlers had
//
// The controls break one rule of the restartable back end each, and are to be noticed: membarrier does nothing; the kernel
// does not know of the sequences. DYNFUNC_TORTURE_SECONDS says for how long all runs together (default 10).
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "child.hpp"
#include "cpus.hpp"
#include "paged_memory.hpp"
#include "pools.hpp"
#include "surroundings.hpp"
#include "thread_timer.hpp"

namespace dynfunc {
namespace {

constexpr int threads = 8;
constexpr std::size_t held_most = 4096;
constexpr std::uint32_t free_object = 0, in_mail = 1, first_thread = 2, first_handler = 100;

enum class Broken { nothing, membarrier, arming };

struct Object {
    std::uint64_t owner;  // written by whoever has it, without synchronisation
    std::uint64_t rest[7];
};

struct Outcome {
    long twice = 0, foreign = 0, lost = 0, miscounted = 0;
    long pops = 0, handler_pops = 0, misses = 0, moves = 0, drains = 0;
    bool good() const { return twice == 0 && foreign == 0 && lost == 0 && miscounted == 0; }
};

class SmallRandom {
public:
    explicit SmallRandom(std::uint32_t seed) : state_(seed) {}
    std::uint32_t operator()() {
        state_ ^= state_ << 13;
        state_ ^= state_ >> 17;
        return state_ ^= state_ << 5;
    }

private:
    std::uint32_t state_;
};

template <Broken broken>
class Torture {
public:
    Torture(std::size_t capacity, PoolBackEnd back_end) : owners_(capacity), mail_(capacity / 6 + 1) {
        auto plan = test::plan_of(capacity, back_end);
        plan.allocate = [](void* memory, std::size_t bytes, std::size_t) noexcept {
            return static_cast<test::PagedMemory*>(memory)->allocate(bytes);
        };
        plan.deallocate = [](void*, void*, std::size_t, std::size_t) noexcept {};
        plan.context = &first_;
        plan.construct = [](const void* first, void* object) {
            auto*& lowest = *static_cast<Object**>(const_cast<void*>(first));
            if (lowest == nullptr) lowest = static_cast<Object*>(object);
        };
        {
            test::PagedMemory probe;
            plan.memory = &probe;
            detail::PoolCore* const core = detail::create_pool(plan).value();
            // So that the stack of one CPU begins on one page, and its deeper slots lie on the next.
            const std::size_t begin = detail::pool_core_bytes + static_cast<std::size_t>(cpus_[0]) * core->block_bytes + 64;
            memory_.begin_at(2 * test::PagedMemory::page - begin % test::PagedMemory::page);
            split_page_ = begin / test::PagedMemory::page + 1;
            detail::leave_pool(*core);
        }
        first_ = nullptr;
        plan.memory = &memory_;
        core_ = detail::create_pool(plan).value();
        if (broken == Broken::arming) {
            told_.emplace();
            core_->area = test::told_area();
        }
    }

    Outcome run(std::chrono::milliseconds duration) {
        running_ = this;
        {
            const test::Disposition alarms(SIGALRM, &in_handler), others(SIGUSR1, &in_handler);
            std::vector<std::thread> workers;
            for (int i = 0; i < threads; ++i) workers.emplace_back([this, i] { work(i); });
            disturb(std::chrono::steady_clock::now() + duration);
            stop_ = true;
            for (auto& worker : workers) worker.join();
        }
        count();
        return outcome_;
    }

private:
    static void* pop(detail::PoolCore& core) {
        if (broken == Broken::arming) test::be_on(static_cast<unsigned>(sched_getcpu()));
        return detail::pool_pop(core);
    }
    static void push(detail::PoolCore& core, void* object) {
        if (broken == Broken::arming) test::be_on(static_cast<unsigned>(sched_getcpu()));
        detail::pool_push(core, object);
    }

    std::atomic<std::uint32_t>& owner_of(Object* object) { return owners_[static_cast<std::size_t>(object - first_)]; }

    // Null: none, or one that nobody may have.
    Object* take(std::uint32_t owner) {
        auto* const object = static_cast<Object*>(pop(*core_));
        if (object == nullptr) {
            misses_.fetch_add(1, std::memory_order_relaxed);
            return nullptr;
        }
        pops_.fetch_add(1, std::memory_order_relaxed);
        const std::size_t offset = reinterpret_cast<std::uintptr_t>(object) - reinterpret_cast<std::uintptr_t>(first_);
        if (offset % sizeof(Object) != 0 || offset / sizeof(Object) >= owners_.size()) {
            ++foreign_;
            return nullptr;
        }
        if (owner_of(object).exchange(owner) != free_object) {
            ++twice_;
            return nullptr;
        }
        object->owner = owner;
        return object;
    }
    void give(Object* object, std::uint32_t owner) {
        if (object->owner != owner || owner_of(object).exchange(free_object) != owner) ++twice_;
        push(*core_, object);
    }

    static void in_handler(int) {
        if (running_ == nullptr || me_ == 0) return;
        const std::uint32_t owner = first_handler + me_;
        Object* objects[2];
        for (Object*& object : objects) object = running_->take(owner);
        for (Object* object : objects) {
            if (object == nullptr) continue;
            running_->handler_pops_.fetch_add(1, std::memory_order_relaxed);
            running_->give(object, owner);
        }
    }

    void work(int number) {
        me_ = first_thread + static_cast<std::uint32_t>(number);
        const std::uint32_t me = me_;
        tids_[number] = static_cast<int>(syscall(SYS_gettid));
        SmallRandom random(12345 + 777 * static_cast<std::uint32_t>(number));
        {
            const test::Ticking ticking(SIGALRM, (test::slow ? 500'000 : 50'000) + 1000 * number);
            Object* held[held_most];
            // So few that stacks open again; some more; and now and then all there is, which drains them.
            const std::size_t few = std::clamp<std::size_t>(owners_.size() / threads / 2, 1, 4);
            while (!stop_.load(std::memory_order_relaxed)) {
                const std::uint32_t kind = random() % 512;
                const std::size_t want = kind == 0 ? held_most : 1 + random() % (kind < 32 ? 6 * few : few);
                // Whose turn it is to be drained shall be waiting for a page then.
                const std::size_t drop_at = kind == 0 ? random() % 64 : 0;
                std::size_t count = 0;
                while (count < want && (held[count] = take(me)) != nullptr)
                    if (++count == drop_at) memory_.drop_page(split_page_);
                while (count != 0) {
                    Object* object = held[--count];
                    if ((random() & 3) == 0) {  // to whoever comes next
                        object->owner = in_mail;
                        if (owner_of(object).exchange(in_mail) != me) ++twice_;
                        object = mail_[random() % mail_.size()].exchange(object);
                        if (object == nullptr) continue;
                        if (owner_of(object).exchange(me) != in_mail) ++twice_;
                        object->owner = me;
                    }
                    give(object, me);
                }
            }
            tids_[number] = 0;
        }
        me_ = 0;
    }

    void disturb(std::chrono::steady_clock::time_point end) {
        SmallRandom random(99);
        const pid_t process = getpid();
        while (std::chrono::steady_clock::now() < end && twice_ == 0 && foreign_ == 0) {
            for (const auto& each : tids_) {
                const int tid = each;
                if (tid == 0) continue;
                if (test::OnCpu::move_to(cpus_[random() % cpus_.size()], tid)) ++outcome_.moves;
                if (random() % 2 == 0) syscall(SYS_tgkill, process, tid, SIGUSR1);
                memory_.drop_page(split_page_);
            }
            if (random() % 8 == 0) memory_.drop_pages();
            std::this_thread::sleep_for(std::chrono::microseconds(30));
        }
    }

    void count() {
        outcome_.twice = twice_;
        outcome_.foreign = foreign_;
        outcome_.pops = pops_;
        outcome_.misses = misses_;
        outcome_.handler_pops = handler_pops_;
        outcome_.drains = static_cast<long>(Pool::of(*core_).drained.load());
        if (!outcome_.good()) return;  // there is no telling what the pool holds
        const PoolCounters counters = detail::pool_counters(*core_);
        outcome_.miscounted = std::labs(static_cast<long>(counters.hits) - outcome_.pops) +
                              std::labs(static_cast<long>(counters.misses) - outcome_.misses) +
                              (counters.steals > counters.hits ? 1 : 0);
        for (auto& each : mail_)
            if (Object* object = each) {
                outcome_.twice += owner_of(object).exchange(free_object) != in_mail;
                push(*core_, object);
            }
        std::vector<Object*> found;
        while (auto* object = static_cast<Object*>(pop(*core_))) {
            outcome_.twice += owner_of(object).exchange(first_thread) != free_object;
            found.push_back(object);
        }
        outcome_.lost = static_cast<long>(owners_.size()) - static_cast<long>(found.size());
        for (Object* object : found) push(*core_, object);
        outcome_.lost += static_cast<long>(detail::close_pool(*core_));
    }

    test::PagedMemory memory_;
    const std::vector<int> cpus_ = test::allowed_cpus();
    detail::PoolCore* core_;
    Object* first_ = nullptr;
    std::size_t split_page_ = 0;
    std::vector<std::atomic<std::uint32_t>> owners_;
    std::vector<std::atomic<Object*>> mail_;
    std::atomic<int> tids_[threads]{};
    std::atomic<bool> stop_{false};
    std::atomic<long> twice_{0}, foreign_{0}, pops_{0}, misses_{0}, handler_pops_{0};
    Outcome outcome_;
    std::optional<test::ToldCpus> told_;

    static inline Torture* running_ = nullptr;
    static inline thread_local std::uint32_t me_ = 0;
};

std::chrono::milliseconds share_of_time(long parts) {
    const char* seconds = std::getenv("DYNFUNC_TORTURE_SECONDS");
    const long all = seconds != nullptr ? static_cast<long>(1000 * std::atof(seconds)) : 10'000;
    return std::chrono::milliseconds(all * parts / 15);
}

class PoolTorture : public testing::TestWithParam<std::tuple<PoolBackEnd, std::size_t>> {};

TEST_P(PoolTorture, NothingIsHandedOutTwiceOrLost) {
    const auto [back_end, capacity] = GetParam();
    if (back_end == PoolBackEnd::restartable && *test::no_sequences_because() != '\0')
        GTEST_SKIP() << test::no_sequences_because();
    const auto torture = std::make_unique<Torture<Broken::nothing>>(capacity, back_end);
    const Outcome outcome = torture->run(share_of_time(back_end == PoolBackEnd::restartable ? 3 : 1));
    std::printf("%ld pops, %ld in handlers, %ld misses, %ld moves to a CPU, %ld drains\n", outcome.pops, outcome.handler_pops,
                outcome.misses, outcome.moves, outcome.drains);
    EXPECT_EQ(outcome.twice, 0);
    EXPECT_EQ(outcome.foreign, 0);
    EXPECT_EQ(outcome.lost, 0);
    EXPECT_EQ(outcome.miscounted, 0);
    EXPECT_GT(outcome.pops, 0);
    EXPECT_GT(outcome.handler_pops, 0);
    EXPECT_GT(outcome.moves, 0);
}

INSTANTIATE_TEST_SUITE_P(By, PoolTorture,
                         testing::Combine(testing::Values(PoolBackEnd::restartable, PoolBackEnd::tagged, PoolBackEnd::single),
                                          testing::Values(10, 96, 4096)),
                         [](const auto& info) {
                             return std::string(to_string(std::get<0>(info.param))) + "_" +
                                    std::to_string(std::get<1>(info.param));
                         });

// Every membarrier from now on succeeds and does nothing.
bool pretend_membarriers() {
    const sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_membarrier, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const sock_fprog program{sizeof filter / sizeof filter[0], const_cast<sock_filter*>(filter)};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

constexpr int nothing_noticed = 42, cannot_break = 77;

// How a child ends that tortures a broken pool until something is noticed.
template <Broken broken>
test::Ended torture_broken(std::size_t capacity) {
    return test::in_child([capacity] {
        Torture<broken> torture(capacity, PoolBackEnd::restartable);
        if (broken == Broken::membarrier && !pretend_membarriers()) return cannot_break;
        return torture.run(std::chrono::seconds(test::thread_sanitizer ? 120 : 30)).good() ? nothing_noticed : 0;
    });
}

TEST(PoolTortureControl, DrainingWithoutInterruptingSequencesIsNoticed) {
    if (*test::no_sequences_because() != '\0') GTEST_SKIP() << test::no_sequences_because();
    if (test::allowed_cpus().size() == 1) GTEST_SKIP() << "with one CPU nothing is drained from another";
    if (test::takes_turns) GTEST_SKIP() << test::never_meet;
    const int status = torture_broken<Broken::membarrier>(96).status;
    if (status == cannot_break) GTEST_SKIP() << "no seccomp";
    EXPECT_NE(status, nothing_noticed);
}

TEST(PoolTortureControl, SequencesThatTheKernelDoesNotKnowAreNoticed) {
    if (*test::no_sequences_because() != '\0') GTEST_SKIP() << test::no_sequences_because();
    EXPECT_NE(torture_broken<Broken::arming>(96).status, nothing_noticed);
}

}  // namespace
}  // namespace dynfunc
