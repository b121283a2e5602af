// SPDX-License-Identifier: MIT
// The functions that the symbol tables of an ELF file name, read by libelf; of a stripped one those of its separate debug file.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace dynfunc {

struct FunctionSymbol {
    std::uint64_t begin, size;  // as linked; size 0: not known
    std::string name;           // demangled
};

// One for each address, ascending: of several names there one that is exported, with few leading underscores, short. Empty:
// the file has none, or none that can be read. Of a damaged file it may be anything.
// Throws: std::bad_alloc.
std::vector<FunctionSymbol> function_symbols(int file);

}  // namespace dynfunc
