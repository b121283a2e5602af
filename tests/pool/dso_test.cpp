// SPDX-License-Identifier: MIT
// Shared objects that come and go, with sequences inline: a thread whose area still named a descriptor of one that has gone
// would be killed by the kernel. DYNFUNC_TEST_PLUGIN names the plug-in.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mman.h>

#include <atomic>
#include <barrier>
#include <chrono>
#include <stdexcept>
#include <thread>
#include <vector>

#include "address_space.hpp"
#include "child.hpp"
#include "plugin.hpp"
#include "pools.hpp"
#include "rseq_area.hpp"
#include "surroundings.hpp"

namespace dynfunc {
namespace {

using plugin::Item;

class Plugin {
public:
    Plugin() : handle_(dlopen(DYNFUNC_TEST_PLUGIN, RTLD_NOW | RTLD_LOCAL)) {
        if (handle_ == nullptr) throw std::runtime_error(dlerror());
        interface_ = static_cast<const plugin::Interface*>(dlsym(handle_, "plugin_interface"));
        code_ = Address::of(interface_->use);
    }
    ~Plugin() { unload(); }
    const plugin::Interface* operator->() const { return interface_; }
    bool is_mapped() const { return test::file_mapped_at(code_) != ""; }
    void unload() {
        if (handle_ == nullptr) return;
        EXPECT_TRUE(is_mapped());
        dlclose(handle_);
        handle_ = nullptr;
        EXPECT_FALSE(is_mapped()) << "something keeps the plug-in loaded";
    }

private:
    void* handle_;
    const plugin::Interface* interface_ = nullptr;
    Address code_;
};

// What the calling thread has left for the kernel to look at.
std::uint64_t sequence_left() { return *test::no_sequences_because() == '\0' ? std::uint64_t{test::current_sequence()} : 0; }

class PoolDso : public testing::TestWithParam<PoolBackEnd> {
protected:
    void SetUp() override {
        if (GetParam() == PoolBackEnd::restartable && *test::no_sequences_because() != '\0')
            GTEST_SKIP() << test::no_sequences_because();
    }
};

TEST_P(PoolDso, NothingOfAPluginStaysInItsCallersArea) {
    auto pool = test::make_pool<Item>(20, GetParam());
    Plugin plugin;
    EXPECT_TRUE(plugin->use(pool, 1, 1));
    EXPECT_EQ(sequence_left(), 0u) << "after a hit";
    EXPECT_TRUE(plugin->use(pool, 20, 10));
    EXPECT_EQ(sequence_left(), 0u) << "after stacks were full";
    EXPECT_TRUE(plugin->use(pool, 21, 1));
    EXPECT_EQ(sequence_left(), 0u) << "after misses and pushes";
    const auto all = test::pop_all(pool);
    EXPECT_EQ(all.size(), 20u);
    EXPECT_TRUE(plugin->use(pool, 1, 5));
    EXPECT_EQ(sequence_left(), 0u) << "after nothing but misses";
    pool.close();
    EXPECT_TRUE(plugin->use(pool, 1, 5));
    EXPECT_EQ(sequence_left(), 0u) << "after pops from a closed pool";
    test::push_all(pool, all);
}

// Threads use the pool inside the plug-in, are preempted in the middle of sequences, leave them by every way out, and live on
// when it has gone.
TEST_P(PoolDso, ThreadsLiveOnWhenAPluginWhoseSequencesTheyRanHasGone) {
    auto pool = test::make_pool<Item>(24, GetParam());
    constexpr std::size_t threads = 6;  // more than CPUs, or at least enough to be preempted by each other
    std::barrier<> loaded(threads + 1), used(threads + 1), unloaded(threads + 1);
    const plugin::Interface* interface = nullptr;
    std::atomic<long> wrong{0}, left{0};
    constexpr int rounds = 10;
    std::vector<std::thread> workers;
    for (std::size_t worker = 0; worker < threads; ++worker)
        workers.emplace_back([&, worker] {
            for (int round = 0; round < rounds; ++round) {
                loaded.arrive_and_wait();
                if (!interface->use(pool, 1 + worker, 5'000)) ++wrong;
                if (sequence_left() != 0) ++left;
                used.arrive_and_wait();
                unloaded.arrive_and_wait();
                // The kernel looks at the area whenever a thread comes back from another one, or from a signal.
                for (int i = 0; i < 100; ++i) sched_yield();
                for (int i = 0; i < 100; ++i) static_cast<void>(pool.try_pop());
            }
        });
    for (int round = 0; round < rounds; ++round) {
        Plugin plugin;
        interface = plugin.operator->();
        loaded.arrive_and_wait();
        used.arrive_and_wait();
        plugin.unload();
        unloaded.arrive_and_wait();
    }
    for (auto& worker : workers) worker.join();
    EXPECT_EQ(wrong, 0);
    EXPECT_EQ(left, 0);
    EXPECT_EQ(test::count_free(pool), 24u);
    EXPECT_EQ(pool.close(), 0u);
}

TEST_P(PoolDso, APoolOutlivesThePluginThatMadeIt) {
    Plugin plugin;
    auto pool = plugin->make(30);
    EXPECT_TRUE(plugin->use(pool, 30, 10));
    plugin.unload();
    EXPECT_EQ(test::count_free(pool), 30u);
    EXPECT_EQ(pool.close(), 0u);
}

// That the kernel does look, and kills: what the tests above would see if something were left.
TEST(PoolDsoControl, AThreadWhoseAreaNamesUnmappedMemoryIsKilled) {
    if (*test::no_sequences_because() != '\0') GTEST_SKIP() << test::no_sequences_because();
    const test::Ended ended = test::in_child([] {
        void* const page = mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        munmap(page, 4096);
        test::current_sequence() = reinterpret_cast<std::uint64_t>(page);
        alarm(20);
        for (;;) sched_yield();
        return 0;
    });
    EXPECT_EQ(ended.signal, SIGSEGV);
}

INSTANTIATE_TEST_SUITE_P(By, PoolDso, testing::Values(PoolBackEnd::restartable, PoolBackEnd::tagged),
                         [](const auto& info) { return to_string(info.param); });

}  // namespace
}  // namespace dynfunc
