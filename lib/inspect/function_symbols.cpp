// SPDX-License-Identifier: MIT
#include "function_symbols.hpp"

#include <cxxabi.h>
#include <gelf.h>
#include <libelf.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <string_view>
#include <tuple>

namespace dynfunc {
namespace {

// A name in the memory of the open file.
struct Candidate {
    std::uint64_t begin, size;
    std::string_view name;  // mangled, without its version
    bool is_local;

    // Names of one address: the one to be shown first.
    auto order() const noexcept {
        return std::tuple(begin, is_local, std::min(name.find_first_not_of('_'), name.size()), name.size(), name);
    }
};

void read_table(Elf* elf, Elf_Scn* section, std::size_t names, std::vector<Candidate>& candidates) {
    Elf_Data* data = nullptr;
    while ((data = elf_getdata(section, data)) != nullptr) {
        if (data->d_type != ELF_T_SYM || data->d_buf == nullptr) continue;
        GElf_Sym symbol;
        for (int i = 0; gelf_getsym(data, i, &symbol) != nullptr; ++i) {
            const auto type = GELF_ST_TYPE(symbol.st_info);
            if (type != STT_FUNC && type != STT_GNU_IFUNC) continue;
            if (symbol.st_shndx == SHN_UNDEF || symbol.st_shndx == SHN_ABS) continue;
            const char* name = elf_strptr(elf, names, symbol.st_name);
            if (name == nullptr || *name == '\0') continue;
            const std::string_view whole(name);
            candidates.push_back(
                {symbol.st_value, symbol.st_size, whole.substr(0, whole.find('@')), GELF_ST_BIND(symbol.st_info) == STB_LOCAL});
        }
    }
}

std::string demangled(std::string_view name) {
    std::string mangled(name);
    if (!name.starts_with("_Z")) return mangled;
    int status = 0;
    const std::unique_ptr<char, decltype(&std::free)> text(abi::__cxa_demangle(mangled.c_str(), nullptr, nullptr, &status),
                                                           &std::free);
    return text != nullptr && status == 0 ? std::string(text.get()) : mangled;
}

}  // namespace

std::vector<FunctionSymbol> function_symbols(int file) {
    std::vector<FunctionSymbol> symbols;
    if (elf_version(EV_CURRENT) == EV_NONE) return symbols;
    // Reads by pread(), not through a mapping.
    const std::unique_ptr<Elf, decltype(&elf_end)> elf(elf_begin(file, ELF_C_READ, nullptr), &elf_end);
    if (elf == nullptr) return symbols;

    std::vector<Candidate> candidates;
    for (Elf_Scn* section = nullptr; (section = elf_nextscn(elf.get(), section)) != nullptr;) {
        GElf_Shdr header;
        if (gelf_getshdr(section, &header) == nullptr) continue;
        if (header.sh_type == SHT_SYMTAB || header.sh_type == SHT_DYNSYM)
            read_table(elf.get(), section, header.sh_link, candidates);
    }
    std::ranges::sort(candidates, {}, &Candidate::order);
    for (const Candidate& candidate : candidates) {
        if (symbols.empty() || symbols.back().begin != candidate.begin)
            symbols.push_back({candidate.begin, candidate.size, demangled(candidate.name)});
        symbols.back().size = std::max(symbols.back().size, candidate.size);
    }
    return symbols;
}

}  // namespace dynfunc
