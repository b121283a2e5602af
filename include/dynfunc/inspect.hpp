// SPDX-License-Identifier: MIT
// What a probe at the entry of each function of a binary would be, before anything is touched: a library of its own,
// dynfunc-inspect (pkg-config), dynfunc::inspect (CMake).
//
//     auto found = dynfunc::inspect_file("/usr/bin/redis-server");
//     if (!found) return std::puts(found.error().message().c_str());
//     std::printf("%zu functions take only a breakpoint\n", found->count(dynfunc::SiteClass::breakpoint));
//     for (const dynfunc::FunctionVerdict& f : found->functions)
//         if (f.site == dynfunc::SiteClass::refused) std::puts((f.name + ": " + f.why_not_better->message()).c_str());
//
// Which functions? Those of the unwind table, and those that a symbol names: also parts that the compiler has moved away
// ("f.cold"), also other entries into a function. Names come from .symtab and .dynsym of the file; of a stripped binary also
// from its separate debug file, where debuggers look for it (/usr/lib/debug/.build-id, or what .gnu_debuglink names), if the build
// IDs are the same.
//
// What if the file is damaged, or made to do harm? Nothing in it is executed or believed: what is read lies in the file, and
// the worst is an error, a wrong verdict, or a name that takes long to be demangled. But the file must not be made shorter
// meanwhile: it is mapped, and the kernel would send SIGBUS.
//
// The verdict is about bytes: that memory in reach of a jump is free is found when a probe is made. Only where the build can
// read and move instructions (arm64; x86-64 with its decoder); elsewhere this library is not built.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <dynfunc/address.hpp>
#include <dynfunc/detail/export.hpp>
#include <dynfunc/result.hpp>
#include <dynfunc/site_class.hpp>

namespace dynfunc {

struct FunctionVerdict {
    Address begin;     // of a file: as linked
    std::size_t size;  // 0: not known
    std::string name;  // demangled; of several one that is exported, with few leading underscores; empty: it has none
    SiteClass site;
    std::optional<Error> why_not_better;  // the next better class; its address is that of the instruction in the way
};

struct Inspection {
    std::string path;                                // of the file; the executable's too
    Address base{};                                  // what was added to the addresses in the file; null of a file
    std::vector<FunctionVerdict> functions;          // by address
    std::array<std::size_t, site_classes> totals{};  // by class
    std::optional<Error> no_names;  // why a loaded object's file gave no names; then `functions` are those of the unwind table

    std::size_t count(SiteClass site) const noexcept { return totals[static_cast<std::size_t>(site)]; }
    // Of all functions; 0 if there are none.
    double percent(SiteClass site) const noexcept {
        return functions.empty() ? 0.0 : 100.0 * static_cast<double>(count(site)) / static_cast<double>(functions.size());
    }
};

// The executable or shared object around `inside`, as it stands in memory now. Its file gives the names, if it is still the one
// that was loaded. The object stays loaded meanwhile; code that is patched meanwhile may be read half.
// Threads:  any.  Blocks: yes, reads a file; some 100 ns for each instruction. Not from signal handlers.
// Errors:   no_unwind_table (address = inside): it is in no object, or in one without a sorted table.
// Throws:   std::bad_alloc.
DYNFUNC_EXPORT Result<Inspection> inspect(Address inside);

// The same of the first loaded one of this file name ("libc.so.6") or, if `name` has a slash, of this file.
// Blocks:   also on the dynamic linker's lock.
// Errors:   not_loaded; no_unwind_table (address = its text).
DYNFUNC_EXPORT Result<Inspection> inspect_module(const std::string& name);

// The same of a file that need not be loaded: it is mapped, read-only, as it would be loaded, and left again.
// Errors:   file_not_readable, out_of_memory (both with errno); not_elf, other_machine, elf_truncated, elf_segments (address =
//           of the segment, as linked), no_unwind_table (address = of the table, as linked).
DYNFUNC_EXPORT Result<Inspection> inspect_file(const std::string& path);

// One JSON object:
//     {"path": "/lib/libz.so.1", "base": "0x0", "functions": 2,
//      "classes": {"whole": {"functions": 1, "percent": 50.0}, "guarded": …, "punned": …, "breakpoint": …, "refused": …},
//      "verdicts": [{"begin": "0x2010", "size": 31, "name": "adler32", "site": "whole"},
//                   {"begin": "0x2030", "size": 1, "name": "", "site": "breakpoint",
//                    "why_not_better": {"reason": "there is no room for a jump", "address": "0x2030"}}]}
// What is no UTF-8 in names is replaced.  Throws: std::bad_alloc.
DYNFUNC_EXPORT std::string to_json(const Inspection& inspection);

}  // namespace dynfunc
