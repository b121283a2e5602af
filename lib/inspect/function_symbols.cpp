// SPDX-License-Identifier: MIT
#include "function_symbols.hpp"

#include <cxxabi.h>
#include <fcntl.h>
#include <gelf.h>
#include <libelf.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string_view>
#include <tuple>
#include <utility>

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

using OpenElf = std::unique_ptr<Elf, decltype(&elf_end)>;

// Reads by pread(), not through a mapping.
OpenElf open_elf(int file) { return {elf_begin(file, ELF_C_READ, nullptr), &elf_end}; }

template <class Visit>
void for_each_section(Elf* elf, Visit&& visit) {
    for (Elf_Scn* section = nullptr; (section = elf_nextscn(elf, section)) != nullptr;) {
        GElf_Shdr header;
        if (gelf_getshdr(section, &header) != nullptr) visit(section, header);
    }
}

// The names are in the memory of `elf`. Whether there is a .symtab, which names all functions.
bool read_tables(Elf* elf, std::vector<Candidate>& candidates) {
    bool has_all = false;
    for_each_section(elf, [&](Elf_Scn* section, const GElf_Shdr& header) {
        if (header.sh_type == SHT_SYMTAB || header.sh_type == SHT_DYNSYM) read_table(elf, section, header.sh_link, candidates);
        has_all = has_all || (header.sh_type == SHT_SYMTAB && header.sh_size != 0);
    });
    return has_all;
}

// What names a build, in hexadecimal digits; empty: nothing does.
std::string build_id(Elf* elf) {
    std::string id;
    for_each_section(elf, [&](Elf_Scn* section, const GElf_Shdr& header) {
        Elf_Data* const data = header.sh_type == SHT_NOTE && id.empty() ? elf_getdata(section, nullptr) : nullptr;
        if (data == nullptr || data->d_buf == nullptr) return;
        const auto* const bytes = static_cast<const unsigned char*>(data->d_buf);
        GElf_Nhdr note;
        std::size_t name = 0, text = 0;
        for (std::size_t at = 0; id.empty() && (at = gelf_getnote(data, at, &note, &name, &text)) != 0;) {
            constexpr std::string_view gnu("GNU", 4);
            if (note.n_type != NT_GNU_BUILD_ID || note.n_namesz != gnu.size() ||
                gnu != std::string_view(reinterpret_cast<const char*>(bytes) + name, gnu.size()))
                continue;
            for (std::size_t i = text; i < text + note.n_descsz; ++i)
                for (const unsigned digit : {bytes[i] / 16u, bytes[i] % 16u}) id += "0123456789abcdef"[digit];
        }
    });
    return id;
}

// The name of the file in which is what was stripped from this one, if it says so.
std::string debug_link(Elf* elf) {
    std::size_t names = 0;
    std::string link;
    if (elf_getshdrstrndx(elf, &names) != 0) return link;
    for_each_section(elf, [&](Elf_Scn* section, const GElf_Shdr& header) {
        const char* const name = elf_strptr(elf, names, header.sh_name);
        if (name == nullptr || std::string_view(name) != ".gnu_debuglink") return;
        Elf_Data* const data = elf_getdata(section, nullptr);
        if (data == nullptr || data->d_buf == nullptr) return;
        const auto* const text = static_cast<const char*>(data->d_buf);
        link.assign(text, strnlen(text, data->d_size));
    });
    return link.find('/') == link.npos ? link : std::string();
}

// Where debuggers look (GDB's manual, "Debugging Information in Separate Files").
std::vector<std::string> debug_files(const std::string& id, const std::string& link, int file) {
    const std::string everywhere = "/usr/lib/debug/";
    std::vector<std::string> paths;
    if (id.size() > 2) paths.push_back(everywhere + ".build-id/" + id.substr(0, 2) + "/" + id.substr(2) + ".debug");
    char name[32], path[PATH_MAX];
    std::snprintf(name, sizeof name, "/proc/self/fd/%d", file);
    const ssize_t size = readlink(name, path, sizeof path);
    if (link.empty() || size <= 0 || path[0] != '/') return paths;
    std::string folder(path, static_cast<std::size_t>(size));
    folder.erase(folder.rfind('/') + 1);
    for (const std::string& each : {folder, folder + ".debug/", everywhere + folder.substr(1)}) paths.push_back(each + link);
    return paths;
}

// The file that has what was stripped from another.
class DebugFile {
public:
    // Of the same build: only if both have the same build ID.
    void find(Elf* stripped, int file) {
        const std::string id = build_id(stripped);
        if (id.empty()) return;
        for (const std::string& path : debug_files(id, debug_link(stripped), file)) {
            close();
            file_ = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
            if (file_ < 0) continue;
            elf_ = open_elf(file_);
            if (elf_ != nullptr && build_id(elf_.get()) == id) return;
        }
        close();
    }
    Elf* elf() const noexcept { return elf_.get(); }  // null: there is none

    DebugFile() noexcept = default;
    DebugFile(const DebugFile&) = delete;
    ~DebugFile() { close(); }

private:
    void close() noexcept {
        elf_.reset();
        if (const int file = std::exchange(file_, -1); file >= 0) ::close(file);
    }

    int file_ = -1;
    OpenElf elf_{nullptr, &elf_end};
};

}  // namespace

std::vector<FunctionSymbol> function_symbols(int file) {
    std::vector<FunctionSymbol> symbols;
    if (elf_version(EV_CURRENT) == EV_NONE) return symbols;
    const OpenElf elf = open_elf(file);
    if (elf == nullptr) return symbols;

    std::vector<Candidate> candidates;
    DebugFile debug;
    if (!read_tables(elf.get(), candidates)) debug.find(elf.get(), file);
    if (debug.elf() != nullptr) read_tables(debug.elf(), candidates);
    std::ranges::sort(candidates, {}, &Candidate::order);
    for (const Candidate& candidate : candidates) {
        if (symbols.empty() || symbols.back().begin != candidate.begin)
            symbols.push_back({candidate.begin, candidate.size, demangled(candidate.name)});
        symbols.back().size = std::max(symbols.back().size, candidate.size);
    }
    return symbols;
}

}  // namespace dynfunc
