// SPDX-License-Identifier: MIT
// What the library itself calls while it works is probed: functions of the C library that take locks, write to text, make
// barriers, map memory, wait. They change under the library's own feet, while threads call them too.
//
// The control: a handler that forgets to count once. DYNFUNC_TORTURE_SECONDS says for how long (default 10).
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <dynfunc/grace_period.hpp>

#include <memory>
#include <thread>
#include <vector>

#include "../pool/thread_timer.hpp"
#include "stress.hpp"
#include "victims.hpp"

namespace dynfunc {
namespace {

using test::Counter;

constexpr const char* names[] = {"malloc",
                                 "free",
                                 "calloc",
                                 "pthread_mutex_lock",
                                 "pthread_mutex_unlock",
                                 "pthread_mutex_trylock",
                                 "memcpy",
                                 "memmove",
                                 "memset",
                                 "memcmp",
                                 "pwrite64",
                                 "pwrite",
                                 "syscall",
                                 "mmap",
                                 "munmap",
                                 "mremap",
                                 "mprotect",
                                 "sigaction",
                                 "open64",
                                 "close",
                                 "getpid",
                                 "sched_yield",
                                 "nanosleep",
                                 "clock_nanosleep",
                                 "_dl_find_object",
                                 "dl_iterate_phdr",
                                 "pthread_setcancelstate",
                                 "pthread_setspecific",
                                 "pthread_getspecific",
                                 "__errno_location"};

class OwnCalls {
public:
    struct Outcome {
        long attached = 0, refused = 0, miscounted = 0, not_restored = 0;
        std::atomic<long> wrong{0};
    };

    explicit OwnCalls(std::uint64_t forgets_every = 0) {
        // The first attach puts probes of the library's own on some of these, which stay.
        Counter first;
        static_cast<void>(Probe::attach(Address::of(dlsym(RTLD_DEFAULT, names[0])), first.options(AllowBreakpoint::if_needed)));
        for (const char* name : names)
            if (void* const at = dlsym(RTLD_DEFAULT, name))
                places_.push_back({name, Address::of(at), test::code_at(Address::of(at))});
        counters_ = std::make_unique<Counter[]>(places_.size());
        for (std::size_t i = 0; i < places_.size(); ++i) counters_[i].forgets_every = forgets_every;
    }

    const Outcome& run(std::chrono::milliseconds duration) {
        std::vector<std::thread> threads;
        for (int i = 0; i < 2; ++i) threads.emplace_back([this] { work(); });
        const auto end = std::chrono::steady_clock::now() + duration;
        do {
            one_after_the_other();
            all_at_once();
        } while (outcome_.miscounted + outcome_.not_restored + outcome_.wrong == 0 && std::chrono::steady_clock::now() < end);
        stop_ = true;
        for (auto& thread : threads) thread.join();
        return outcome_;
    }
    std::uint64_t hits() const { return hits_; }

private:
    struct Named {
        const char* name;
        Address at;
        std::array<std::byte, 16> before;
    };

    void work() {
        const test::Ticking ticking(SIGALRM, 300'000);
        const int file = memfd_create("own_calls", 0);
        for (unsigned long a = 0; !stop_; ++a) {
            const auto memory = std::make_unique<unsigned long[]>(1 + a % 64);
            memory[0] = a;
            unsigned long back = 0;
            if (pwrite(file, memory.get(), sizeof a, 0) != sizeof a || pread(file, &back, sizeof a, 0) != sizeof a || back != a)
                ++outcome_.wrong;
            void* const page = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            if (page == MAP_FAILED || munmap(page, 4096) != 0) ++outcome_.wrong;
            sched_yield();
        }
        close(file);
    }
    Probe attach(std::size_t i) {
        counters_[i].reset();
        auto probe = Probe::attach(places_[i].at, counters_[i].options(AllowBreakpoint::if_needed));
        if (probe) {
            ++outcome_.attached;
            return std::move(*probe);
        }
        if (outcome_.refused++ < static_cast<long>(places_.size()))
            std::printf("%s: %s\n", places_[i].name, probe.error().message().c_str());
        return {};
    }
    void compare(std::size_t i, const Probe& probe) {
        if (!probe) return;
        outcome_.miscounted += probe.hits() != counters_[i].calls;
        hits_ += probe.hits();
    }
    void check_bytes() {
        for (const Named& place : places_) outcome_.not_restored += place.before != test::code_at(place.at);
    }
    void change_something() {
        static Counter counter;
        counter.reset();
        const auto victim = test::victim_kinds[3].at[1];
        auto probe = Probe::attach(victim, counter.options(AllowBreakpoint::never));
        if (!probe || victim(1, 2, 0) != test::victim_result(1, 2) || probe->hits() != 1) ++outcome_.wrong;
    }
    void one_after_the_other() {
        for (std::size_t i = 0; i < places_.size(); ++i) {
            Probe probe = attach(i);
            change_something();
            counters_[i].is_open = false;
            synchronize();
            compare(i, probe);
            probe.detach();
            check_bytes();
        }
    }
    void all_at_once() {
        std::vector<Probe> probes;
        for (std::size_t i = 0; i < places_.size(); ++i) probes.push_back(attach(i));
        for (int i = 0; i < 10; ++i) change_something();
        for (std::size_t i = 0; i < places_.size(); ++i) counters_[i].is_open = false;
        synchronize();
        for (std::size_t i = 0; i < places_.size(); ++i) compare(i, probes[i]);
        Probe::detach(probes);
        check_bytes();
    }

    std::vector<Named> places_;
    std::unique_ptr<Counter[]> counters_;
    std::atomic<bool> stop_{false};
    std::uint64_t hits_ = 0;
    Outcome outcome_;
};

TEST(OwnCallsStress, WhatTheLibraryCallsMayBeProbed) {
    if (test::is_instrumented) GTEST_SKIP() << "the sanitizer has these functions itself";
    const test::KeepTraps keep;
    const test::Disposition alarms(SIGALRM, [](int) {});
    OwnCalls calls;
    const auto& outcome = calls.run(test::share_of_torture(1, 1));
    std::printf("%ld probes, %ld refused, %lu hits\n", outcome.attached, outcome.refused,
                static_cast<unsigned long>(calls.hits()));
    EXPECT_EQ(outcome.wrong, 0);
    EXPECT_EQ(outcome.miscounted, 0);
    EXPECT_EQ(outcome.not_restored, 0);
    EXPECT_GT(outcome.attached, 0);
    EXPECT_GT(calls.hits(), 0u);
}

TEST(OwnCallsControl, AHitThatIsNotCountedIsNoticed) {
    if (test::is_instrumented) GTEST_SKIP() << "the sanitizer has these functions itself";
    const test::KeepTraps keep;
    const test::Disposition alarms(SIGALRM, [](int) {});
    EXPECT_GT(OwnCalls(3).run(std::chrono::seconds(60)).miscounted, 0);
}

}  // namespace
}  // namespace dynfunc
