// SPDX-License-Identifier: MIT
// One word of running x86-64 code, and the ways in which a process can write it. Plain system calls; the library has no part
// in it.
#pragma once

#include <array>
#include <cstdint>
#include <string>

namespace bench {

// Two pages with the same code: one of a memory file, one private to the process as a program's text is.
class CodePage {
public:
    CodePage();
    ~CodePage();
    CodePage(const CodePage&) = delete;
    CodePage& operator=(const CodePage&) = delete;

    // Empty if both pages are there, else the refusing call and its errno in words.
    const std::string& error() const { return error_; }
    // Runs the first word of both pages.
    void call() const;

    struct Writer {
        const char* id;
        bool (CodePage::*write)();       // writes the other of two words; false if refused
        std::string CodePage::*refusal;  // set when the page was made; empty if the way is open
    };
    static const std::array<Writer, 6>& writers();

private:
    bool write_alias();      // a writable mapping of the same memory, there all the time
    bool map_write_unmap();  // such a mapping for this one write
    bool write_protected();  // such a mapping that is inaccessible between writes
    bool write_file();       // pwrite to the memory file
    bool write_process();    // pwrite to /proc/self/mem, private page
    bool write_with_key();   // such a mapping, write-disabled by a protection key between writes

    bool map_pages();
    void probe_process_memory();
    void make_keyed_alias();
    std::uint64_t other_word();

    int file_ = -1, process_memory_ = -1, key_ = -1;
    void *text_ = nullptr, *private_text_ = nullptr;                                        // executable, never writable
    std::uint64_t *alias_ = nullptr, *protected_alias_ = nullptr, *keyed_alias_ = nullptr;  // the file's memory, not executable
    std::uint64_t turn_ = 0;
    std::string error_, process_memory_refusal_, key_refusal_;
};

}  // namespace bench
