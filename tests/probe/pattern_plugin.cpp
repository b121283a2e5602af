// SPDX-License-Identifier: MIT
// What patterns find in an object that is loaded later; its constructor calls one of them.
extern "C" {
extern int pattern_calls;  // the program's
int pattern_first(int x) {
    ++pattern_calls;
    return x + 1;
}
int pattern_second(int x) { return x * 2 + 3; }
int other_function(int x) { return x - 1; }
// Where no jump can stand. x86: one byte, and the next function directly behind it; arm64: a call that cannot be moved.
#if defined(__x86_64__)
#define DYNFUNC_TEST_TINY "ret"
#define DYNFUNC_TEST_FIVE "mov $5,%eax; ret"
#else
#define DYNFUNC_TEST_TINY "blr x30; ret"
#define DYNFUNC_TEST_FIVE "mov w0,#5; ret"
#endif
void pattern_tiny();
asm(".text\n"
    ".globl pattern_tiny, behind_pattern_tiny\n"
    ".type pattern_tiny,%function\n"
    ".type behind_pattern_tiny,%function\n"
    ".p2align 4\n"
    "pattern_tiny: .cfi_startproc; " DYNFUNC_TEST_TINY
    "; .cfi_endproc\n"
    ".size pattern_tiny,.-pattern_tiny\n"
    "behind_pattern_tiny: .cfi_startproc; " DYNFUNC_TEST_FIVE
    "; .cfi_endproc\n"
    ".size behind_pattern_tiny,.-behind_pattern_tiny\n");

[[gnu::visibility("default")]] int from_constructor = 0;
}

namespace {
int (*volatile call_first)(int) = &pattern_first;
[[gnu::constructor]] void start() { from_constructor = call_first(41); }
}  // namespace
