// SPDX-License-Identifier: MIT
// A function with a stack of its own, which goes on where it stopped, in whichever thread asks for it.
#pragma once

#include <sys/mman.h>
#include <ucontext.h>

#include <cstdint>
#include <cstdlib>
#include <functional>
#include <utility>

namespace dynfunc::test {

class Coroutine {
public:
    static constexpr std::size_t stack_bytes = 256 * 1024, guard_bytes = 4096;

    explicit Coroutine(std::function<void(Coroutine&)> body)
        : body_(std::move(body)),
          stack_(mmap(nullptr, stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0)) {
        // Who needs more than there is ends here, and not in another one's stack.
        if (stack_ == MAP_FAILED || mprotect(stack_, guard_bytes, PROT_NONE) != 0 || getcontext(&inside_) != 0) std::abort();
        inside_.uc_stack.ss_sp = stack_;
        inside_.uc_stack.ss_size = stack_bytes;
        inside_.uc_link = &outside_;
        const auto self = reinterpret_cast<std::uintptr_t>(this);
        makecontext(&inside_, reinterpret_cast<void (*)()>(&enter), 2, static_cast<unsigned>(self),
                    static_cast<unsigned>(self >> 32));
    }
    // Also in the middle of its body: what it has called never returns.
    ~Coroutine() { munmap(stack_, stack_bytes); }
    Coroutine(const Coroutine&) = delete;

    // Runs until it yields (true), or has ended.
    bool resume() {
        swapcontext(&outside_, &inside_);
        return !is_over_;
    }
    void yield() { swapcontext(&inside_, &outside_); }
    bool is_over() const { return is_over_; }

    static void enter(unsigned low, unsigned high) {
        auto* const self = reinterpret_cast<Coroutine*>(std::uintptr_t{low} | std::uintptr_t{high} << 32);
        self->body_(*self);
        self->is_over_ = true;
    }

private:
    std::function<void(Coroutine&)> body_;
    void* stack_;
    bool is_over_ = false;
    ucontext_t inside_{}, outside_{};
};

}  // namespace dynfunc::test
