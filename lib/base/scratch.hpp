// SPDX-License-Identifier: MIT
// A growing array in mappings of its own. Where the library works under its lock it must not call malloc: the caller may stand
// in an allocator, and in the child of a raw clone malloc's own lock may be held for ever.
#pragma once

#include <sys/mman.h>

#include <array>
#include <cstddef>
#include <cstring>
#include <span>
#include <type_traits>

namespace dynfunc {

template <class T>
class Scratch {
    static_assert(std::is_trivially_copyable_v<T> && std::is_trivially_destructible_v<T>);

public:
    // False: no memory; the array is as it was.
    [[nodiscard]] bool push_back(const T& value) noexcept {
        if (size_ == capacity_ && !grow()) return false;
        data_[size_++] = value;
        return true;
    }
    // So many push_back() from empty will not need memory. False: no memory; the array is as it was.
    [[nodiscard]] bool reserve(std::size_t count) noexcept {
        while (capacity_ < count)
            if (!grow()) return false;
        return true;
    }
    void clear() noexcept { size_ = 0; }
    void truncate(std::size_t size) noexcept { size_ = size; }
    // Gives the memory back.
    void release() noexcept {
        if (data_ != nullptr) munmap(data_, mapped_);
        *this = Scratch{};
    }
    // Leaves the memory alone, which may be half-way through a change, and begins anew.
    void abandon() noexcept { *this = Scratch{}; }

    T* begin() noexcept { return data_; }
    T* end() noexcept { return data_ + size_; }
    const T* begin() const noexcept { return data_; }
    const T* end() const noexcept { return data_ + size_; }
    std::size_t size() const noexcept { return size_; }
    bool empty() const noexcept { return size_ == 0; }
    operator std::span<T>() noexcept { return {data_, size_}; }
    operator std::span<const T>() const noexcept { return {data_, size_}; }

private:
    bool grow() noexcept {
        constexpr std::size_t first_bytes = 4096;
        const std::size_t bytes = capacity_ == 0 ? first_bytes : 2 * mapped_;
        void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) return false;
        if (size_ != 0) std::memcpy(memory, data_, size_ * sizeof(T));
        if (data_ != nullptr) munmap(data_, mapped_);
        data_ = static_cast<T*>(memory);
        mapped_ = bytes;
        capacity_ = bytes / sizeof(T);
        return true;
    }

    T* data_ = nullptr;
    std::size_t size_ = 0, capacity_ = 0, mapped_ = 0;
};

// The same of which the first `few` elements need no memory at all.
template <class T, std::size_t few>
class SmallScratch {
public:
    SmallScratch() noexcept = default;
    SmallScratch(const SmallScratch&) = delete;
    ~SmallScratch() { many_.release(); }

    // False: no memory; the array is as it was.
    [[nodiscard]] bool push_back(const T& value) noexcept {
        if (many_.empty() && count_ < few) {
            few_[count_++] = value;
            return true;
        }
        while (many_.size() < count_)
            if (!many_.push_back(few_[many_.size()])) {
                many_.clear();
                return false;
            }
        return many_.push_back(value);
    }
    void clear() noexcept {
        many_.clear();
        count_ = 0;
    }
    bool empty() const noexcept { return count_ == 0; }
    operator std::span<const T>() const noexcept {
        return many_.empty() ? std::span<const T>(few_.data(), count_) : std::span<const T>(many_.begin(), many_.size());
    }

private:
    std::array<T, few> few_;
    std::size_t count_ = 0;
    Scratch<T> many_;  // all of them, once there are more than a few
};

}  // namespace dynfunc
