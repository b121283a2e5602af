// SPDX-License-Identifier: MIT
// Exceptions, and the ends of threads, that leave tracked calls. To the unwinder a slot is a function with a cleanup
// (Itanium C++ ABI, "Exception Handling", 1.6): the personality sends every exception that passes to the landing pad, which
// ends the call and goes on as if the caller had called _Unwind_Resume().
#include <unwind.h>

#include <dynfunc/detail/export.hpp>

#include "lock.hpp"
#include "os.hpp"
#include "return_records.hpp"
#include "return_slots.hpp"

extern "C" {

// Also where the handler was found in the caller, whose frame has the same address: to go on would be to leave it behind.
DYNFUNC_HIDDEN _Unwind_Reason_Code dynfunc_return_personality(int, _Unwind_Action actions, _Unwind_Exception_Class,
                                                              _Unwind_Exception* exception, _Unwind_Context* context) {
    using namespace dynfunc;
    // DWARF has the same numbers for rax and rdx, and for x0 and x1.
    constexpr int first = 0, second = 1;
    if ((actions & _UA_CLEANUP_PHASE) == 0) return _URC_CONTINUE_UNWIND;
    ReturnRecord* const record = ReturnRecords::record_of(_Unwind_GetIP(context));
    if (record == nullptr) return _URC_FATAL_PHASE2_ERROR;
    // The unwinder writes below the frame to which it goes, where the word is.
    __atomic_store_n(&record->state, ReturnRecord::with_phase(record->state, ReturnPhase::unwinding), __ATOMIC_RELEASE);
    _Unwind_SetGR(context, first, reinterpret_cast<_Unwind_Word>(exception));
    _Unwind_SetGR(context, second, reinterpret_cast<_Unwind_Word>(record));
    _Unwind_SetIP(context, arch::return_landing().value);
    return _URC_INSTALL_CONTEXT;
}

}  // extern "C"

namespace dynfunc {

void dynfunc_return_unwound(ReturnRecord* record) noexcept {
    const os::KeepErrno keep;
    const std::uint64_t outer = detail::reader_word == nullptr ? 0 : detail::reader_word->load(std::memory_order_relaxed);
    const ReadSection inside;
    ReturnHandlers& handlers = *record->handlers;
    __atomic_fetch_add(&handlers.unwound, 1, __ATOMIC_RELAXED);
    if (handlers.on_unwind != nullptr && !__atomic_load_n(&handlers.is_detached, __ATOMIC_RELAXED)) {
        if (!is_at_work()) {
            dynfunc_delivery.outer = outer;
            dynfunc_delivery.at = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
            handlers.on_unwind(record->data);
            dynfunc_delivery.at = 0;
        } else {
            __atomic_fetch_add(&handlers.missed, 1, __ATOMIC_RELAXED);
        }
    }
    __atomic_store_n(&record->state, ReturnRecord::with_phase(record->state, ReturnPhase::free), __ATOMIC_RELEASE);
    give_back_instance(*record);
}

}  // namespace dynfunc
