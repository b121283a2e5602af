// SPDX-License-Identifier: MIT
// What people read of an inspection.
#pragma once

#include <dynfunc/inspect.hpp>

#include <string>
#include <vector>

namespace dynfunc::tool {

// Totals by class, then the functions that take no jump; `all`: every function.
std::string report(const Inspection& inspection, bool all);

// The functions whose name one of the patterns matches (fnmatch(3)), a line each as in report(); without a pattern all.
std::string listing(const Inspection& inspection, const std::vector<std::string>& patterns);

}  // namespace dynfunc::tool
