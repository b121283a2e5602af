// SPDX-License-Identifier: MIT
// The sites of x86-64.
//
// A call site is `call rel32` to a hidden trampoline of this DSO.
//
//     dynfunc_text, 16 bytes, 16-byte aligned
//         call:   ff 25 disp32   jmp *slot(%rip)     the slot form, right from the first instruction of the process on
//                 cc ...
//     patched by the library, one aligned 8-byte word at a time
//                 e9 rel32       jmp target
//                 c3             ret                 (null target of a void function)
//
//     compiled with -fcf-protection (an address taken with & may be called indirectly, so it needs its landing pad)
//         call:   f3 0f 1e fa    endbr64
//                 0f 1f 40 00    nopl 0(%rax)        (as bytes: assemblers know a shorter one) fills the first word,
//                                                    so that the patched word is the second
//                 ff 25 disp32   jmp *slot(%rip)
//
//     .text, the stub: asks the key, so that an unregistered trampoline is right, and a process that may write nothing too
//         stub:   mov key_word(%rip), %r11
//                 jmp *(%r11)
//
// A branch site is one instruction of 5 bytes inside one aligned 8-byte word, so that one store replaces it; `.p2align 3,,4`
// pads by at most 4 bytes.
//     as linked   e9 rel32          jmp to code of the compiler's that loads the key and tests it
//     patched     0f 1f 44 00 00    nopl 0(%rax,%rax,1): falls through
//                 e9 rel32          jmp to where the key says
//
// %r11 is free at every function entry: no argument, no result, not saved by the callee. The unwind tables know both pieces.
// `.ifndef`: with gcc -flto many translation units are one assembly. `.p2align 4` also for the stub's neighbours: measured,
// 16 bytes per trampoline beat 8 at a thousand sites (docs/decisions/0003-trampoline-layout.md).
#pragma once

#include <dynfunc/detail/site.hpp>

#if defined(__CET__) && (__CET__ & 1)
#define DYNFUNC_DETAIL_LANDING_PAD "endbr64\n .byte 0x0f,0x1f,0x40,0x00\n"
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
            ".p2align 4,0xcc\n"
            ".weak %c0\n"
            ".hidden %c0\n"
            ".type %c0,@function\n"
            "%c0:\n"
            ".cfi_startproc\n" DYNFUNC_DETAIL_LANDING_PAD
            ".Ldynfunc_code%=:\n"
            " jmp *.Ldynfunc_slot%=(%%rip)\n"
            ".cfi_endproc\n"
            ".p2align 4,0xcc\n"
            ".size %c0,.-%c0\n"
            ".popsection\n"
            ".pushsection .text.dynfunc_stub,\"axG\",@progbits,%c0,comdat\n"
            ".Ldynfunc_stub%=:\n"
            ".cfi_startproc\n"
            " mov %c1(%%rip),%%r11\n"
            " jmp *(%%r11)\n"
            ".cfi_endproc\n"
            ".popsection\n" DYNFUNC_DETAIL_SLOT_AND_RECORD ".endif" ::"i"(&Trampoline::call),
            "i"(&KeyWord<Place>::word), "i"(sizeof(TrampolineRecord)));
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
    ".p2align 3,,4\n"         \
    ".Ldynfunc_site%=:\n"     \
    " .byte 0xe9\n"           \
    " .long %l[test]-.-4\n"
