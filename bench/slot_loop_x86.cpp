// SPDX-License-Identifier: MIT
// A trampoline in the slot form, the bytes that the library leaves where it may not patch. It has no record, so that it keeps
// this form beside the patched trampolines of the same process.
#include "callees.hpp"
#include "dynfunc_loops.hpp"

asm(".pushsection dynfunc_text,\"ax\",@progbits\n"
    ".p2align 4,0xcc\n"
    ".globl bench_slot_trampoline\n"
    ".hidden bench_slot_trampoline\n"
    ".type bench_slot_trampoline,@function\n"
    "bench_slot_trampoline:\n"
    " jmp *bench_slot(%rip)\n"
    ".p2align 4,0xcc\n"
    ".size bench_slot_trampoline,.-bench_slot_trampoline\n"
    ".popsection\n");

extern "C" {
[[gnu::visibility("hidden")]] int bench_slot_trampoline(int);
[[gnu::visibility("hidden"), gnu::used]] bench::Callee* bench_slot = &bench::callee_0;
}

namespace bench {
namespace {

[[gnu::noinline]] void loop(std::uint64_t n) {
    chain(n, [](int x) { return bench_slot_trampoline(x); });
}

}  // namespace

const Loop slot_loop = &loop;

}  // namespace bench
