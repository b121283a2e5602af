// SPDX-License-Identifier: MIT
#include "function_numbers.hpp"

#include <cstdlib>
#include <new>

namespace dynfunc::trace {

constinit FunctionNumbers::Table* FunctionNumbers::table_ = nullptr;

void FunctionNumbers::Table::put(std::uintptr_t at, std::uint32_t number) noexcept {
    std::size_t i = hash(at, size);
    while (entries()[i].at != 0 && entries()[i].at != at) i = (i + 1) & (size - 1);
    __atomic_store_n(&entries()[i].number, number, __ATOMIC_RELAXED);
    if (entries()[i].at == at) return;
    __atomic_store_n(&entries()[i].at, at, __ATOMIC_RELEASE);
    ++used;
}

void FunctionNumbers::set(std::uintptr_t at, std::uint32_t number) {
    constexpr std::size_t smallest = 1024;
    if (table_ == nullptr || 2 * table_->used >= table_->size) {
        const std::size_t size = table_ == nullptr ? smallest : 4 * table_->size;
        void* const memory = std::calloc(1, sizeof(Table) + size * sizeof(Table::Entry));
        if (memory == nullptr) throw std::bad_alloc();
        auto* const larger = static_cast<Table*>(memory);
        larger->size = size;
        for (std::size_t i = 0; table_ != nullptr && i < table_->size; ++i)
            if (table_->entries()[i].at != 0) larger->put(table_->entries()[i].at, table_->entries()[i].number);
        __atomic_store_n(&table_, larger, __ATOMIC_RELEASE);
    }
    table_->put(at, number);
}

}  // namespace dynfunc::trace
