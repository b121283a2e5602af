// SPDX-License-Identifier: MIT
// The registers of a thread at a probe: as they were when it came there, and as it will find them when it goes on.
//
//     AfterHit on_write(ProbeHit& hit) {
//         const auto fd = static_cast<int>(hit.registers.integer(0));
//         if (fd == 7) hit.registers.return_now(-EBADF);         // the function does not run
//         return AfterHit::keep;
//     }
//
// Every machine's Registers has
//     integer(i)       argument number i of those that are passed like integers and pointers, for a probe at a function's begin
//     floating(i)      argument number i of those that are passed like float (its first 4 bytes) and double: needs vectors
//     result(i)        word 0 or 1 of what a function returns like integers and pointers, for a return probe;
//                      floating(0) and (1) are what it returns like double
//     stack_word(i)    word i of what the caller passed on the stack
//     instruction_pointer()   where the thread goes on; unchanged: with the instruction under the probe
//     stack_pointer()
//     return_address() where the function returns to, for a probe at a function's begin
//     return_now(v)    go on behind the call, with v as what the function returned
// all but the last two references to what the thread will find; and the registers themselves, by their names.
#pragma once

#include <dynfunc/detail/machine.hpp>

#include DYNFUNC_DETAIL_OF_MACHINE(registers)
