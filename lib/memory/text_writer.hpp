// SPDX-License-Identifier: MIT
// Writes bytes of code that other threads are running, without ever making a page writable and executable, or taking a right
// away from live text.
//
//     two ways                   process_memory                         memory_file
//     how                        pwrite() to /proc/self/mem             the page becomes one of a memfd, which is mapped a
//     second
//                                                                       time elsewhere, writable during an update
//     who stores                 the kernel's copy routine              this thread, one 8-byte store a word
//     page afterwards            the file's, copied privately           the memfd's (a forked child needs pages of its own)
//     refused by                 no /proc, proc_mem.force_override,     vm.memfd_noexec=2, seccomp, execmem policies
//                                seccomp; processors that may fetch
//                                half of what the kernel copies
//     cost, one word (measured)  1.3 us                                 6 us; 14 us while other cores run (two TLB flushes)
//
// Why the first is preferred: docs/decisions/0001-text-writer.md.
#pragma once

#include <dynfunc/capabilities.hpp>
#include <dynfunc/result.hpp>

#include <algorithm>
#include <span>

#include "scratch.hpp"

namespace dynfunc {

// One way. Threads: the text lock is held around every call.
class TextWriting {
public:
    virtual TextWriter kind() const noexcept = 0;
    // Puts `bytes` at `at`; both are multiples of the machine's word, the range lies in one page. A thread that runs there
    // meanwhile fetches each word old or new. Says nothing about when running cores see it: os::sync_cores().
    // Errors: text_not_writable, out_of_memory, with errno; then the old bytes stand.
    virtual Result<void> write(Address at, std::span<const std::byte> bytes) noexcept = 0;
    // Whether what lies between may be written back in running code, as it was read: each word is stored by one instruction.
    virtual bool stores_words() const noexcept = 0;
    // The pages of `range` are about to be unmapped by someone else.
    virtual void forget(AddressRange range) noexcept = 0;
    // In the only thread of a child process. Afterwards no write reaches the parent's code, and none of the parent's the
    // child's.
    virtual Result<void> adopt_in_child() noexcept = 0;
    // In the parent, after fork() and before the lock is released: no write from now on reaches the child's code, also before
    // the child comes to adopt it.
    virtual void leave_to_child() noexcept {}

protected:
    ~TextWriting() = default;
};

class ProcessMemoryWriting final : public TextWriting {
public:
    TextWriter kind() const noexcept override { return TextWriter::process_memory; }
    bool stores_words() const noexcept override { return false; }
    Result<void> write(Address at, std::span<const std::byte> bytes) noexcept override;
    void forget(AddressRange) noexcept override {}
    Result<void> adopt_in_child() noexcept override;

private:
    bool is_ours() const noexcept;
    Result<void> open_memory() noexcept;

    int descriptor_ = -1;
};

class MemoryFileWriting final : public TextWriting {
public:
    TextWriter kind() const noexcept override { return TextWriter::memory_file; }
    bool stores_words() const noexcept override { return true; }
    Result<void> write(Address at, std::span<const std::byte> bytes) noexcept override;
    void forget(AddressRange range) noexcept override;
    Result<void> adopt_in_child() noexcept override;
    void leave_to_child() noexcept override;

private:
    // Each page has a memory file of its own, shared with no other process, whose descriptor is long closed.
    struct Replaced {
        Address page, alias;  // where it runs, privately mapped; where it is written, shared, and readable in between
    };
    static Result<void> replace_page(Replaced& replaced) noexcept;
    static void unmap_alias(Replaced& replaced) noexcept;
    static Result<void> write_alias(const Replaced& replaced, Address at, std::span<const std::byte> bytes) noexcept;
    template <class Is>
    void remove_if(Is&& is) noexcept {
        replaced_.truncate(
            static_cast<std::size_t>(std::remove_if(replaced_.begin(), replaced_.end(), is) - replaced_.begin()));
    }

    Scratch<Replaced> replaced_;
};

}  // namespace dynfunc
