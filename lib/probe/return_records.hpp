// SPDX-License-Identifier: MIT
// The records of tracked calls, and finding those whose calls will never end.
#pragma once

#include <dynfunc/result.hpp>

#include <span>
#include <vector>

#include "return_call.hpp"

namespace dynfunc {

// Threads: the lock of return probes is held around every call but for those that say otherwise.
class ReturnRecords {
public:
    // So many, all free. The first ones come with the library; then areas of 4096 are added, for ever.
    // Errors: out_of_memory; of TextPoke.  Throws: std::bad_alloc.  Blocks: on the text lock, the unwinder's.
    Result<std::vector<ReturnRecord*>> take(std::size_t count);
    void give_back(std::span<ReturnRecord* const> records) noexcept;

    // Null: the address is no place of return.  Threads: any, also signal handlers.
    static ReturnRecord* record_of(std::uint64_t address) noexcept;
    // Frees those whose calls will never end; returns how many calls are still in flight.  Threads: any, also signal handlers.
    static std::size_t collect(std::span<ReturnRecord* const> records) noexcept;

private:
    Result<void> open() noexcept;
    Result<void> grow();

    bool is_open_ = false;
    std::vector<ReturnRecord*> free_;
    std::size_t all_ = 0;
};

// Gives an instance back whose record is the caller's alone.  Threads: any, also signal handlers.
void give_back_instance(ReturnRecord& record) noexcept;

}  // namespace dynfunc
