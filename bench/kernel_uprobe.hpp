// SPDX-License-Identifier: MIT
// The kernel's probe on a function of this process, as a tracer would make one: a perf event of the PMU "uprobe" on the
// function's place in its file, with a BPF program that does nothing. Where no program may be loaded, every thread still pays
// for the trap, but the event counts only what the thread that made it runs; note() says which it is. (An event that threads
// inherit is no way out: each would bring a consumer of its own, and every hit would ask all of them.)
//
//     auto probe = KernelUprobe::attach(reinterpret_cast<std::uintptr_t>(&parse), KernelUprobe::At::entry);
//     if (!probe) std::puts(probe.error().c_str());     // "perf_event_open of a uprobe: Permission denied (errno 13); ..."
//
// Closing one waits for grace periods of the kernel, tens of milliseconds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <string>
#include <utility>

namespace bench {

// A descriptor, closed at the end.
class OwnFile {
public:
    explicit OwnFile(int file = -1) : file_(file) {}
    OwnFile(OwnFile&& other) noexcept : file_(std::exchange(other.file_, -1)) {}
    OwnFile& operator=(OwnFile&& other) noexcept {
        std::swap(file_, other.file_);
        return *this;
    }
    ~OwnFile();
    int number() const { return file_; }
    explicit operator bool() const { return file_ >= 0; }

private:
    int file_;
};

class KernelUprobe {
public:
    enum class At : std::uint8_t { entry, return_ };

    // In every thread of this process. Error: in words, what was refused.
    static std::expected<KernelUprobe, std::string> attach(std::uintptr_t address, At);

    // "no-op BPF program", or "the trap alone, without BPF: ..." with the refusal.
    const std::string& note() const { return note_; }

private:
    KernelUprobe(OwnFile event, std::string note) : event_(std::move(event)), note_(std::move(note)) {}
    OwnFile event_;
    std::string note_;
};

// Many sites of one object by one call, a link of the kind "uprobe_multi".
class KernelUprobes {
public:
    static std::expected<KernelUprobes, std::string> attach(std::span<const std::uintptr_t> addresses, KernelUprobe::At);

private:
    explicit KernelUprobes(OwnFile link) : link_(std::move(link)) {}
    OwnFile link_;
};

}  // namespace bench
