// SPDX-License-Identifier: MIT
#include <dynfunc/inspect.hpp>

#include <dlfcn.h>
#include <limits.h>
#include <link.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <string_view>

#include "elf_file.hpp"
#include "find_call_sites.hpp"
#include "function_symbols.hpp"
#include "module_code.hpp"
#include "site_forms.hpp"

namespace dynfunc {
namespace {

constexpr char executable[] = "/proc/self/exe";

// Where the bytes are that are judged, and what they are called.
struct Binary {
    std::span<const AddressRange> text;
    const UnwindTable& table;
    Address base;               // added to what symbols say
    std::ptrdiff_t shown_less;  // of addresses
    const std::vector<FunctionSymbol>& symbols;
};

struct Judgement {
    SiteClass site;
    std::optional<Error> why_not_better;
};

// What a breakpoint asks of the first instruction; `why`: no jump can stand there.
Judgement judge_first_instruction(std::span<const std::byte> code, Address at, const Error& why) noexcept {
    const auto first = arch::read_displaced(code, at, 1);
    if (!first) return {SiteClass::refused, first.error()};
    std::array<std::byte, arch::Relocated::most_bytes> room;
    if (const auto copy = arch::relocate(*first, at, room); !copy) return {SiteClass::refused, copy.error()};
    return {SiteClass::breakpoint, why};
}

Judgement judge(const arch::JumpSite& site) noexcept {
    std::optional<Error> why;
    for (const auto& [form, site_class] : site_forms) {
        const auto plan = arch::plan_jump(form, site);
        if (plan) return {site_class, why};
        why = plan.error();
    }
    return judge_first_instruction(site.code, site.at, *why);
}

class Judge {
public:
    Judge(const Binary& binary, Inspection& into)
        : binary_(binary), into_(into), code_(ModuleCode::of_image(binary.text, binary.table)) {}

    // Functions and symbols, both ascending, as one list.
    void run() {
        auto function = code_.functions().begin();
        const auto end = code_.functions().end();
        for (const FunctionSymbol& symbol : binary_.symbols) {
            const Address at = binary_.base + static_cast<std::ptrdiff_t>(symbol.begin);
            const AddressRange text = text_around(at);
            if (text.size() == 0) continue;
            for (; function != end && function->begin < at; ++function) add(*function, {});
            if (function != end && function->begin == at)
                add(*function++, symbol.name);
            else
                add_symbol(symbol, {at, function != end ? std::min(function->begin, text.end) : text.end});
        }
        for (; function != end; ++function) add(*function, {});
    }

private:
    AddressRange text_around(Address at) const noexcept {
        const auto found = std::ranges::find_if(binary_.text, [at](AddressRange text) { return text.contains(at); });
        return found == binary_.text.end() ? AddressRange{} : *found;
    }

    void add(AddressRange function, const std::string& name) {
        add(function.begin, function.size(), name, judge(code_.site(function.begin)));
    }

    // Of a symbol where no function begins: another entry into one, or code without unwind information, of which nobody
    // knows where branches lead.
    void add_symbol(const FunctionSymbol& symbol, AddressRange up_to_next) {
        const arch::JumpSite site = code_.site(up_to_next.begin);
        if (!site.code.empty()) {
            add(site.at, symbol.size != 0 ? symbol.size : site.code.size(), symbol.name, judge(site));
            return;
        }
        const std::size_t size = symbol.size != 0 ? std::min<std::size_t>(symbol.size, up_to_next.size()) : up_to_next.size();
        add(site.at, symbol.size, symbol.name,
            judge_first_instruction(std::span(site.at.as<const std::byte*>(), size), site.at,
                                    Error{.code = Errc::no_unwind_entry, .address = site.at}));
    }

    void add(Address begin, std::size_t size, const std::string& name, Judgement judgement) {
        if (judgement.why_not_better) judgement.why_not_better->address = shown(judgement.why_not_better->address);
        into_.functions.push_back({shown(begin), size, name, judgement.site, judgement.why_not_better});
        ++into_.totals[static_cast<std::size_t>(judgement.site)];
    }

    Address shown(Address at) const noexcept { return at - binary_.shown_less; }

    const Binary& binary_;
    Inspection& into_;
    ModuleCode code_;
};

void judge_all(const Binary& binary, Inspection& into) { Judge(binary, into).run(); }

std::unexpected<Error> refuse(Errc code, Address at = {}) noexcept {
    return std::unexpected(Error{.code = code, .address = at});
}

// The names in the file of a loaded object. Its functions lie where its unwind table says, and so do the file's if their tables
// are the same.
Result<std::vector<FunctionSymbol>> symbols_of_loaded(const std::string& path, const UnwindTable& table, Address base) {
    const auto file = ElfFile::open(path);
    if (!file) return std::unexpected(file.error());
    const AddressRange loaded = table.bytes();
    const auto* header = file->unwind_header();
    if (header == nullptr || base + static_cast<std::ptrdiff_t>(header->p_vaddr) != loaded.begin ||
        header->p_filesz < loaded.size())
        return refuse(Errc::file_changed);
    std::vector<std::byte> bytes(loaded.size());
    if (!file->read(header->p_offset, bytes) || std::memcmp(bytes.data(), loaded.begin.as<const void*>(), bytes.size()) != 0)
        return refuse(Errc::file_changed);
    return function_symbols(file->descriptor());
}

std::string path_of_executable() {
    std::string path(PATH_MAX, '\0');
    const ssize_t length = ::readlink(executable, path.data(), path.size());
    path.resize(length > 0 ? static_cast<std::size_t>(length) : 0);
    return path;
}

// Asked of every loaded object in turn, by dl_iterate_phdr().
struct Wanted {
    std::string_view name, executable;
    struct stat file;
    bool is_file;  // `file` is known
    bool found;
    Address text;

    bool is(const char* loaded_as) const noexcept {
        const std::string_view path = *loaded_as != '\0' ? std::string_view(loaded_as) : executable;
        if (name == path) return true;
        if (name.find('/') == name.npos) return name == path.substr(path.rfind('/') + 1);
        struct stat loaded;
        return is_file && ::stat(*loaded_as != '\0' ? loaded_as : dynfunc::executable, &loaded) == 0 &&
               loaded.st_dev == file.st_dev && loaded.st_ino == file.st_ino;
    }
};

int look_at(dl_phdr_info* object, std::size_t, void* context) {
    auto& wanted = *static_cast<Wanted*>(context);
    if (!wanted.is(object->dlpi_name)) return 0;
    wanted.found = true;
    const std::span segments(object->dlpi_phdr, object->dlpi_phnum);
    const auto text = std::ranges::find_if(
        segments, [](const auto& segment) { return segment.p_type == PT_LOAD && (segment.p_flags & PF_X) != 0; });
    if (text != segments.end()) wanted.text = Address{object->dlpi_addr} + static_cast<std::ptrdiff_t>(text->p_vaddr);
    return 1;
}

}  // namespace

Result<Inspection> inspect(Address inside) {
    dl_find_object object;
    const char* reason = nullptr;
    const auto text = ObjectText::of(inside.as<const void*>(), reason);
    if (!text || ::_dl_find_object(inside.as<void*>(), &object) != 0) return refuse(Errc::no_unwind_table, inside);
    const Address base{object.dlfo_link_map->l_addr};
    Inspection found;
    found.path = object.dlfo_link_map->l_name;
    found.base = base;
    const auto symbols =
        symbols_of_loaded(found.path.empty() ? std::string(executable) : found.path, text->unwind_table(), base);
    if (found.path.empty()) found.path = path_of_executable();
    if (!symbols) found.no_names = symbols.error();
    judge_all({text->segments(), text->unwind_table(), base, 0, symbols ? *symbols : std::vector<FunctionSymbol>{}}, found);
    return found;
}

Result<Inspection> inspect_module(const std::string& name) {
    const std::string path = path_of_executable();
    Wanted wanted{.name = name, .executable = path, .file = {}, .is_file = false, .found = false, .text = {}};
    wanted.is_file = ::stat(name.c_str(), &wanted.file) == 0;
    dl_iterate_phdr(&look_at, &wanted);
    if (!wanted.found) return refuse(Errc::not_loaded);
    return inspect(wanted.text);
}

Result<Inspection> inspect_file(const std::string& path) {
    const auto file = ElfFile::open(path);
    if (!file) return std::unexpected(file.error());
    const auto image = ElfImage::map(*file);
    if (!image) return std::unexpected(image.error());
    const auto* header = file->unwind_header();
    if (header == nullptr) return refuse(Errc::no_unwind_table);
    const Address at = image->base() + static_cast<std::ptrdiff_t>(header->p_vaddr);
    const auto table = UnwindTable::of(at, image->mapped());
    // What lies behind the header's segment is no part of the table, nor is a hole, however large.
    if (!table || table->bytes().size() > header->p_filesz) return refuse(Errc::no_unwind_table, Address{header->p_vaddr});
    Inspection found;
    found.path = path;
    const auto symbols = function_symbols(file->descriptor());
    judge_all({image->text(), *table, image->base(), static_cast<std::ptrdiff_t>(image->base().value), symbols}, found);
    return found;
}

}  // namespace dynfunc
