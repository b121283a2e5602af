// SPDX-License-Identifier: MIT
// What people read of an inspection.
#pragma once

#include <dynfunc/inspect.hpp>

#include <string>

namespace dynfunc::tool {

// Totals by class, then the functions that take no jump; `all`: every function.
std::string report(const Inspection& inspection, bool all);

}  // namespace dynfunc::tool
