// SPDX-License-Identifier: MIT
// The sites of arm64.
//
// A call site is `bl` to a hidden trampoline of this DSO.
//
//     dynfunc_text, 16 bytes, 16-byte aligned
//         call:   adrp x16, slot                     the slot form, right from the first instruction of the process on
//                 ldr  x16, [x16, :lo12:slot]
//                 br   x16
//     patched by the library: the first word only, one aligned 4-byte store
//                 b    target
//                 ret                                (null target of a void function)
//     A thread that was stopped behind the first word goes on through the slot: the two words after it never change.
//
//     .text, the stub: asks the key, so that an unregistered trampoline is right, and a process that may write nothing too
//         stub:   adrp x16, key_word; ldr x16, [x16, :lo12:key_word]; ldr x16, [x16]; br x16
//
// A branch site is one instruction:
//     as linked   b to code of the compiler's that loads the key and tests it
//     patched     nop, or b to where the key says
//
// x16 and x17 belong to the linker's veneers and are free at every function entry. `br x16` may land on `bti c`.
#pragma once

#include <dynfunc/detail/site.hpp>

#if defined(__ARM_FEATURE_BTI_DEFAULT)
#error \
    "dynfunc: -mbranch-protection=bti is not supported yet: the trampoline has no landing pad. Build with -Ddynfunc_backend=generic."
#endif

namespace dynfunc::detail {

template <class Place, class Sig>
struct DYNFUNC_HIDDEN Site {
    using Trampoline = typename Signature<Sig>::template Trampoline<Place>;

    [[gnu::used, gnu::noinline]] DYNFUNC_HIDDEN static void emit() {
        asm volatile(
            ".ifndef %c0\n"
            ".pushsection dynfunc_text,\"axG\",@progbits,%c0,comdat\n"
            ".p2align 4\n"
            ".weak %c0\n"
            ".hidden %c0\n"
            ".type %c0,%%function\n"
            "%c0:\n"
            ".Ldynfunc_code%=:\n"
            ".cfi_startproc\n"
            " adrp x16, .Ldynfunc_slot%=\n"
            " ldr x16, [x16, :lo12:.Ldynfunc_slot%=]\n"
            " br x16\n"
            ".cfi_endproc\n"
            ".p2align 4\n"
            ".size %c0,.-%c0\n"
            ".popsection\n"
            ".pushsection .text.dynfunc_stub,\"axG\",@progbits,%c0,comdat\n"
            ".p2align 2\n"
            ".Ldynfunc_stub%=:\n"
            ".cfi_startproc\n"
            " adrp x16, %c1\n"
            " ldr x16, [x16, :lo12:%c1]\n"
            " ldr x16, [x16]\n"
            " br x16\n"
            ".cfi_endproc\n"
            ".popsection\n" DYNFUNC_DETAIL_SLOT_AND_RECORD ".endif" ::"S"(&Trampoline::call),
            "S"(&KeyWord<Place>::word), "i"(sizeof(TrampolineRecord)));
    }

    static Sig* call_address() noexcept {
        static_cast<void>(&emit);  // instantiates it; costs no instruction
        static_cast<void>(&emit_registrar);
        return &Trampoline::call;
    }
};

}  // namespace dynfunc::detail

#define DYNFUNC_DETAIL_BRANCH \
    ".Ldynfunc_site%=:\n"     \
    " b %l[test]\n"
