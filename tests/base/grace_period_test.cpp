// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>
#include <dynfunc/grace_period.hpp>

#include <pthread.h>

#include <atomic>
#include <chrono>
#include <optional>
#include <thread>
#include <vector>

#include "child.hpp"
#include "reclaim.hpp"
#include "surroundings.hpp"

namespace dynfunc {
namespace {

using namespace std::chrono_literals;

// A thread that opens a section and closes it when told.
class Reader {
public:
    Reader() : thread_([this] { run(); }) {
        while (!inside_) std::this_thread::yield();
    }
    ~Reader() { close(); }
    void close() {
        leave_ = true;
        if (thread_.joinable()) thread_.join();
    }

private:
    void run() {
        const ReadSection section;
        inside_ = true;
        while (!leave_) std::this_thread::yield();
    }
    std::atomic<bool> inside_{false}, leave_{false};
    std::thread thread_;
};

TEST(Synchronize, ReturnsWhenNobodyReads) { synchronize(); }

TEST(Synchronize, WaitsForASectionThatIsOpen) {
    Reader reader;
    std::atomic<bool> returned{false};
    std::thread waiter([&] {
        synchronize();
        returned = true;
    });
    std::this_thread::sleep_for(50ms);
    EXPECT_FALSE(returned);
    reader.close();
    waiter.join();
    EXPECT_TRUE(returned);
}

TEST(Synchronize, DoesNotWaitForASectionThatOpensLater) {
    std::optional<Reader> first(std::in_place);
    std::atomic<bool> started{false};
    std::thread waiter([&] {
        started = true;
        synchronize();
    });
    while (!started) std::this_thread::yield();
    std::this_thread::sleep_for(20ms);  // if it is not inside yet, the test is weaker, not wrong
    const Reader second;
    first.reset();
    waiter.join();  // hangs if it waits for `second`
}

TEST(ReadSection, Nests) {
    std::atomic<bool> inner_closed{false}, leave{false}, returned{false};
    std::thread reader([&] {
        const ReadSection outer;
        { const ReadSection inner; }
        inner_closed = true;
        while (!leave) std::this_thread::yield();
    });
    while (!inner_closed) std::this_thread::yield();
    std::thread waiter([&] {
        synchronize();
        returned = true;
    });
    std::this_thread::sleep_for(50ms);
    EXPECT_FALSE(returned) << "closing the inner section closed the outer one";
    leave = true;
    reader.join();
    waiter.join();
}

TEST(ReadSection, EndedThreadsHoldNothingUp) {
    for (int round = 0; round < 3; ++round) {
        std::vector<std::thread> threads;
        for (int i = 0; i < 100; ++i)
            threads.emplace_back([] { const ReadSection section; });  // more than one chunk of readers
        for (auto& thread : threads) thread.join();
        synchronize();
    }
}

TEST(ReadSectionDeathTest, SynchronizeInsideASectionAborts) {
    EXPECT_DEATH(
        {
            const ReadSection section;
            synchronize();
        },
        "inside a ReadSection");
}

std::atomic<int> handled{0};
void section_in_handler(int) {
    const ReadSection section;
    handled.fetch_add(1, std::memory_order_relaxed);
}

TEST(ReadSection, MayBeOpenedByASignalHandlerAtAnyInstruction) {
    struct sigaction action {
    }, before{};
    action.sa_handler = section_in_handler;
    ASSERT_EQ(sigaction(SIGUSR1, &action, &before), 0);
    std::atomic<bool> stop{false};
    std::atomic<long> sections{0};
    std::thread reader([&] {
        while (!stop) {
            const ReadSection outer;
            const ReadSection inner;
            sections.fetch_add(1, std::memory_order_relaxed);
        }
    });
    while (handled < test::rounds(2000)) {
        pthread_kill(reader.native_handle(), SIGUSR1);
        if (handled % 100 == 0) synchronize();
    }
    stop = true;
    reader.join();
    synchronize();  // hangs if a handler left the word wrong
    sigaction(SIGUSR1, &before, nullptr);
}

TEST(Synchronize, WorksInAChildWhereTheParentHadOpenSections) {
    Reader reader;
    EXPECT_EQ(test::in_child([] {
                  alarm(20);
                  synchronize();
                  return 0;
              }).status,
              0);
    if (test::thread_sanitizer) GTEST_SKIP() << "the sanitizer takes the child of a raw clone for a thread";
    if (test::emulated) GTEST_SKIP() << "the emulator's own locks stay held in the child of a raw clone";
    EXPECT_EQ(test::wait_for(test::start_raw_child([] {
                  alarm(20);
                  synchronize();
                  return 0;
              })).status,
              0);
}

// Says when it was reclaimed.
struct Item : Retired {
    explicit Item(std::atomic<int>& count) : reclaimed(&count) {
        reclaim = [](Retired& item) noexcept { ++*static_cast<Item&>(item).reclaimed; };
    }
    std::atomic<int>* reclaimed;
};

TEST(Retire, IsReclaimedByTheNextSynchronizeAndOnce) {
    std::atomic<int> reclaimed{0};
    Item first(reclaimed), second(reclaimed);
    retire(first);
    {
        const ReadSection section;
        retire(second);  // also from inside
    }
    EXPECT_EQ(reclaimed, 0);
    synchronize();
    EXPECT_EQ(reclaimed, 2);
    synchronize();
    EXPECT_EQ(reclaimed, 2);
}

TEST(Retire, IsNotReclaimedWhileASectionThatIsOlderIsOpen) {
    std::atomic<int> reclaimed{0};
    Item item(reclaimed);
    Reader reader;
    retire_own(item);
    try_reclaim_own();
    EXPECT_EQ(reclaimed, 0) << "somebody may still see it";
    std::thread waiter(synchronize);
    std::this_thread::sleep_for(20ms);
    EXPECT_EQ(reclaimed, 0);
    reader.close();
    waiter.join();
    EXPECT_EQ(reclaimed, 1);
}

TEST(Retire, IsReclaimedWithoutWaitingOnceNobodyReads) {
    std::atomic<int> reclaimed{0};
    Item item(reclaimed);
    {
        const ReadSection section;
        retire_own(item);
        try_reclaim_own();  // inside: does nothing
        EXPECT_EQ(reclaimed, 0);
    }
    try_reclaim_own();
    EXPECT_EQ(reclaimed, 1);
}

TEST(Retire, ManyThreadsRetireAndEachItemIsReclaimedOnce) {
    std::atomic<int> reclaimed{0};
    constexpr int threads = 4, each = 2000;
    std::vector<std::vector<Item>> items(threads, std::vector<Item>(each, Item(reclaimed)));
    std::vector<std::thread> retirers;
    for (auto& own : items)
        retirers.emplace_back([&own] {
            for (std::size_t i = 0; i < own.size(); ++i) {
                retire(own[i]);
                if (i % 100 == 0) synchronize();
            }
        });
    for (auto& thread : retirers) thread.join();
    synchronize();
    EXPECT_EQ(reclaimed, threads * each);
}

// Readers follow a pointer to a live object; the writer replaces it, waits and marks the old one dead. `wait` false is the
// negative control: without the grace period a reader must meet a dead object.
bool a_reader_met_the_dead(bool wait, std::chrono::milliseconds limit) {
    struct Object {
        std::atomic<bool> dead{false};
    };
    std::vector<Object> objects(64);
    std::atomic<Object*> current{&objects[0]};
    std::atomic<bool> stop{false}, met{false};
    std::vector<std::thread> readers;
    for (int i = 0; i < 3; ++i)
        readers.emplace_back([&] {
            while (!stop) {
                const ReadSection section;
                const Object* object = current.load(std::memory_order_acquire);
                for (int look = 0; look < 50; ++look) {
                    if (object->dead.load(std::memory_order_relaxed)) met = true;
                    if (look == 25) std::this_thread::yield();
                }
            }
        });
    const auto end = std::chrono::steady_clock::now() + limit;
    for (std::size_t next = 1; !met && std::chrono::steady_clock::now() < end; next = (next + 1) % objects.size()) {
        objects[next].dead = false;
        Object* old = current.exchange(&objects[next], std::memory_order_acq_rel);
        if (wait) synchronize();
        old->dead = true;
        if (!wait) std::this_thread::yield();
    }
    stop = true;
    for (auto& reader : readers) reader.join();
    return met;
}

TEST(GracePeriodStress, NoReaderMeetsWhatWasRetired) { EXPECT_FALSE(a_reader_met_the_dead(true, 1500ms)); }
TEST(GracePeriodStress, ControlWithoutAGracePeriodAReaderDoes) { EXPECT_TRUE(a_reader_met_the_dead(false, 30s)); }

}  // namespace
}  // namespace dynfunc
