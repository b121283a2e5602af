// SPDX-License-Identifier: MIT
// The sites of arm64.
//
// A call site is `bl` to a hidden trampoline of this DSO.
//
//     dynfunc_text, 32 bytes, 32-byte aligned
//         call:   nop                                the slot form, right from the first instruction of the process on
//                 adrp x16, slot
//                 add  x16, x16, :lo12:slot
//                 ldar x16, [x16]                    (A) a branch orders no loads behind it: without the acquire the target might
//                 br   x16                               read what was there before the slot was written
//                 (where the slot is within 1 MiB, linkers may make `nop; adr x16, slot` of the second and the third)
//     patched by the library: the first word only, one aligned 4-byte store
//                 b    target
//     Both are instructions that the manual lets be replaced by one another while cores run them (Arm ARM, B2.2.5); adrp is none.
//     A thread that was stopped behind the first word goes on through the slot: the words after it never change.
//     In code with landing pads (-mbranch-protection=bti) whoever calls through a pointer comes to the pad, and the library
//     patches the word at 8.
//         call:   bti  c
//                 nop
//                 nop, adrp, add, ldar, br           as above
//
//     .text, the stub: asks the key, so that an unregistered trampoline is right, and a process that may write nothing too
//         stub:   adrp x16, key_word; ldr x16, [x16, :lo12:key_word]; ldar x16, [x16]; br x16
//
// A branch site is one instruction:
//     as linked   b to code of the compiler's that loads the key and tests it
//     patched     nop, or b to where the key says
//
// x16 and x17 belong to the linker's veneers and are free at every function entry. `br x16` may land on `bti c`, and on paciasp.
#pragma once

#include <dynfunc/detail/site.hpp>

#if defined(__ARM_FEATURE_BTI_DEFAULT)
#define DYNFUNC_DETAIL_LANDING_PAD " hint #34\n"  // bti c
#else
#define DYNFUNC_DETAIL_LANDING_PAD ""
#endif

namespace dynfunc::detail {

template <class Place, class Sig>
struct DYNFUNC_HIDDEN Site {
    using Trampoline = typename Signature<Sig>::template Trampoline<Place>;

    [[gnu::used, gnu::noinline]] DYNFUNC_HIDDEN static void emit() {
        asm volatile(
            ".ifndef %c0\n"
            ".pushsection dynfunc_text,\"axG\",@progbits,%c0,comdat\n"
            ".p2align 5\n"
            ".weak %c0\n"
            ".hidden %c0\n"
            ".type %c0,%%function\n"
            "%c0:\n"
            ".cfi_startproc\n" DYNFUNC_DETAIL_LANDING_PAD
            ".p2align 3\n"
            ".Ldynfunc_code%=:\n"
            " nop\n"
            " adrp x16, .Ldynfunc_slot%=\n"
            " add x16, x16, :lo12:.Ldynfunc_slot%=\n"
            " ldar x16, [x16]\n"
            " br x16\n"
            ".cfi_endproc\n"
            ".p2align 5\n"
            ".size %c0,.-%c0\n"
            ".popsection\n"
            ".pushsection .text.dynfunc_stub,\"axG\",@progbits,%c0,comdat\n"
            ".p2align 2\n"
            ".Ldynfunc_stub%=:\n"
            ".cfi_startproc\n" DYNFUNC_DETAIL_LANDING_PAD
            " adrp x16, %c1\n"
            " ldr x16, [x16, :lo12:%c1]\n"
            " ldar x16, [x16]\n"
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

#undef DYNFUNC_DETAIL_LANDING_PAD

#define DYNFUNC_DETAIL_BRANCH \
    ".Ldynfunc_site%=:\n"     \
    " b %l[test]\n"
