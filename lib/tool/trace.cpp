// SPDX-License-Identifier: MIT
#include "trace.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <span>
#include <utility>

#include "chrome_trace.hpp"
#include "failure.hpp"
#include "file.hpp"
#include "program.hpp"
#include "recorded.hpp"
#include "shared_memory.hpp"
#include "ticks.hpp"
#include "trace_report.hpp"
#include "traced_objects.hpp"

extern char** environ;

namespace dynfunc::tool {
namespace {

using namespace trace;
using Clock = std::chrono::steady_clock;

class Tracing {
public:
    explicit Tracing(const Trace& trace) : trace_(trace), recording_(trace) {
        is_terminal_ = isatty(STDERR_FILENO) == 1;
        listen();
    }

    int run() {
        sigset_t before;
        sigset_t watched;
        sigemptyset(&watched);
        for (const int signal : {SIGCHLD, SIGUSR1, SIGTERM, SIGHUP, SIGINT, SIGQUIT}) sigaddset(&watched, signal);
        sigprocmask(SIG_BLOCK, &watched, &before);
        const File signals(signalfd(-1, &watched, SFD_CLOEXEC | SFD_NONBLOCK));
        if (signals.number < 0) fail_by_system("signals");
        start(before);
        Clock::time_point next = Clock::now();
        const auto period = std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(trace_.every));
        next += period;
        int status = 0;
        while (true) {
            std::vector<pollfd> ready{{signals.number, POLLIN, 0}, {listening_->number, POLLIN, 0}};
            for (const auto& each : connections_) ready.push_back({each->file.number, POLLIN, 0});
            const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(next - Clock::now()).count();
            const int timeout = trace_.every > 0 ? static_cast<int>(std::max<long>(0, left)) : -1;
            if (poll(ready.data(), ready.size(), timeout) < 0 && errno != EINTR) fail_by_system("waiting for the program");
            for (std::size_t i = 2; i < ready.size(); ++i)
                if (ready[i].revents != 0) serve(*connections_[i - 2]);
            std::erase_if(connections_, [](const auto& each) { return each->is_closed; });
            if (ready[1].revents != 0) accept();
            if (trace_.every > 0 && Clock::now() >= next) {
                print_table(false);
                next += period;
            }
            if (ready[0].revents != 0 && has_ended(signals.number, status)) break;
        }
        serve_rest();
        clear_progress();
        print_table(true);
        if (!trace_.output.empty()) write_output();
        return end_as(status, before);
    }

private:
    struct Connection {
        File file;
        pid_t process = 0;
        bool is_closed = false;
        explicit Connection(int accepted) noexcept : file(accepted) {}
    };

    void listen() {
        std::uint64_t number = 0;
        if (getrandom(&number, sizeof number, 0) != sizeof number) fail_by_system("random number");
        char name[64];
        std::snprintf(name, sizeof name, "dynfunc-trace-%d-%016lx", getpid(), number);
        name_ = name;
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        name_.copy(address.sun_path + 1, sizeof address.sun_path - 1);
        listening_ = std::make_unique<File>(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
        const auto bytes = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name_.size());
        if (listening_->number < 0 || bind(listening_->number, reinterpret_cast<sockaddr*>(&address), bytes) != 0 ||
            ::listen(listening_->number, SOMAXCONN) != 0)
            fail_by_system("socket");
    }

    void start(const sigset_t& signals) {
        std::array<int, 2> ends{};
        if (pipe2(ends.data(), O_CLOEXEC) != 0) fail_by_system("pipe");
        const File error_from(ends[0]);
        auto error_to = std::make_unique<File>(ends[1]);
        std::string preload = agent_;
        if (const char* const others = std::getenv("LD_PRELOAD"); others != nullptr && *others != '\0')
            preload.append(":").append(others);
        std::vector<char*> words;
        for (const std::string& word : trace_.program) words.push_back(const_cast<char*>(word.c_str()));
        words.push_back(nullptr);
        start_ticks_ = arch::ticks();
        start_ = Clock::now();
        child_ = fork();
        if (child_ < 0) fail_by_system("fork");
        if (child_ == 0) {
            sigprocmask(SIG_SETMASK, &signals, nullptr);
            setenv("LD_PRELOAD", preload.c_str(), 1);
            setenv(socket_variable, name_.c_str(), 1);
            execvp(words.front(), words.data());
            const int error = errno;
            static_cast<void>(!write(error_to->number, &error, sizeof error));
            _exit(127);
        }
        error_to.reset();
        int error = 0;
        if (read(error_from.number, &error, sizeof error) == sizeof error) {
            waitpid(child_, nullptr, 0);
            errno = error;
            fail_by_system(trace_.program.front());
        }
    }

    // Beside the command, as it is built, or where it is installed.
    static std::string agent_path() {
        std::string command(PATH_MAX, '\0');
        command.resize(
            static_cast<std::size_t>(std::max<ssize_t>(0, readlink("/proc/self/exe", command.data(), command.size()))));
        const std::string folder = command.substr(0, command.rfind('/') + 1);
        for (const std::string& candidate : {folder + DYNFUNC_AGENT, std::string(DYNFUNC_AGENT_FOLDER "/" DYNFUNC_AGENT)})
            if (access(candidate.c_str(), R_OK) == 0) return candidate;
        fail(DYNFUNC_AGENT, "neither in " + folder + " nor in " DYNFUNC_AGENT_FOLDER);
    }

    void accept() {
        while (true) {
            const int file = accept4(listening_->number, nullptr, nullptr, SOCK_CLOEXEC);
            if (file < 0) return;
            auto made = std::make_unique<Connection>(file);
            ucred peer{};
            socklen_t bytes = sizeof peer;
            if (getsockopt(file, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) != 0 || (geteuid() != 0 && peer.uid != geteuid()))
                continue;
            made->process = peer.pid;
            connections_.push_back(std::move(made));
        }
    }

    static bool say(const Connection& to, Word word, std::uint32_t value, int file) {
        Message message{word, value, {}};
        iovec part{&message, offsetof(Message, path)};
        alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int))> control{};
        msghdr sent{};
        sent.msg_iov = &part;
        sent.msg_iovlen = 1;
        if (file >= 0) {
            sent.msg_control = control.data();
            sent.msg_controllen = control.size();
            cmsghdr* const first = CMSG_FIRSTHDR(&sent);
            first->cmsg_level = SOL_SOCKET;
            first->cmsg_type = SCM_RIGHTS;
            first->cmsg_len = CMSG_LEN(sizeof file);
            std::memcpy(CMSG_DATA(first), &file, sizeof file);
        }
        return sendmsg(to.file.number, &sent, MSG_NOSIGNAL) >= 0;
    }

    void serve(Connection& from) {
        Message message{};
        const ssize_t bytes = recv(from.file.number, &message, sizeof message - 1, 0);
        if (bytes < static_cast<ssize_t>(offsetof(Message, path))) {
            from.is_closed = true;
            recording_.release(from.process);
            return;
        }
        message.path[sizeof message.path - 1] = '\0';
        switch (message.word) {
            case Word::hello:
                processes_.insert_or_assign(from.process, name_of_process(from.process, message.path));
                say(from, Word::settings, RecordingHeader::known_version, recording_.file());
                break;
            case Word::object: {
                std::size_t count = 0;
                const SharedMemory* const list = objects_.list(message.path, count);
                say(from, Word::functions, static_cast<std::uint32_t>(count), list == nullptr ? -1 : list->file());
                if (list == nullptr) break;
                show_progress();
                break;
            }
            default:
                show_progress();
        }
    }
    // What the program said before it ended.
    void serve_rest() {
        accept();
        for (const auto& each : connections_) {
            pollfd ready{each->file.number, POLLIN, 0};
            while (!each->is_closed && poll(&ready, 1, 0) == 1) serve(*each);
        }
    }

    // `said`: by itself, for it may have ended.
    static std::string name_of_process(pid_t process, const char* said) {
        std::string name(16, '\0');
        const File file(open(("/proc/" + std::to_string(process) + "/comm").c_str(), O_RDONLY | O_CLOEXEC));
        name.resize(
            static_cast<std::size_t>(std::max<ssize_t>(0, file.number < 0 ? 0 : read(file.number, name.data(), name.size()))));
        return name.empty() ? said : name.substr(0, name.find('\n'));
    }

    bool has_ended(int signals, int& status) {
        signalfd_siginfo got;
        while (read(signals, &got, sizeof got) == sizeof got) {
            switch (got.ssi_signo) {
                case SIGUSR1:
                    print_table(false);
                    break;
                case SIGTERM:
                case SIGHUP:
                    kill(child_, static_cast<int>(got.ssi_signo));
                    break;
                default:  // SIGINT, SIGQUIT: of the terminal, the program has them too
                    break;
            }
        }
        return waitpid(child_, &status, WNOHANG) == child_;
    }

    int end_as(int status, const sigset_t& before) {
        if (!WIFSIGNALED(status)) return WEXITSTATUS(status);
        const rlimit none{0, 0};
        setrlimit(RLIMIT_CORE, &none);
        signal(WTERMSIG(status), SIG_DFL);
        sigprocmask(SIG_SETMASK, &before, nullptr);
        raise(WTERMSIG(status));
        return 128 + WTERMSIG(status);
    }

    void show_progress() {
        if (!is_terminal_) return;
        const auto [done, all] = objects_.progress();
        // Now the program goes on, and may print.
        if (done == all) return clear_progress();
        std::fprintf(stderr, "\r\033[Kdynfunc: attaching to %zu of %zu functions", done, all);
        has_progress_ = true;
    }
    void clear_progress() {
        if (std::exchange(has_progress_, false)) std::fputs("\r\033[K", stderr);
    }

    TraceResult result() const;
    void print_table(bool is_end) {
        clear_progress();
        const std::string text = table(result(), trace_.top, is_end);
        std::fwrite(text.data(), 1, text.size(), stderr);
    }
    void write_output() {
        const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(trace_.output.c_str(), "we"), &std::fclose);
        if (file == nullptr) fail_by_system(trace_.output);
        const auto write = [&](const std::string& text) {
            if (std::fwrite(text.data(), 1, text.size(), file.get()) != text.size()) fail_by_system(trace_.output);
        };
        switch (trace_.format) {
            case Format::json:
                write(to_json(result()));
                break;
            case Format::folded:
                write(to_folded(result()));
                break;
            case Format::chrome: {
                std::uint64_t lost = 0;
                const auto calls = recording_.calls(start_ticks_, lost);
                write_chrome_trace(result(), calls, lost, write);
                if (lost != 0)
                    std::fprintf(stderr,
                                 "\n%s has the last %u calls of each thread: %" PRIu64 " are not in it (--max-events)\n",
                                 trace_.output.c_str(), trace_.most_events, lost);
                break;
            }
        }
        if (std::fflush(file.get()) != 0) fail_by_system(trace_.output);
    }

    const Trace& trace_;
    Recording recording_;
    const std::string agent_ = agent_path();
    TracedObjects objects_{trace_, agent_};
    std::string name_;
    std::unique_ptr<File> listening_;
    std::vector<std::unique_ptr<Connection>> connections_;
    std::map<pid_t, std::string> processes_;  // and the names of what they execute
    pid_t child_ = 0;
    std::uint64_t start_ticks_ = 0;
    Clock::time_point start_;
    bool is_terminal_ = false, has_progress_ = false;
};

TraceResult Tracing::result() const {
    TraceResult result;
    result.program = trace_.program;
    result.with_times = trace_.with_times;
    result.with_tree = trace_.with_tree;
    result.processes = processes_;
    const auto now = Clock::now();
    const double seconds = std::chrono::duration<double>(now - start_).count();
    result.seconds = seconds;
    result.ns_per_tick = 1e9 * seconds / static_cast<double>(std::max<std::uint64_t>(1, arch::ticks() - start_ticks_));
    std::vector<FunctionResult*> by_number;
    objects_.add_to(result, by_number);
    recording_.read(by_number);
    if (trace_.with_tree) result.tree = recording_.tree();
    return result;
}

}  // namespace

int run(const Trace& trace) try {
    if (const auto program = find_program(trace.program.front())) {
        if (program->linker.empty()) fail(program->path, "it is linked statically: nothing can be loaded into it");
        struct stat status {};
        if (stat(program->path.c_str(), &status) == 0 && (status.st_mode & (S_ISUID | S_ISGID)) != 0)
            fail(program->path, "it is set-user-ID or set-group-ID: the system loads nothing into it that its caller names");
        if (getxattr(program->path.c_str(), "security.capability", nullptr, 0) > 0)
            fail(program->path, "it has capabilities of its own: the system loads nothing into it that its caller names");
    }
    return Tracing(trace).run();
} catch (const Failure& failure) {
    std::fprintf(stderr, "dynfunc: %s: %s\n", failure.about.c_str(), failure.why.c_str());
    return 1;
}

}  // namespace dynfunc::tool
