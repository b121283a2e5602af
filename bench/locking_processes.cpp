// SPDX-License-Identifier: MIT
#include "locking_processes.hpp"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <memory>
#include <new>
#include <thread>
#include <vector>

#include "harness.hpp"
#include "kernel_uprobe.hpp"
#include "refused.hpp"

namespace bench {
namespace {

constexpr std::size_t page = 4096, most_processes = 64;
constexpr double patience = 10;  // seconds for all children to begin, and to end

// What one process hands over.
struct Handed {
    std::uint64_t turns, calls;
    double cpu_ns, begin, end;
};

// In memory that parent and children share.
struct Board {
    std::atomic<std::size_t> ready;
    std::atomic<bool> go, warming, stop;
    Handed handed[most_processes];
};

double cpu_time() {
    timespec time{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) * 1e9 + static_cast<double>(time.tv_nsec);
}

// One process's file and page.
struct Place {
    int file;
    void* page;
    off_t byte;

    // Whether every call was granted.
    bool turn() const {
        struct flock lock {};
        lock.l_type = F_WRLCK;
        lock.l_whence = SEEK_SET;
        lock.l_start = byte;
        lock.l_len = 1;
        bool granted = fcntl(file, F_SETLK, &lock) == 0;
        granted = flock(file, LOCK_SH) == 0 && granted;
        granted = mprotect(page, bench::page, PROT_READ) == 0 && granted;
        granted = mprotect(page, bench::page, PROT_READ | PROT_WRITE) == 0 && granted;
        granted = flock(file, LOCK_UN) == 0 && granted;
        lock.l_type = F_UNLCK;
        return fcntl(file, F_SETLK, &lock) == 0 && granted;
    }
};

// Between pages that nobody may touch: what lies beside it decides whether the kernel splits and joins mappings each time.
void* page_alone() {
    void* const mapped = mmap(nullptr, 3 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) return mapped;
    void* const middle = static_cast<std::byte*>(mapped) + page;
    return mprotect(middle, page, PROT_READ | PROT_WRITE) == 0 ? middle : MAP_FAILED;
}

// The child's statuses.
constexpr int no_place = 3, not_granted = 4;

[[noreturn]] void work(Board& board, std::size_t index, int shared_file, std::uint64_t (*calls_seen)()) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    pin_to(allowed_cpus()[index % allowed_cpus().size()]);
    // Opened again: what a process locks as a whole, it locks for its own opening.
    const std::string name = "/proc/self/fd/" + std::to_string(shared_file);
    const Place place{open(name.c_str(), O_RDWR | O_CLOEXEC), page_alone(), static_cast<off_t>(index)};
    if (place.file < 0 || place.page == MAP_FAILED) _exit(no_place);
    *static_cast<volatile char*>(place.page) = 1;
    board.ready.fetch_add(1);
    while (!board.go.load()) sched_yield();
    while (board.warming.load(std::memory_order_relaxed))
        if (!place.turn()) _exit(not_granted);
    Handed& handed = board.handed[index];
    const std::uint64_t seen_before = calls_seen();
    const double cpu_before = cpu_time();
    handed.begin = now(Clock::wall);
    for (; !board.stop.load(std::memory_order_relaxed); ++handed.turns)
        if (!place.turn()) _exit(not_granted);
    handed.end = now(Clock::wall);
    handed.cpu_ns = cpu_time() - cpu_before;
    handed.calls = calls_seen() - seen_before;
    _exit(0);
}

// Those that live are ended with it.
class Children {
public:
    ~Children() {
        for (const pid_t child : children_) kill(child, SIGKILL);
        for (const pid_t child : children_) waitpid(child, nullptr, 0);
    }
    bool add(pid_t child) {
        if (child > 0) children_.push_back(child);
        return child > 0;
    }
    bool all_ended() const { return children_.empty(); }
    // Looks after those that have ended. Empty, or how one of them did that should not have.
    std::string look() {
        std::string ended;
        std::erase_if(children_, [&](pid_t child) {
            int status = 0;
            if (waitpid(child, &status, WNOHANG) != child) return false;
            if (WIFSIGNALED(status))
                ended = "a process was ended by signal " + std::to_string(WTERMSIG(status));
            else if (WEXITSTATUS(status) == no_place)
                ended = "a process has no file or no page";
            else if (WEXITSTATUS(status) == not_granted)
                ended = "a lock or a protection was refused";
            else if (WEXITSTATUS(status) != 0)
                ended = "a process ended with status " + std::to_string(WEXITSTATUS(status));
            return true;
        });
        return ended;
    }

private:
    std::vector<pid_t> children_;
};

// Until `done()`; empty, or why that was waited for in vain.
template <class Done>
std::string wait_until(Children& children, const char* what, Done&& done) {
    const double until = now(Clock::wall) + patience * 1e9;
    for (;;) {
        if (std::string ended = children.look(); !ended.empty()) return ended;
        if (done()) return {};
        if (now(Clock::wall) > until) return std::string("not all processes have ") + what;
        std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
}

void sleep_for(double seconds) { std::this_thread::sleep_for(std::chrono::duration<double>(seconds)); }

struct Unmap {
    void operator()(Board* board) const { munmap(board, sizeof(Board)); }
};

std::string run_on(Board& board, const WorkBurst& burst, int file, std::uint64_t (*calls_seen)()) {
    Children children;
    for (std::size_t i = 0; i < burst.processes; ++i) {
        const pid_t child = fork();
        if (child == 0) work(board, i, file, calls_seen);
        if (!children.add(child)) return refused("fork");
    }
    if (std::string why = wait_until(children, "begun", [&] { return board.ready.load() == burst.processes; }); !why.empty())
        return why;
    board.warming.store(true);
    board.go.store(true);
    sleep_for(burst.warm_up);
    board.warming.store(false);
    sleep_for(burst.seconds);
    board.stop.store(true);
    return wait_until(children, "ended", [&] { return children.all_ended(); });
}

}  // namespace

std::expected<Worked, std::string> run_processes(const WorkBurst& burst, std::uint64_t (*calls_seen)()) {
    if (burst.processes > most_processes) return std::unexpected("so many processes have no place");
    const OwnFile file(memfd_create("dynfunc-bench", MFD_CLOEXEC));
    if (!file || ftruncate(file.number(), page) != 0) return std::unexpected(refused("memfd_create"));
    void* const mapped = mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) return std::unexpected(refused("mmap"));
    const std::unique_ptr<Board, Unmap> board(new (mapped) Board{});
    if (std::string why = run_on(*board, burst, file.number(), calls_seen); !why.empty())
        return std::unexpected(std::move(why));
    Worked all{};
    double begin = board->handed[0].begin, end = board->handed[0].end;
    for (std::size_t i = 0; i < burst.processes; ++i) {
        const Handed& handed = board->handed[i];
        all.turns += handed.turns;
        all.calls += handed.calls;
        all.cpu_ns += handed.cpu_ns;
        begin = std::min(begin, handed.begin);
        end = std::max(end, handed.end);
    }
    all.seconds = (end - begin) / 1e9;
    return all;
}

}  // namespace bench
