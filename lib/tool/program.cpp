// SPDX-License-Identifier: MIT
#include "program.hpp"

#include <fcntl.h>
#include <gelf.h>
#include <libelf.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <sstream>
#include <string_view>

#include "file.hpp"

extern char** environ;

namespace dynfunc::tool {
namespace {

std::unexpected<std::string> refused(const std::string& what) { return std::unexpected(what); }
std::unexpected<std::string> refused_by_system() { return std::unexpected(std::string(std::strerror(errno))); }

struct EndElf {
    void operator()(Elf* elf) const noexcept { elf_end(elf); }
};

// The one in PATH, or the name itself.
Found<std::string> path_of(const std::string& name) {
    if (name.find('/') != std::string::npos) return name;
    const char* const path = std::getenv("PATH");
    std::istringstream folders(path != nullptr ? path : "/usr/bin:/bin");
    for (std::string folder; std::getline(folders, folder, ':');) {
        std::string candidate = folder.empty() ? "." : folder;
        candidate.append("/").append(name);
        struct stat status {};
        if (stat(candidate.c_str(), &status) == 0 && S_ISREG(status.st_mode) && access(candidate.c_str(), X_OK) == 0)
            return candidate;
    }
    return refused("there is no such program in PATH");
}

// What a command prints.
Found<std::string> output_of(const std::vector<std::string>& words) {
    std::array<int, 2> ends{};
    if (pipe2(ends.data(), O_CLOEXEC) != 0) return refused_by_system();
    const File from(ends[0]);
    pid_t child = 0;
    {
        const File to(ends[1]);
        std::vector<char*> arguments;
        for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
        arguments.push_back(nullptr);
        posix_spawn_file_actions_t actions;
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_adddup2(&actions, to.number, STDOUT_FILENO);
        const int error = posix_spawn(&child, arguments[0], &actions, nullptr, arguments.data(), environ);
        posix_spawn_file_actions_destroy(&actions);
        if (error != 0) return refused(words.front() + ": " + std::strerror(error));
    }
    std::string text;
    std::array<char, 4096> some;
    for (ssize_t size = 0; (size = read(from.number, some.data(), some.size())) != 0;) {
        if (size > 0) text.append(some.data(), static_cast<std::size_t>(size));
        if (size < 0 && errno != EINTR) break;
    }
    int status = 0;
    pid_t ended = 0;
    while ((ended = waitpid(child, &status, 0)) < 0 && errno == EINTR) {
    }
    if (ended != child || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return refused(words.front() + " cannot tell what would be loaded");
    return text;
}

}  // namespace

Found<Program> find_program(const std::string& name) {
    const auto path = path_of(name);
    if (!path) return std::unexpected(path.error());
    const File file(open(path->c_str(), O_RDONLY | O_CLOEXEC));
    if (file.number < 0) return refused_by_system();
    std::array<char, 2> first{};
    if (pread(file.number, first.data(), first.size(), 0) == 2 && first[0] == '#' && first[1] == '!')
        return refused("it is a script: name its interpreter, and the script behind it");
    elf_version(EV_CURRENT);
    const std::unique_ptr<Elf, EndElf> elf(elf_begin(file.number, ELF_C_READ, nullptr));
    std::size_t headers = 0;
    if (elf == nullptr || elf_kind(elf.get()) != ELF_K_ELF || elf_getphdrnum(elf.get(), &headers) != 0)
        return refused("it is no ELF file");
    Program program{*path, {}};
    for (std::size_t i = 0; i < headers; ++i) {
        GElf_Phdr header;
        if (gelf_getphdr(elf.get(), static_cast<int>(i), &header) == nullptr || header.p_type != PT_INTERP) continue;
        std::string linker(std::min<std::size_t>(header.p_filesz, PATH_MAX), '\0');
        if (pread(file.number, linker.data(), linker.size(), static_cast<off_t>(header.p_offset)) < 0)
            return refused_by_system();
        program.linker = linker.c_str();
    }
    return program;
}

Found<std::vector<std::string>> objects_of(const Program& program) {
    std::vector<std::string> objects{program.path};
    if (program.linker.empty()) return objects;
    const auto text = output_of({program.linker, "--list", program.path});
    if (!text) return std::unexpected(text.error());
    // "	libc.so.6 => /lib/libc.so.6 (0x…)", "	/lib64/ld-linux-x86-64.so.2 (0x…)", "	linux-vdso.so.1 (0x…)"
    std::istringstream lines(*text);
    for (std::string line; std::getline(lines, line);) {
        constexpr std::string_view arrow = " => ";
        const std::size_t named = line.find(arrow), end = line.rfind(" (0x");
        if (named != std::string::npos && line.substr(named + arrow.size()) == "not found")
            return refused("needs " + line.substr(line.find_first_not_of('\t'), named - line.find_first_not_of('\t')) +
                           ", which is not found");
        if (end == std::string::npos) continue;
        const std::size_t begin = named != std::string::npos ? named + arrow.size() : line.find_first_not_of('\t');
        if (begin >= end || line.find('/', begin) >= end) continue;  // the kernel's own has no path
        objects.push_back(line.substr(begin, end - begin));
    }
    return objects;
}

}  // namespace dynfunc::tool
