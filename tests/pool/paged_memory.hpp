// SPDX-License-Identifier: MIT
// Memory whose pages can be taken away at any moment: who touches one again waits in the kernel until it is back, with what it
// held. A sequence that runs into that pauses in its middle, without having been interrupted.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdlib>

namespace dynfunc::test {

class PagedMemory {
public:
    static constexpr std::size_t page = 4096, most = 64;
    PagedMemory() {
        file_ = memfd_create("pool", MFD_CLOEXEC);
        if (file_ < 0) std::abort();
    }
    ~PagedMemory() {
        for (std::size_t i = 0; i < count_; ++i) munmap(pieces_[i].at, pieces_[i].bytes);
        close(file_);
    }
    PagedMemory(const PagedMemory&) = delete;

    // The next piece begins so far into a page.
    void begin_at(std::size_t offset) { offset_ = offset % page; }
    void* allocate(std::size_t bytes) {
        const std::size_t all = (bytes + offset_ + 2 * page - 1) / page * page;
        if (count_ == most || ftruncate(file_, static_cast<off_t>(end_ + all)) != 0) std::abort();
        void* at = mmap(nullptr, all, PROT_READ | PROT_WRITE, MAP_SHARED, file_, static_cast<off_t>(end_));
        if (at == MAP_FAILED) std::abort();
        pieces_[count_++] = {at, all};
        end_ += all;
        auto* const begin = static_cast<std::byte*>(at) + offset_;
        offset_ = 0;
        return begin;
    }
    // All pages of the first piece, or one of them.
    void drop_pages() const { madvise(pieces_[0].at, pieces_[0].bytes, MADV_DONTNEED); }
    void drop_page(std::size_t which) const {
        if (which < pieces_[0].bytes / page)
            madvise(static_cast<std::byte*>(pieces_[0].at) + which * page, page, MADV_DONTNEED);
    }
    std::size_t pages() const { return pieces_[0].bytes / page; }

private:
    struct Piece {
        void* at;
        std::size_t bytes;
    } pieces_[most];
    std::size_t count_ = 0, end_ = 0, offset_ = 0;
    int file_;
};

}  // namespace dynfunc::test
