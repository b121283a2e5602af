// SPDX-License-Identifier: MIT
// hackbench, written anew: groups of 20 senders and 20 receivers. Each sender sends `loops` messages of 100 bytes to each
// receiver of its group, over a socket pair per receiver; senders and receivers are threads or processes. What is timed is from
// the moment when all of them are ready until the last has ended, as the original does (R. Russell, P. Zijlstra).
//
//     hackbench [--processes] [--groups N] [--loops N] [--off]
//
// Its steps carry tracepoints, all of them on unless --off: waking up at the start, each turn of a loop, and each send and
// receive, before and after. Each step is traced at four sites, 24 events a message: with one site each, what the events cost
// was lost in the noise of the scheduler. One line is printed: seconds, CPU seconds, messages, events, form of the tracepoints.
#include <poll.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <vector>

#include "hackbench_trace.hpp"

namespace hackbench {

HACKBENCH_TRACEPOINT(wake, void(unsigned worker, bool sends));
HACKBENCH_TRACEPOINT(loop, void(unsigned worker, unsigned done, unsigned wanted));
HACKBENCH_TRACEPOINT(send, void(int socket, int bytes, bool done));
HACKBENCH_TRACEPOINT(receive, void(int socket, int bytes, bool done));

#define HACKBENCH_STEP(...)       \
    HACKBENCH_TRACE(__VA_ARGS__); \
    HACKBENCH_TRACE(__VA_ARGS__); \
    HACKBENCH_TRACE(__VA_ARGS__); \
    HACKBENCH_TRACE(__VA_ARGS__)

constexpr unsigned pairs_of_group = 20;
constexpr int message_bytes = 100;

// What the callbacks write: one for each worker, in memory that its process shares with the first.
struct alignas(128) Log {
    struct Record {
        std::uint32_t kind;
        std::int32_t argument;
    };
    std::array<std::uint64_t, 4> events;
    std::uint64_t next;
    std::array<Record, 256> ring;
};
thread_local constinit Log* log = nullptr;

void write_log(std::uint32_t kind, std::int32_t argument) {
    Log& own = *log;
    ++own.events[kind];
    own.ring[own.next++ % own.ring.size()] = {kind, argument};
}
void on_wake(unsigned worker, bool HACKBENCH_DATA) { write_log(0, static_cast<std::int32_t>(worker)); }
void on_loop(unsigned, unsigned done, unsigned HACKBENCH_DATA) { write_log(1, static_cast<std::int32_t>(done)); }
void on_send(int, int bytes, bool HACKBENCH_DATA) { write_log(2, bytes); }
void on_receive(int, int bytes, bool HACKBENCH_DATA) { write_log(3, bytes); }

[[noreturn]] void give_up(const char* what) {
    std::fprintf(stderr, "hackbench: %s: %s\n", what, std::strerror(errno));
    std::_Exit(1);
}
int check(int result, const char* what) {
    if (result < 0) give_up(what);
    return result;
}

struct Options {
    bool processes = false, off = false;
    unsigned groups = 1, loops = 100;
};

struct Pipe {
    int out, in;
    Pipe() {
        int ends[2];
        check(pipe(ends), "pipe");
        out = ends[0], in = ends[1];
    }
};

// By which workers say that they are ready, and are woken all at once.
struct Gate {
    Pipe ready, start;

    void wait(unsigned worker, bool sends) const {
        if (write(ready.in, "", 1) != 1) give_up("write");
        pollfd waiting = {start.out, POLLIN, 0};
        check(poll(&waiting, 1, -1), "poll");
        HACKBENCH_STEP(wake, worker, sends);
    }
    void open(unsigned workers) const {
        char byte;
        for (unsigned i = 0; i < workers; ++i)
            if (read(ready.out, &byte, 1) != 1) give_up("read");
        if (write(start.in, "", 1) != 1) give_up("write");
    }
};

struct Group {
    std::array<int, pairs_of_group> in, out;  // sockets that are written, read
    Group() {
        for (unsigned i = 0; i < pairs_of_group; ++i) {
            int ends[2];
            check(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), "socketpair");
            in[i] = ends[0], out[i] = ends[1];
        }
    }
};

struct Worker {
    const Gate* gate;
    const Group* group;
    Log* log;
    unsigned number, loops;
    bool sends;
};

void send_message(int socket, const char* bytes) {
    for (int sent = 0; sent < message_bytes;) {
        HACKBENCH_STEP(send, socket, message_bytes - sent, false);
        const auto now = static_cast<int>(write(socket, bytes + sent, static_cast<std::size_t>(message_bytes - sent)));
        HACKBENCH_STEP(send, socket, now, true);
        sent += check(now, "write");
    }
}

void receive_message(int socket, char* bytes) {
    for (int got = 0; got < message_bytes;) {
        HACKBENCH_STEP(receive, socket, message_bytes - got, false);
        const auto now = static_cast<int>(read(socket, bytes + got, static_cast<std::size_t>(message_bytes - got)));
        HACKBENCH_STEP(receive, socket, now, true);
        got += check(now, "read");
    }
}

[[gnu::noinline]] void run(const Worker& worker) {
    log = worker.log;
    char message[message_bytes] = {};
    worker.gate->wait(worker.number, worker.sends);
    const unsigned wanted = worker.loops * pairs_of_group;
    for (unsigned done = 0; done < wanted; ++done) {
        HACKBENCH_STEP(loop, worker.number, done, wanted);
        if (worker.sends)
            send_message(worker.group->in[done % pairs_of_group], message);
        else
            receive_message(worker.group->out[worker.number % pairs_of_group], message);
    }
}

void* run_thread(void* worker) {
    run(*static_cast<const Worker*>(worker));
    return nullptr;
}

class Crew {
public:
    Crew(bool processes, const std::vector<Worker>& workers) : processes_(processes) {
        for (const Worker& worker : workers) processes ? start_process(worker) : start_thread(worker);
    }
    void wait() {
        for (pthread_t thread : threads_) pthread_join(thread, nullptr);
        for (const pid_t child : children_) {
            int status = 0;
            check(waitpid(child, &status, 0), "waitpid");
            if (status != 0) std::fputs("hackbench: a worker failed\n", stderr), std::_Exit(1);
        }
    }

private:
    void start_thread(const Worker& worker) {
        pthread_attr_t attributes;
        pthread_attr_init(&attributes);
        pthread_attr_setstacksize(&attributes, 256 << 10);
        pthread_t thread;
        errno = pthread_create(&thread, &attributes, &run_thread, const_cast<Worker*>(&worker));
        if (errno != 0) give_up("pthread_create");
        threads_.push_back(thread);
    }
    void start_process(const Worker& worker) {
        const pid_t child = check(fork(), "fork");
        if (child == 0) {
            run(worker);
            std::_Exit(0);
        }
        children_.push_back(child);
    }

    bool processes_;
    std::vector<pthread_t> threads_;
    std::vector<pid_t> children_;
};

Options parse(int argc, char** argv) {
    Options options;
    for (int i = 1; i < argc; ++i) {
        const std::string_view word = argv[i];
        const auto number = [&] {
            const long value = i + 1 < argc ? std::strtol(argv[++i], nullptr, 10) : 0;
            if (value < 1 || value > 1'000'000)
                std::fputs("hackbench: --groups and --loops need a number\n", stderr), std::exit(2);
            return static_cast<unsigned>(value);
        };
        if (word == "--processes")
            options.processes = true;
        else if (word == "--off")
            options.off = true;
        else if (word == "--groups")
            options.groups = number();
        else if (word == "--loops")
            options.loops = number();
        else
            std::fprintf(stderr, "hackbench: unknown word '%s'\n", argv[i]), std::exit(2);
    }
    return options;
}

double cpu_seconds() {
    double seconds = 0;
    for (const int who : {RUSAGE_SELF, RUSAGE_CHILDREN}) {
        rusage used{};
        getrusage(who, &used);
        for (const timeval& time : {used.ru_utime, used.ru_stime})
            seconds += static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
    }
    return seconds;
}

int main(const Options& options) {
    const unsigned count = options.groups * 2 * pairs_of_group;
    void* logs = mmap(nullptr, count * sizeof(Log), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (logs == MAP_FAILED) give_up("mmap");
    if (!options.off) attach(wake, &on_wake), attach(loop, &on_loop), attach(send, &on_send), attach(receive, &on_receive);

    const Gate gate;
    const std::vector<Group> groups(options.groups);
    std::vector<Worker> workers;
    for (const Group& group : groups)
        for (const bool sends : {false, true})
            for (unsigned i = 0; i < pairs_of_group; ++i) {
                const auto number = static_cast<unsigned>(workers.size());
                workers.push_back({&gate, &group, static_cast<Log*>(logs) + number, number, options.loops, sends});
            }
    Crew crew(options.processes, workers);
    const double cpu_before = cpu_seconds();
    const auto begin = std::chrono::steady_clock::now();
    gate.open(count);
    crew.wait();
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;

    std::uint64_t events = 0;
    for (const Worker& worker : workers)
        for (const std::uint64_t each : worker.log->events) events += each;
    std::printf("%.6f %.6f %llu %llu %s\n", seconds.count(), cpu_seconds() - cpu_before,
                static_cast<unsigned long long>(options.groups) * pairs_of_group * pairs_of_group * options.loops,
                static_cast<unsigned long long>(events), form());
    return 0;
}

}  // namespace hackbench

int main(int argc, char** argv) { return hackbench::main(hackbench::parse(argc, argv)); }
