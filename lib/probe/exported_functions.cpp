// SPDX-License-Identifier: MIT
// Source: System V ABI, "Dynamic Linking"; the number of symbols is only in their hash tables, of which objects have one kind
// or the other (GNU's: the last chain's end).
#include "exported_functions.hpp"

#include <elf.h>
#include <fnmatch.h>

#include <algorithm>
#include <cstdint>
#include <tuple>

#include "object_pattern.hpp"

namespace dynfunc {
namespace {

struct GnuHash {
    std::uint32_t buckets, first_symbol, bloom_words, shift;
};

std::size_t symbols_of(const GnuHash& hash) noexcept {
    const auto* const bloom = reinterpret_cast<const ElfW(Addr)*>(&hash + 1);
    const auto* const buckets = reinterpret_cast<const std::uint32_t*>(bloom + hash.bloom_words);
    const std::uint32_t* const chains = buckets + hash.buckets;
    const std::uint32_t last = hash.buckets == 0 ? 0 : *std::max_element(buckets, buckets + hash.buckets);
    if (last < hash.first_symbol) return hash.first_symbol;
    std::size_t symbol = last;
    while ((chains[symbol - hash.first_symbol] & 1) == 0) ++symbol;
    return symbol + 1;
}

class Tables {
public:
    explicit Tables(const LoadedObject& object) noexcept {
        const GnuHash* gnu_hash = nullptr;
        const std::uint32_t* hash = nullptr;
        for (const ElfW(Dyn)* entry = object.dynamic; entry->d_tag != DT_NULL; ++entry) {
            // The dynamic linker adds the base in place, but not where the table is read-only.
            const std::uintptr_t value = entry->d_un.d_ptr;
            const Address at = value < object.base.value ? object.base + static_cast<std::ptrdiff_t>(value) : Address{value};
            if (entry->d_tag == DT_SYMTAB) symbols_ = at.as<const ElfW(Sym)*>();
            if (entry->d_tag == DT_STRTAB) names_ = at.as<const char*>();
            if (entry->d_tag == DT_STRSZ) name_bytes_ = value;
            if (entry->d_tag == DT_GNU_HASH) gnu_hash = at.as<const GnuHash*>();
            if (entry->d_tag == DT_HASH) hash = at.as<const std::uint32_t*>();
        }
        if (symbols_ == nullptr || names_ == nullptr) return;
        count_ = gnu_hash != nullptr ? symbols_of(*gnu_hash) : hash != nullptr ? hash[1] : 0;
    }

    template <class Visit>
    void for_each_function(Visit&& visit) const {
        for (std::size_t i = 1; i < count_; ++i) {
            const ElfW(Sym)& symbol = symbols_[i];
            const bool is_function = (symbol.st_info & 0xf) == STT_FUNC && symbol.st_shndx != SHN_UNDEF && symbol.st_value != 0;
            if (is_function && symbol.st_name < name_bytes_) visit(names_ + symbol.st_name, symbol.st_value);
        }
    }

private:
    const ElfW(Sym) * symbols_ = nullptr;
    const char* names_ = nullptr;
    std::size_t name_bytes_ = 0, count_ = 0;
};

}  // namespace

bool LoadedObject::matches(const std::string& pattern) const noexcept { return matches_object(pattern, path); }

std::vector<ExportedFunction> exported_functions(const LoadedObject& object, const std::string& pattern) {
    std::vector<ExportedFunction> found;
    Tables(object).for_each_function([&](const char* name, std::uintptr_t offset) {
        if (fnmatch(pattern.c_str(), name, 0) == 0) found.push_back({name, object.base + static_cast<std::ptrdiff_t>(offset)});
    });
    std::ranges::sort(found, {}, [](const ExportedFunction& each) { return std::tie(each.at, each.name); });
    const auto [first, last] = std::ranges::unique(found, {}, &ExportedFunction::at);
    found.erase(first, last);
    return found;
}

}  // namespace dynfunc
