// SPDX-License-Identifier: MIT
// A program to be traced: its first argument says what it does. Prints what it would print without being traced.
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

// A function that is called as it stands: neither inlined nor cloned.
#ifdef __clang__
#define AS_IT_STANDS [[gnu::noinline]]
#else
#define AS_IT_STANDS [[gnu::noipa]]
#endif

namespace traced {

volatile int sink = 0;

AS_IT_STANDS int leaf(int x) {
    sink = sink + x;
    return x + 1;
}
AS_IT_STANDS int middle(int x) { return leaf(x) + leaf(x + 1); }
AS_IT_STANDS int recursive(int depth) {
    if (depth == 0) return leaf(1);
    const int below = recursive(depth - 1);
    sink = sink + below;
    return below + 1;
}
AS_IT_STANDS void thrower(int x) {
    leaf(x);
    throw std::runtime_error("thrown");
}
AS_IT_STANDS void sleeper() {
    const timespec pause{0, 20'000'000};
    nanosleep(&pause, nullptr);
}

void count() {
    for (int i = 0; i < 100; ++i) middle(i);
    recursive(10);
    for (int i = 0; i < 7; ++i) {
        try {
            thrower(i);
        } catch (const std::exception&) {
        }
    }
    for (int i = 0; i < 3; ++i) sleeper();
}
// What it calls leaves by longjmp, twice from the same place.
jmp_buf place;
AS_IT_STANDS void leaver(int depth) {
    if (depth != 0) leaver(depth - 1);
    if (depth == 0 && sink != -1) longjmp(place, 1);
    sink = sink + 1;
}
AS_IT_STANDS void left() {
    static int round;
    for (round = 0; round < 2; ++round) {
        if (setjmp(place) == 0)
            leaver(2);
        else
            middle(round);
    }
}
// Optimised, it ends in a jump.
AS_IT_STANDS int tail(int x) { return leaf(x + 1); }

void threads() {
    std::vector<std::thread> all;
    for (int i = 0; i < 4; ++i)
        all.emplace_back([] {
            for (int k = 0; k < 10'000; ++k) leaf(k);
        });
    for (auto& thread : all) thread.join();
}
void children() {
    for (int i = 0; i < 3; ++i) {
        const pid_t child = fork();
        if (child == 0) {
            for (int k = 0; k < 10; ++k) leaf(k);
            _exit(0);
        }
        waitpid(child, nullptr, 0);
    }
    leaf(0);
}
int load(const char* path) {
    void* const object = dlopen(path, RTLD_NOW);
    if (object == nullptr) return 1;
    const auto function = reinterpret_cast<int (*)(int)>(dlsym(object, "plugin_function"));
    for (int i = 0; i < 5; ++i) std::printf("%d\n", function(i));
    dlclose(object);
    return 0;
}
// From here on any system call but those of programs that compute, allocate and print ends the process.
void allow_little() {
    constexpr unsigned allowed[] = {SYS_read, SYS_write, SYS_futex,      SYS_mmap,         SYS_munmap, SYS_brk,
                                    SYS_rseq, SYS_fstat, SYS_newfstatat, SYS_rt_sigreturn, SYS_exit,   SYS_exit_group};
    std::vector<sock_filter> filter{BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr))};
    for (const unsigned number : allowed) {
        filter.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1));
        filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
    }
    filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS));
    const sock_fprog program{static_cast<unsigned short>(filter.size()), filter.data()};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}
// A thread's first calls are behind that too.
void sandbox() {
    std::atomic<int> turn = 0;
    std::thread other([&] {
        while (turn == 0) continue;
        for (int i = 0; i < 10; ++i) middle(i);
        turn = 2;
        for (;;) turn.wait(2);
    });
    leaf(0);
    allow_little();
    middle(1);
    turn = 1;
    turn.notify_all();
    while (turn != 2) continue;
    std::puts("in a sandbox");
    std::exit(4);
}
// As daemons do; then the numbers are those of other files.
int close_all(const char* file, const char* plugin) {
    for (int i = 3; i < 2000; ++i) close(i);
    std::vector<int> files;
    for (int i = 0; i < 1100; ++i) {
        const int opened = open(file, O_RDWR | O_CREAT, 0600);
        if (opened < 0) break;
        files.push_back(opened);
    }
    std::thread([] { leaf(1); }).join();
    return load(plugin);
}

}  // namespace traced

int main(int count, char** words) {
    const std::string what = count > 1 ? words[1] : "";
    if (what == "count") traced::count();
    if (what == "sandbox") traced::sandbox();
    if (what == "deep") traced::recursive(std::atoi(words[2]));
    if (what == "leave") {
        traced::left();
        traced::tail(1);
        std::exit(0);
    }
    if (what == "threads") traced::threads();
    if (what == "children") traced::children();
    if (what == "unwatched") {  // while its parent, who traces it, sleeps
        kill(getppid(), SIGSTOP);
        traced::children();
        kill(getppid(), SIGCONT);
    }
    if (what == "load") return traced::load(words[2]);
    if (what == "close") return traced::close_all(words[2], words[3]);
    if (what == "execute") {
        traced::leaf(1);
        execl(words[0], words[0], "count", static_cast<char*>(nullptr));
    }
    if (what == "exit") return std::atoi(words[2]);
    if (what == "kill") {
        traced::leaf(1);
        raise(std::atoi(words[2]));
    }
    if (what == "print") {
        std::puts("to standard output");
        std::fputs("to standard error\n", stderr);
        std::printf("%d\n", open("/dev/null", O_RDONLY));
        std::printf("%s\n", std::getenv("HOME") != nullptr ? "at home" : "nowhere");
        for (std::string line(100, '\0'); std::fgets(line.data(), 100, stdin) != nullptr;) std::fputs(line.data(), stdout);
    }
    if (what == "wait") {
        traced::leaf(1);
        std::puts("waits");
        std::fflush(stdout);
        char letter;
        static_cast<void>(!read(0, &letter, 1));
    }
    return 0;
}
