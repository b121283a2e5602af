// SPDX-License-Identifier: MIT
#include "probe_targets.hpp"

// nop5        what compilers leave for probes (-fpatchable-function-entry); this kernel turns its own probe there into a call
// nop, push   one byte, which a kernel emulates; a jump needs more of them
// ret         one byte, which a kernel steps over elsewhere; nothing of the function is behind it
// function    what compilers emit for one that keeps a register: 1, 3 and 1 bytes, then 4
asm(".macro bench_probe_target name\n"
    " .pushsection .text.bench_probe_\\name,\"ax\",@progbits\n"
    " .p2align 12,0xcc\n"
    " .globl bench_probe_\\name\n"
    " .hidden bench_probe_\\name\n"
    " .type bench_probe_\\name,@function\n"
    "bench_probe_\\name:\n"
    ".endm\n"
    ".macro bench_probe_target_end name\n"
    " .size bench_probe_\\name,.-bench_probe_\\name\n"
    " .popsection\n"
    ".endm\n"

    "bench_probe_target nop5\n"
    " .rept 4096\n"
    " .p2align 6,0xcc\n"
    " .cfi_startproc\n"
    " .byte 0x0f,0x1f,0x44,0,0\n"
    " lea 1(%rdi),%eax\n"
    " ret\n"
    " .cfi_endproc\n"
    " .endr\n"
    "bench_probe_target_end nop5\n"

    "bench_probe_target nop\n"
    " .rept 4096\n"
    " .p2align 6,0xcc\n"
    " .cfi_startproc\n"
    " nop\n"
    " lea 1(%rdi),%eax\n"
    " ret\n"
    " .cfi_endproc\n"
    " .endr\n"
    "bench_probe_target_end nop\n"

    "bench_probe_target push\n"
    " .rept 4096\n"
    " .p2align 6,0xcc\n"
    " .cfi_startproc\n"
    " push %rbp\n"
    " .cfi_adjust_cfa_offset 8\n"
    " .cfi_rel_offset %rbp,0\n"
    " lea 1(%rdi),%eax\n"
    " pop %rbp\n"
    " .cfi_adjust_cfa_offset -8\n"
    " .cfi_restore %rbp\n"
    " ret\n"
    " .cfi_endproc\n"
    " .endr\n"
    "bench_probe_target_end push\n"

    "bench_probe_target ret\n"
    " .rept 4096\n"
    " .p2align 6,0xcc\n"
    " .cfi_startproc\n"
    " ret\n"
    " .cfi_endproc\n"
    " .endr\n"
    "bench_probe_target_end ret\n"

    "bench_probe_target function\n"
    " .rept 4096\n"
    " .p2align 6,0xcc\n"
    " .cfi_startproc\n"
    " push %rbp\n"
    " .cfi_def_cfa_offset 16\n"
    " .cfi_offset %rbp,-16\n"
    " mov %rsp,%rbp\n"
    " .cfi_def_cfa_register %rbp\n"
    " push %rbx\n"
    " .cfi_offset %rbx,-24\n"
    " sub $8,%rsp\n"
    " mov %edi,%eax\n"
    " mov $4,%ebx\n"
    "1: xor $0x55,%eax\n"
    " imul $0x01000193,%eax,%eax\n"
    " dec %ebx\n"
    " jnz 1b\n"
    " add $8,%rsp\n"
    " pop %rbx\n"
    " pop %rbp\n"
    " .cfi_restore %rbx\n"
    " .cfi_restore %rbp\n"
    " .cfi_def_cfa %rsp,8\n"
    " ret\n"
    " .cfi_endproc\n"
    " .endr\n"
    "bench_probe_target_end function\n");

extern "C" {
[[gnu::visibility("hidden")]] extern const std::byte bench_probe_nop5[], bench_probe_nop[], bench_probe_push[],
    bench_probe_ret[], bench_probe_function[];
}

namespace bench::probes {
namespace {

constexpr std::size_t stride = 64, page = 4096;
static_assert(copies_of_kernel * stride == page);
constexpr int argument = 41;

int plus_one(int x) { return x + 1; }

int hashed(int x) {
    auto value = static_cast<unsigned>(x);
    for (int i = 0; i < 4; ++i) value = (value ^ 0x55U) * 0x01000193U;
    return static_cast<int>(value);
}

}  // namespace

Site TargetFunction::site(std::size_t copy) const {
    return {reinterpret_cast<Function*>(reinterpret_cast<std::uintptr_t>(code) + copy * stride), first_size};
}

bool TargetFunction::works(const Site& site) const {
    const int got = site.function(argument);
    return answer == nullptr || got == answer(argument);
}

const std::vector<TargetFunction>& targets() {
    static const std::vector<TargetFunction> all = {
        {"nop5", "a nop of 5 bytes", bench_probe_nop5, 5, &plus_one},
        {"nop", "a nop of 1 byte", bench_probe_nop, 1, &plus_one},
        {"push", "push", bench_probe_push, 1, &plus_one},
        {"ret", "ret and has nothing else", bench_probe_ret, 1, nullptr},
        {"function", "push, mov and push, as compiled ones do, and works for some nanoseconds", bench_probe_function, 1,
         &hashed},
    };
    return all;
}

}  // namespace bench::probes
