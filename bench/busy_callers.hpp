// SPDX-License-Identifier: MIT
// Threads that execute code while the measuring thread changes it, and latencies taken only while they are seen to do so.
//
//     BusyCallers callers(&call_it, 1);
//     double ns = median_latency(callers, [] { moving.retarget(&other); });
//
// On a machine with other work a caller is often not on its core, and then the change is several times cheaper. A sample
// counts only if each caller on another core made progress just before it and just after it.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

namespace bench {

class BusyCallers {
public:
    // `call` is repeated by each thread. The threads are pinned: the first to a CPU that does not measure, and so on; the last
    // CPU, if `count` reaches it, is the measuring one.
    BusyCallers(void (*call)(), std::size_t count);
    ~BusyCallers();
    BusyCallers(const BusyCallers&) = delete;
    BusyCallers& operator=(const BusyCallers&) = delete;

    // Whether each caller on another core makes progress within some microseconds.
    bool all_advance() const noexcept;

    // How many callers other cores can hold.
    static std::size_t other_cores();

private:
    struct alignas(128) Caller {
        std::atomic<std::uint64_t> calls{0};
        std::thread thread;
    };
    bool advances(const Caller&) const noexcept;

    std::vector<std::unique_ptr<Caller>> callers_;
    std::size_t observed_;
    std::atomic<bool> stop_{false};
};

// One round: the median wall time of `operation` over some dozens of samples; NaN if the callers hardly ever ran. `prepare` and
// `undo` stand before and behind each, outside the clock.
double median_latency(const BusyCallers& callers, const std::function<void()>& operation,
                      const std::function<void()>& prepare = {}, const std::function<void()>& undo = {});

}  // namespace bench
