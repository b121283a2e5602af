// SPDX-License-Identifier: MIT
// A small server whose requests live in frames of a pool: the receiving thread takes a frame for each request, a worker gives
// it back when it has answered. If no frame is free the request is refused at once, so that memory is bounded and nobody waits.
//
//     $ frame_pool 10000 16          requests, frames
//     10000 requests: 9871 answered, 129 refused
//     pool of 16 frames (restartable): 9871 hits, 129 misses, 4 steals
//
// A timer signal's handler takes a frame too, at any instruction of the server, as a profiler would.
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <charconv>
#include <condition_variable>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <mutex>
#include <optional>
#include <string_view>
#include <thread>
#include <vector>

#include <dynfunc/object_pool.hpp>

struct Frame {
    std::uint32_t request = 0, bytes = 0;
    std::array<char, 248> body{};
};
using Frames = dynfunc::ObjectPool<Frame>;

// Requests on their way to the workers.
class Queue {
public:
    void put(dynfunc::Pooled<Frame> frame) {
        const std::lock_guard lock(mutex_);
        frames_.push_back(std::move(frame));
        more_.notify_one();
    }
    void end() {
        const std::lock_guard lock(mutex_);
        ended_ = true;
        more_.notify_all();
    }
    // Empty: there will be no more.
    dynfunc::Pooled<Frame> take() {
        std::unique_lock lock(mutex_);
        more_.wait(lock, [&] { return ended_ || !frames_.empty(); });
        if (frames_.empty()) return {};
        dynfunc::Pooled<Frame> frame = std::move(frames_.front());
        frames_.pop_front();
        return frame;
    }

private:
    std::mutex mutex_;
    std::condition_variable more_;
    std::deque<dynfunc::Pooled<Frame>> frames_;
    bool ended_ = false;
};

// What the handler shares with main(). A handler may pop and push, whatever it interrupts.
static Frames* sampled = nullptr;
static std::atomic<std::uint64_t> samples{0}, samples_missed{0};

static void sample(int) {
    if (const auto frame = sampled->try_pop()) {
        frame->request = 0;
        samples.fetch_add(1, std::memory_order_relaxed);
    } else {
        samples_missed.fetch_add(1, std::memory_order_relaxed);
    }
}

static void send_requests(int to, std::uint32_t count) {
    char body[64];
    for (std::uint32_t i = 0; i < count; ++i) {
        const int length = std::snprintf(body, sizeof body, "request %u", i);
        while (send(to, body, static_cast<std::size_t>(length), 0) < 0 && errno == EINTR) {
        }
    }
    shutdown(to, SHUT_WR);
}

static void answer(Queue& queue, std::atomic<std::uint32_t>& answered) {
    while (const auto frame = queue.take()) {
        std::uint32_t sum = 0;
        for (std::uint32_t i = 0; i < frame->bytes; ++i) sum = sum * 31 + static_cast<unsigned char>(frame->body[i]);
        frame->request = sum;
        answered.fetch_add(1, std::memory_order_relaxed);
    }  // here the frame goes back
}

static std::optional<std::uint32_t> number(std::string_view text) {
    std::uint32_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size() || value == 0) return std::nullopt;
    return value;
}

int main(int argc, char** argv) {
    const auto requests = argc == 3 ? number(argv[1]) : std::nullopt;
    const auto capacity = argc == 3 ? number(argv[2]) : std::nullopt;
    if (!requests || !capacity) {
        std::fputs("usage: frame_pool REQUESTS FRAMES      both from 1 on, for example: frame_pool 10000 16\n", stderr);
        return 2;
    }
    auto frames = Frames::create({.capacity = *capacity, .alignment = 64});
    if (!frames) {
        std::fprintf(stderr, "frame_pool: %s\n", frames.error().message().c_str());
        return 1;
    }
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) != 0) {
        std::perror("frame_pool: socketpair");
        return 1;
    }
    sampled = &*frames;
    std::signal(SIGALRM, sample);
    const itimerval every_millisecond{{0, 1000}, {0, 1000}}, never{};
    setitimer(ITIMER_REAL, &every_millisecond, nullptr);

    Queue queue;
    std::atomic<std::uint32_t> answered{0};
    std::uint32_t refused = 0, received = 0;
    {
        std::jthread client(send_requests, ends[1], *requests);
        std::vector<std::jthread> workers;
        for (int i = 0; i < 3; ++i) workers.emplace_back([&] { answer(queue, answered); });
        std::array<char, 248> body;
        for (;;) {
            const ssize_t bytes = recv(ends[0], body.data(), body.size(), 0);
            if (bytes < 0 && errno == EINTR) continue;
            if (bytes <= 0) break;
            ++received;
            auto frame = frames->try_pop();
            if (!frame) {
                ++refused;
                continue;
            }
            frame->bytes = static_cast<std::uint32_t>(bytes);
            std::memcpy(frame->body.data(), body.data(), static_cast<std::size_t>(bytes));
            queue.put(std::move(frame));
        }
        queue.end();
    }
    setitimer(ITIMER_REAL, &never, nullptr);
    std::signal(SIGALRM, SIG_IGN);
    close(ends[0]);
    close(ends[1]);

    const dynfunc::PoolCounters counters = frames->counters();
    std::printf("%u requests: %u answered, %u refused\n", received, answered.load(), refused);
    std::printf("sampled by a signal handler: %llu times, %llu without a frame\n",
                static_cast<unsigned long long>(samples.load()), static_cast<unsigned long long>(samples_missed.load()));
    std::printf("pool of %zu frames (%s): %llu hits, %llu misses, %llu steals\n", frames->capacity(),
                to_string(frames->back_end()), static_cast<unsigned long long>(counters.hits),
                static_cast<unsigned long long>(counters.misses), static_cast<unsigned long long>(counters.steals));
    std::printf("still out: %zu\n", frames->close());
    return 0;
}
