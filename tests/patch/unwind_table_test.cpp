// SPDX-License-Identifier: MIT
// Functions as the unwind table gives them, against what the unwinder of the compiler finds.
#include "unwind_table.hpp"

#include <dlfcn.h>
#include <gtest/gtest.h>

#include <array>
#include <cstring>

// Of libgcc.
struct dwarf_eh_bases {
    void *tbase, *dbase, *func;
};
extern "C" const void* _Unwind_Find_FDE(void* pc, dwarf_eh_bases* bases);

namespace dynfunc {
namespace {

struct Object {
    Address header;
    AddressRange mapped;
};

Object object_of(const void* inside) {
    dl_find_object found;
    if (_dl_find_object(const_cast<void*>(inside), &found) != 0) return {};
    return {Address::of(found.dlfo_eh_frame), {Address::of(found.dlfo_map_start), Address::of(found.dlfo_map_end)}};
}

// Every 16th address from the function on.
void expect_agreement(const void* function) {
    const Object object = object_of(function);
    const auto table = UnwindTable::of(object.header, object.mapped);
    ASSERT_TRUE(table);
    std::size_t functions = 0;
    for (Address at = Address::of(function), last{}; at < Address::of(function) + 200'000 && object.mapped.contains(at);
         at = at + 16) {
        dwarf_eh_bases bases{};
        const bool known = _Unwind_Find_FDE(at.as<void*>(), &bases) != nullptr;
        const AddressRange found = table->function_at(at);
        ASSERT_EQ(found.contains(at), known) << std::hex << at.value;
        if (!known) continue;
        EXPECT_EQ(found.begin, Address::of(bases.func));
        // The byte behind it belongs to another function, or to none.
        EXPECT_NE(table->function_at(found.end).begin, found.begin);
        functions += found.begin != last;
        last = found.begin;
    }
    EXPECT_GT(functions, 10u);
}

TEST(UnwindTable, AgreesWithTheUnwinderAboutThisProgram) { expect_agreement(reinterpret_cast<const void*>(&object_of)); }

TEST(UnwindTable, AgreesWithTheUnwinderAboutAnotherObject) { expect_agreement(dlsym(RTLD_DEFAULT, "qsort")); }

TEST(UnwindTable, KnowsNoFunctionOutsideTheObject) {
    const Object object = object_of(reinterpret_cast<const void*>(&object_of));
    const auto table = UnwindTable::of(object.header, object.mapped);
    ASSERT_TRUE(table);
    for (const Address at : {Address{}, object.mapped.begin, object.mapped.end, Address{~std::uintptr_t{0}}})
        EXPECT_EQ(table->function_at(at).size(), 0u);
}

// A header with one entry: the function at `function`, described at `description`, both bytes from the header.
struct Table {
    std::array<std::uint8_t, 256> bytes{};
    Table() {
        put<std::uint8_t>(0, {1, 0xff, 0x03, 0x3b});  // version, no pointer, 4-byte count, sorted table of 4-byte distances
        put<std::uint32_t>(4, {1});                   // one entry
        put<std::int32_t>(8, {200, 100});             // function, description
        put<std::uint32_t>(40, {16, 0});              // common: its size, id
        put<std::uint8_t>(48, {1, 'z', 'R', 0, 1, 0x78, 16, 1, 0x1b});
        put<std::uint32_t>(100, {16, 104 - 40});  // description: its size, how far back its common is
        put<std::int32_t>(108, {200 - 108, 24});  // function, size
    }
    template <class T>
    void put(std::size_t at, std::initializer_list<T> values) {
        for (const T value : values) {
            std::memcpy(&bytes[at], &value, sizeof value);
            at += sizeof value;
        }
    }
    Address at(std::ptrdiff_t offset) const { return Address::of(bytes.data()) + offset; }
    std::size_t size_of_function() const {
        const auto table = UnwindTable::of(at(0), {at(0), at(256)});
        return table ? table->function_at(at(210)).size() : 9999;
    }
};

TEST(UnwindTable, ReadsAFunctionsEnd) {
    const Table table;
    EXPECT_EQ(table.size_of_function(), 24u);
    const auto read = UnwindTable::of(table.at(0), {table.at(0), table.at(256)});
    EXPECT_EQ(read->function_at(table.at(199)).size(), 0u);
    EXPECT_EQ(read->function_at(table.at(223)).begin, table.at(200));
    EXPECT_EQ(read->function_at(table.at(224)).size(), 0u);
}

TEST(UnwindTable, RefusesWhatItDoesNotKnow) {
    const auto changed = [](std::size_t at, std::uint8_t value) {
        Table table;
        table.bytes[at] = value;
        return table.size_of_function();
    };
    EXPECT_EQ(changed(0, 2), 9999u) << "version";
    EXPECT_EQ(changed(2, 0xff), 9999u) << "no count";
    EXPECT_EQ(changed(3, 0x0b), 9999u) << "absolute addresses";
    EXPECT_EQ(changed(4, 0), 9999u) << "no entry";
    EXPECT_EQ(changed(7, 0x10), 9999u) << "more entries than the object has bytes";
    EXPECT_EQ(changed(48, 9), 0u) << "version of the common entry";
    EXPECT_EQ(changed(49, 'e'), 0u) << "an augmentation of old";
    EXPECT_EQ(changed(50, 'Q'), 0u) << "an unknown augmentation";
    EXPECT_EQ(changed(115, 0x7f), 0u) << "a function larger than the object";
    Table far;
    far.put<std::int32_t>(12, {1 << 20});
    EXPECT_EQ(far.size_of_function(), 0u) << "a description outside the object";
}

}  // namespace
}  // namespace dynfunc
