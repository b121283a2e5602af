// SPDX-License-Identifier: MIT
// The agent's side of what it and the command say to each other (recording.hpp).
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <string>

#include "recording.hpp"

namespace dynfunc::trace {

// Threads: one at a time. Nothing is thrown, and no signal is raised, where the command has gone.
class Connection {
public:
    // To the socket of this name, which must stay.
    explicit Connection(const char* name) noexcept : name_(name) {}

    // False: it cannot be had.
    bool open() noexcept;
    void close() noexcept;
    // The file of the recording; -1: it cannot be had.
    int ask_for_recording() noexcept;
    // A child's, of which the command is to know. It may have ended before the command looks: its name, until the program
    // gives itself another one, is that of who asked for the recording. No system call is made to find it.
    void say_hello() noexcept;
    // Of an object's file, the functions that are wanted; null: none.
    FunctionList* ask_for_functions(const std::string& path) noexcept;
    void say_attached() noexcept { static_cast<void>(say(Word::attached, 0)); }

private:
    bool is_ours() const noexcept;
    bool say(Word word, std::uint32_t value, const std::string& path = {}) noexcept;
    bool hear(Word expected, std::uint32_t& value, int& file) noexcept;

    const char* name_;
    std::string program_;
    int file_ = -1;
    struct stat identity_ {};  // of the connection
};

}  // namespace dynfunc::trace
