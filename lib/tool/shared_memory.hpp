// SPDX-License-Identifier: MIT
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>

#include "failure.hpp"
#include "file.hpp"

namespace dynfunc::tool {

// A file in memory, mapped.
class SharedMemory {
public:
    SharedMemory(const char* name, std::size_t bytes) : file_(memfd_create(name, MFD_CLOEXEC)), bytes_(bytes) {
        if (file_.number < 0 || ftruncate(file_.number, static_cast<off_t>(bytes)) != 0) fail_by_system(name);
        memory_ = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file_.number, 0);
        if (memory_ == MAP_FAILED) fail_by_system(name);
    }
    ~SharedMemory() { munmap(memory_, bytes_); }
    SharedMemory(const SharedMemory&) = delete;

    int file() const noexcept { return file_.number; }
    std::byte* data() const noexcept { return static_cast<std::byte*>(memory_); }

private:
    File file_;
    void* memory_;
    std::size_t bytes_;
};

}  // namespace dynfunc::tool
