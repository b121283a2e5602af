// SPDX-License-Identifier: MIT
#include "chain_samples.hpp"

namespace dynfunc::arch::test {
namespace {

std::uint64_t* counter_at(std::uintptr_t place) { return Address{place}.as<std::uint64_t*>(); }

}  // namespace

const std::vector<std::uint8_t> landing_pad{0xf3, 0x0f, 0x1e, 0xfa};
const std::vector<std::uint8_t> trap{0xcc};

const std::ptrdiff_t lowered_by_call = 8;

const UnwindColumns unwind_columns{.frame_pointer = 6, .return_address = 16};

const std::vector<ChainSample> chain_samples{
    {"several callees of two integers, data and a counter",
     {.integers = 2, .vectors = 0, .data_in_register = true, .stack_words = 0},
     {{.function = Address{0x402000}, .data = 0, .has_data = false, .hits = nullptr},
      {.function = Address{0x400100}, .data = 0x1234, .has_data = true, .hits = counter_at(0x404000)}},
     Address{0x401000},
     {
         0xf3, 0x0f, 0x1e, 0xfa,                          // endbr64
         0x55,                                            // push %rbp
         0x48, 0x89, 0xe5,                                // mov %rsp, %rbp
         0x57,                                            // push %rdi
         0x56,                                            // push %rsi
         0xe8, 0xf1, 0x0f, 0x00, 0x00,                    // call first
         0x48, 0x8b, 0x7d, 0xf8,                          // mov -8(%rbp), %rdi
         0x48, 0x8b, 0x75, 0xf0,                          // mov -16(%rbp), %rsi
         0xba, 0x34, 0x12, 0x00, 0x00,                    // mov $0x1234, %edx
         0xf0, 0x48, 0xff, 0x05, 0xdc, 0x2f, 0x00, 0x00,  // lock incq hits(%rip)
         0xc9,                                            // leave
         0xe9, 0xd6, 0xf0, 0xff, 0xff,                    // jmp second
         0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc,
     }},
    {"every register and data on the stack",
     {.integers = 6, .vectors = 8, .data_in_register = false, .stack_words = 3},
     {{.function = Address{0x402000}, .data = 0, .has_data = false, .hits = nullptr},
      {.function = Address{0x400100}, .data = 0, .has_data = true, .hits = nullptr}},
     Address{0x401000},
     {
         0xf3, 0x0f, 0x1e, 0xfa,                    // endbr64
         0x55,                                      // push %rbp
         0x48, 0x89, 0xe5,                          // mov %rsp, %rbp
         0x57,                                      // push %rdi
         0x56,                                      // push %rsi
         0x52,                                      // push %rdx
         0x51,                                      // push %rcx
         0x41, 0x50,                                // push %r8
         0x41, 0x51,                                // push %r9
         0x48, 0x81, 0xec, 0xa0, 0x00, 0x00, 0x00,  // sub $0xa0, %rsp
         0x0f, 0x11, 0x45, 0xc0,                    // movups %xmm0, -0x40(%rbp)
         0x0f, 0x11, 0x4d, 0xb0,                    // movups %xmm1, -0x50(%rbp)
         0x0f, 0x11, 0x55, 0xa0,                    // movups %xmm2, -0x60(%rbp)
         0x0f, 0x11, 0x5d, 0x90,                    // movups %xmm3, -0x70(%rbp)
         0x0f, 0x11, 0x65, 0x80,                    // movups %xmm4, -0x80(%rbp)
         0x0f, 0x11, 0xad, 0x70, 0xff, 0xff, 0xff,  // movups %xmm5, -0x90(%rbp)
         0x0f, 0x11, 0xb5, 0x60, 0xff, 0xff, 0xff,  // movups %xmm6, -0xa0(%rbp)
         0x0f, 0x11, 0xbd, 0x50, 0xff, 0xff, 0xff,  // movups %xmm7, -0xb0(%rbp)
         0x48, 0x8b, 0x45, 0x10,                    // mov 0x10(%rbp), %rax
         0x48, 0x89, 0x04, 0x24,                    // mov %rax, 0(%rsp)
         0x48, 0x8b, 0x45, 0x18,                    // mov 0x18(%rbp), %rax
         0x48, 0x89, 0x44, 0x24, 0x08,              // mov %rax, 0x8(%rsp)
         0x48, 0x8b, 0x45, 0x20,                    // mov 0x20(%rbp), %rax
         0x48, 0x89, 0x44, 0x24, 0x10,              // mov %rax, 0x10(%rsp)
         0xe8, 0xa1, 0x0f, 0x00, 0x00,              // call first
         0x48, 0x8b, 0x7d, 0xf8,                    // mov -8(%rbp), %rdi
         0x48, 0x8b, 0x75, 0xf0,                    // mov -16(%rbp), %rsi
         0x48, 0x8b, 0x55, 0xe8,                    // mov -24(%rbp), %rdx
         0x48, 0x8b, 0x4d, 0xe0,                    // mov -32(%rbp), %rcx
         0x4c, 0x8b, 0x45, 0xd8,                    // mov -40(%rbp), %r8
         0x4c, 0x8b, 0x4d, 0xd0,                    // mov -48(%rbp), %r9
         0x0f, 0x10, 0x45, 0xc0,                    // movups -0x40(%rbp), %xmm0
         0x0f, 0x10, 0x4d, 0xb0,                    // movups -0x50(%rbp), %xmm1
         0x0f, 0x10, 0x55, 0xa0,                    // movups -0x60(%rbp), %xmm2
         0x0f, 0x10, 0x5d, 0x90,                    // movups -0x70(%rbp), %xmm3
         0x0f, 0x10, 0x65, 0x80,                    // movups -0x80(%rbp), %xmm4
         0x0f, 0x10, 0xad, 0x70, 0xff, 0xff, 0xff,  // movups -0x90(%rbp), %xmm5
         0x0f, 0x10, 0xb5, 0x60, 0xff, 0xff, 0xff,  // movups -0xa0(%rbp), %xmm6
         0x0f, 0x10, 0xbd, 0x50, 0xff, 0xff, 0xff,  // movups -0xb0(%rbp), %xmm7
         0x48, 0x8b, 0x45, 0x10,                    // mov 0x10(%rbp), %rax
         0x48, 0x89, 0x04, 0x24,                    // mov %rax, 0(%rsp)
         0x48, 0x8b, 0x45, 0x18,                    // mov 0x18(%rbp), %rax
         0x48, 0x89, 0x44, 0x24, 0x08,              // mov %rax, 0x8(%rsp)
         0x48, 0x8b, 0x45, 0x20,                    // mov 0x20(%rbp), %rax
         0x48, 0x89, 0x44, 0x24, 0x10,              // mov %rax, 0x10(%rsp)
         0x31, 0xc0,                                // xor %eax, %eax
         0x48, 0x89, 0x44, 0x24, 0x18,              // mov %rax, 0x18(%rsp)
         0xe8, 0x3a, 0xf0, 0xff, 0xff,              // call second
         0xc9,                                      // leave
         0xc3,                                      // ret
         0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc,
     }},
    {"one callee with data",
     {.integers = 4, .vectors = 2, .data_in_register = true, .stack_words = 1},
     {{.function = Address{0x5555'5555'2000}, .data = 0x5555'5555'0008, .has_data = true, .hits = nullptr}},
     Address{0x5555'5555'1000},
     {
         0xf3, 0x0f, 0x1e, 0xfa,                    // endbr64
         0x4c, 0x8d, 0x05, 0xfd, 0xef, 0xff, 0xff,  // lea data(%rip), %r8
         0xe9, 0xf0, 0x0f, 0x00, 0x00,              // jmp first
     }},
    {"everything out of reach",
     {.integers = 1, .vectors = 0, .data_in_register = true, .stack_words = 0},
     {{.function = Address{0x1234'5678'9abc}, .data = 0, .has_data = false, .hits = nullptr},
      {.function = Address{0x1234'5678'9ab0},
       .data = 0xffff'ffff'ffff'fffe,
       .has_data = true,
       .hits = counter_at(0x7654'3210'0008)}},
     Address{0x401000},
     {
         0xf3, 0x0f, 0x1e, 0xfa,                                      // endbr64
         0x55,                                                        // push %rbp
         0x48, 0x89, 0xe5,                                            // mov %rsp, %rbp
         0x57,                                                        // push %rdi
         0x50,                                                        // push %rax
         0x49, 0xbb, 0xbc, 0x9a, 0x78, 0x56, 0x34, 0x12, 0x00, 0x00,  // movabs $0x123456789abc, %r11
         0x41, 0xff, 0xd3,                                            // call *%r11
         0x48, 0x8b, 0x7d, 0xf8,                                      // mov -8(%rbp), %rdi
         0x48, 0xc7, 0xc6, 0xfe, 0xff, 0xff, 0xff,                    // mov $-2, %rsi
         0x49, 0xbb, 0x08, 0x00, 0x10, 0x32, 0x54, 0x76, 0x00, 0x00,  // movabs $0x765432100008, %r11
         0xf0, 0x49, 0xff, 0x03,                                      // lock incq (%r11)
         0xc9,                                                        // leave
         0x49, 0xbb, 0xb0, 0x9a, 0x78, 0x56, 0x34, 0x12, 0x00, 0x00,  // movabs $0x123456789ab0, %r11
         0x41, 0xff, 0xe3,                                            // jmp *%r11
         0xcc, 0xcc,
     }},
};

}  // namespace dynfunc::arch::test
