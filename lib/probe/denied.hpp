// SPDX-License-Identifier: MIT
// What cannot be probed, whatever its instructions are.
#pragma once

#include <dynfunc/address.hpp>

#include <vector>

#include "module_code.hpp"

namespace dynfunc {

// Entry points of the unwinder, which reads the stack it runs on, and the code that returns from signal handlers, which
// unwinders know by its bytes.
bool is_denied(Address at, AddressRange function) noexcept;

// Functions that look at where they were called from: return twice, or serve their caller by its address.
bool is_return_denied(Address at) noexcept;

// The same, of functions without a name: what the unwinder's entry points call in their own object, ascending. One of them
// (libgcc's uw_init_context_1) takes the registers that its caller has saved from where the unwind table says that its return
// address is. Throws: std::bad_alloc.
std::vector<Address> called_to_unwind(const ModuleCode& code);

// What runs at every hit.
bool is_of_the_library(Address at) noexcept;

}  // namespace dynfunc
