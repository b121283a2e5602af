// SPDX-License-Identifier: MIT
// A tracepoint whose first callback could move the argument away from the others.
// expect: dynfunc: one event goes to several callbacks, so a tracepoint's parameters are trivially copyable values or
#include <dynfunc/tracepoint.hpp>

#include <string>

DYNFUNC_TRACEPOINT(step, void(std::string&& name));

int main() { DYNFUNC_TRACE(step, std::string("name")); }
