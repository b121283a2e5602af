// SPDX-License-Identifier: MIT
#include "fork_watch.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <new>

#include "os.hpp"

namespace dynfunc {

void ForkWatch::arm() noexcept {
    armed_in_ = getpid();
    if (word_ == nullptr) {
        void* page = mmap(nullptr, os::page_size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (page == MAP_FAILED) return;
        if (madvise(page, os::page_size(), MADV_WIPEONFORK) != 0) {
            munmap(page, os::page_size());
            return;
        }
        word_ = new (page) std::atomic<int>(1);
    }
    word_->store(1, std::memory_order_relaxed);
}

bool ForkWatch::is_new_process() const noexcept {
    if (armed_in_ == 0) return false;
    return word_ != nullptr ? word_->load(std::memory_order_relaxed) == 0 : getpid() != armed_in_;
}

}  // namespace dynfunc
