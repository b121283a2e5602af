// SPDX-License-Identifier: MIT
#include "nested_targets.hpp"

// Every function has 64 bytes, so that the next one's begin is known.
asm(".pushsection .text.bench_nested,\"ax\",@progbits\n"
    " .p2align 12,0xcc\n"
    " .globl bench_chains\n"
    " .hidden bench_chains\n"
    " .type bench_chains,@function\n"
    "bench_chains:\n"
    " .rept 4\n"  // nested_copies
    "  .p2align 12,0xcc\n"
    "  .rept 8\n"  // all of chain_length but the last
    "   .p2align 6,0xcc\n"
    "   .cfi_startproc\n"
    "1: .byte 0x0f,0x1f,0x44,0,0\n"
    "   sub $8,%rsp\n"
    "   .cfi_adjust_cfa_offset 8\n"
    "   call 1b+64\n"
    "   inc %eax\n"
    "   add $8,%rsp\n"
    "   .cfi_adjust_cfa_offset -8\n"
    "   ret\n"
    "   .cfi_endproc\n"
    "  .endr\n"
    "  .p2align 6,0xcc\n"
    "  .cfi_startproc\n"
    "  .byte 0x0f,0x1f,0x44,0,0\n"
    "  lea 1(%rdi),%eax\n"
    "  ret\n"
    "  .cfi_endproc\n"
    " .endr\n"
    " .size bench_chains,.-bench_chains\n"

    " .p2align 12,0xcc\n"
    " .globl bench_recursions\n"
    " .hidden bench_recursions\n"
    " .type bench_recursions,@function\n"
    "bench_recursions:\n"
    " .rept 4\n"
    "  .p2align 12,0xcc\n"
    "  .cfi_startproc\n"
    "1: .byte 0x0f,0x1f,0x44,0,0\n"
    "  xor %eax,%eax\n"
    "  test %edi,%edi\n"
    "  jz 2f\n"
    "  sub $8,%rsp\n"
    "  .cfi_adjust_cfa_offset 8\n"
    "  dec %edi\n"
    "  call 1b\n"
    "  inc %eax\n"
    "  add $8,%rsp\n"
    "  .cfi_adjust_cfa_offset -8\n"
    "2: ret\n"
    "  .cfi_endproc\n"
    " .endr\n"
    " .p2align 12,0xcc\n"
    " .size bench_recursions,.-bench_recursions\n"
    ".popsection\n");

extern "C" {
[[gnu::visibility("hidden")]] extern const std::byte bench_chains[], bench_recursions[];
}

namespace bench::probes {
namespace {

constexpr std::size_t page = 4096, stride = 64, nop_size = 5;
static_assert(chain_length == 9 && nested_copies == 4);  // as written above

Site site_at(const std::byte* first, std::size_t copy, std::size_t index) {
    return {reinterpret_cast<Function*>(reinterpret_cast<std::uintptr_t>(first) + copy * page + index * stride), nop_size};
}

}  // namespace

std::array<Site, chain_length> chain(std::size_t copy) {
    std::array<Site, chain_length> sites;
    for (std::size_t i = 0; i < chain_length; ++i) sites[i] = site_at(bench_chains, copy, i);
    return sites;
}

Site recursion(std::size_t copy) { return site_at(bench_recursions, copy, 0); }

}  // namespace bench::probes
