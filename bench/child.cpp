// SPDX-License-Identifier: MIT
#include "child.hpp"

#include <fcntl.h>
#include <sched.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "harness.hpp"

extern char** environ;

namespace bench {
namespace {

cpu_set_t set_of(Cpus cpus) {
    cpu_set_t set;
    CPU_ZERO(&set);
    for (const int cpu : cpus == Cpus::all ? allowed_cpus() : std::vector{measuring_cpu()}) CPU_SET(cpu, &set);
    return set;
}

// A new program takes over the affinity of the thread that starts it.
class On {
public:
    explicit On(Cpus cpus) {
        sched_getaffinity(0, sizeof before_, &before_);
        const cpu_set_t set = set_of(cpus);
        sched_setaffinity(0, sizeof set, &set);
    }
    ~On() { sched_setaffinity(0, sizeof before_, &before_); }
    On(const On&) = delete;
    On& operator=(const On&) = delete;

private:
    cpu_set_t before_;
};

int spawn(pid_t& child, const std::vector<std::string>& words, Cpus cpus, int output) {
    std::vector<char*> arguments;
    for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
    arguments.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, output, STDERR_FILENO);
    const On place(cpus);
    const int error = posix_spawnp(&child, arguments[0], &actions, nullptr, arguments.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    return error;
}

std::string read_all(int input) {
    std::string text;
    std::array<char, 4096> part;
    for (;;) {
        const ssize_t got = read(input, part.data(), part.size());
        if (got > 0)
            text.append(part.data(), static_cast<std::size_t>(got));
        else if (got == 0 || errno != EINTR)
            return text;
    }
}

}  // namespace

const std::filesystem::path& program_folder() {
    static const std::filesystem::path folder = std::filesystem::read_symlink("/proc/self/exe").parent_path();
    return folder;
}

std::expected<std::string, std::string> run_program(const std::vector<std::string>& words, Cpus cpus) {
    std::array<int, 2> ends;
    if (pipe2(ends.data(), O_CLOEXEC) != 0) return std::unexpected(std::string("pipe: ") + std::strerror(errno));
    pid_t child = 0;
    const int error = spawn(child, words, cpus, ends[1]);
    close(ends[1]);
    std::string said = error == 0 ? read_all(ends[0]) : "";
    close(ends[0]);
    if (error != 0) return std::unexpected(words[0] + ": " + std::strerror(error));
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return said;
    return std::unexpected(words[0] +
                           (WIFSIGNALED(status) ? " was ended by signal " + std::to_string(WTERMSIG(status))
                                                : " ended with status " + std::to_string(WEXITSTATUS(status))) +
                           (said.empty() ? "" : ": " + said));
}

}  // namespace bench
