// SPDX-License-Identifier: MIT
// What the library does in this process, and why: reads everything, changes nothing.
//
//     for (const dynfunc::FunctionInfo& f : dynfunc::functions())
//         std::printf("%s %s: %s\n", f.signature.c_str(), f.name.c_str(), dynfunc::to_string(f.form));
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <dynfunc/address.hpp>
#include <dynfunc/capabilities.hpp>
#include <dynfunc/detail/export.hpp>

namespace dynfunc {

// One trampoline of a function: there is one in each executable or shared object that calls it.
struct TrampolineInfo {
    Address code;
    Form form;
    const char* reason;  // why it is not patched, in words; empty if it is
};

// A call site: a direct branch to a trampoline of its own executable or shared object (call_sites.hpp).
struct CallSiteInfo {
    std::string callee;  // the function or tracepoint
    Address field;       // of the distance in the instruction
    bool patched;        // leads where the trampoline leads
    const char* reason;  // why not, in words; empty if it is
};

// Some of them, of one function or tracepoint.
struct CallSiteCounts {
    struct Left {
        const char* reason;
        std::size_t sites;
    };
    std::size_t found = 0;
    std::size_t patched = 0;
    std::vector<Left> left;  // those that call the trampoline, by reason
};

// A copy, taken at one moment; it stays valid when the shared object leaves.
struct FunctionInfo {
    std::string name;       // qualified: "codec::crc"
    std::string signature;  // as written at its definition
    std::string file;
    unsigned line;
    Address target;          // null if it was set to null
    Address default_target;  // null if it was declared so
    Form form;               // of its slowest trampoline; capabilities().form where it has none
    std::vector<TrampolineInfo> trampolines;
    CallSiteCounts call_sites;
};

// Every dynamic function of every loaded shared object, in no promised order.
// Threads:  any.  Blocks: yes, takes the library's text lock. Not from signal handlers. It allocates with that lock held, as
// the
//           three below: where the allocator itself is traced, its callbacks must not retarget, attach or detach.
// Throws:   std::bad_alloc.
DYNFUNC_EXPORT std::vector<FunctionInfo> functions();

// The function of this qualified name; of several (the same name in objects that hide their symbols) any one.
DYNFUNC_EXPORT std::optional<FunctionInfo> find_function(std::string_view name);

// Branch sites: instructions that are patched when their key changes.
struct SiteCounts {
    std::size_t sites;
    std::size_t patched;  // the others load their key and test it
    const char* reason;   // why those are not patched, in words; empty if there are none
};

struct StaticKeyInfo {
    std::string name;
    std::string file;
    unsigned line;
    bool enabled;
    std::uint64_t count;
    SiteCounts branches;
};

struct CallbackInfo {
    Address function;
    int priority;
    bool counted;
    std::uint64_t hits;  // 0 unless counted
};

// How an event gets from its site to the callbacks.
enum class Delivery : std::uint8_t {
    off,        // not at all: nobody listens
    direct,     // to the one function, without a section
    function,   // in a section, to the one function
    generated,  // in a section, through code that was generated for these callbacks
    iterator,   // in a section, by a walk over the list: this process cannot patch, or there was no room for code
};
DYNFUNC_EXPORT const char* to_string(Delivery) noexcept;

struct TracepointInfo {
    std::string name;
    std::string signature;  // as written at its definition
    std::string file;
    unsigned line;
    std::vector<CallbackInfo> callbacks;  // in the order in which they are called
    std::uint64_t hits;                   // of the callbacks that are counted
    std::uint64_t cut;                    // events that were not delivered because they were nested too deeply
    Delivery delivery;
    SiteCounts branches;
    CallSiteCounts call_sites;  // in the traced code and on the way to the callbacks
};

// Every static key, every tracepoint of every loaded shared object, in no promised order; `glob`: those whose qualified name
// matches, as fnmatch(3).
// Threads:  any.  Blocks: yes, takes the library's text lock. Not from signal handlers.
// Throws:   std::bad_alloc.
DYNFUNC_EXPORT std::vector<StaticKeyInfo> static_keys(std::string_view glob = "*");
DYNFUNC_EXPORT std::vector<TracepointInfo> tracepoints(std::string_view glob = "*");

// The one of this qualified name; of several any one.
DYNFUNC_EXPORT std::optional<StaticKeyInfo> find_static_key(std::string_view name);
DYNFUNC_EXPORT std::optional<TracepointInfo> find_tracepoint(std::string_view name);

// The call sites of every function and tracepoint whose qualified name matches, in no promised order; those that have been
// looked for (call_sites.hpp). Threads, blocks, throws: as above.
DYNFUNC_EXPORT std::vector<CallSiteInfo> call_sites(std::string_view glob = "*");

// An executable or shared object that calls dynamic functions, fires tracepoints or asks static keys.
struct ObjectInfo {
    std::string path;  // as the dynamic linker knows it; empty: the executable
    AddressRange mapped;
    std::size_t text_bytes;     // that were read to find call sites; 0: not yet
    std::size_t call_sites;     // that were found
    std::size_t no_call_sites;  // places that look like one and are not
    std::uint64_t nanoseconds;  // that took, so far
    const char* reason;         // why no call sites were looked for, in words; empty if they were
    std::size_t private_pages;  // pages of text that are no longer shared with other processes, because something in them was
                                // patched; but for pages of generated code
};

// Threads, blocks, throws: as above.
DYNFUNC_EXPORT std::vector<ObjectInfo> objects();

}  // namespace dynfunc
