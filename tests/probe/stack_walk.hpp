// SPDX-License-Identifier: MIT
// What those who look at the stack of this process find there.
#pragma once

#include <dlfcn.h>
#include <execinfo.h>
#include <unwind.h>
#include <dynfunc/address.hpp>

#include <algorithm>
#include <cstdio>
#include <span>
#include <string>

#include "surroundings.hpp"

namespace dynfunc::test {

struct Walk {
    static constexpr int most = 256;
    void* frames[most];
    int count = 0;
    int own = 2;  // the innermost frames: the walk itself, and where it was taken

    [[gnu::noinline]] void take_by_backtrace() {
        // A sanitizer stands in front of libc's.
        own = thread_sanitizer || address_sanitizer ? 3 : 2;
        count = backtrace(frames, most);
    }
    [[gnu::noinline]] void take_by_unwinder() {
        own = 2;
        count = 0;
        _Unwind_Backtrace(
            [](_Unwind_Context* context, void* data) {
                auto& walk = *static_cast<Walk*>(data);
                if (walk.count == most) return _URC_END_OF_STACK;
                walk.frames[walk.count++] = reinterpret_cast<void*>(_Unwind_GetIP(context));
                return _URC_NO_REASON;
            },
            this);
        asm volatile("" : : : "memory");  // no tail call: this function is a frame
    }

    // The frames that called where it was taken.
    static int callers(const Walk& outer) { return outer.count - outer.own; }
    // Whether the outermost frames are those.
    bool ends_like(const Walk& outer) const {
        const int same = callers(outer);
        return same > 0 && count > same && std::equal(frames + count - same, frames + count, outer.frames + outer.own);
    }
    // Whether the frame is one of the function's.
    static bool is_of(const void* frame, Address function) {
        if (frame == nullptr) return false;
        // A function that is interrupted before its first instruction has that for its frame, others what follows a call.
        return Address::of(frame) == function ||
               Address::of(_Unwind_FindEnclosingFunction(static_cast<char*>(const_cast<void*>(frame)) - 1)) == function;
    }
    // For whoever must find out what is missing.
    std::string text() const {
        std::string all;
        for (const void* frame : std::span(frames, static_cast<std::size_t>(count))) {
            Dl_info info{};
            dladdr(frame, &info);
            char line[300];
            std::snprintf(
                line, sizeof line, "\n    %p %s+%#lx %s", frame, info.dli_fname != nullptr ? info.dli_fname : "?",
                static_cast<unsigned long>(static_cast<const char*>(frame) - static_cast<const char*>(info.dli_fbase)),
                info.dli_sname != nullptr ? info.dli_sname : "");
            all += line;
        }
        return all;
    }
    bool has(Address function) const {
        return std::any_of(frames, frames + count, [&](const void* frame) { return is_of(frame, function); });
    }
};

}  // namespace dynfunc::test
