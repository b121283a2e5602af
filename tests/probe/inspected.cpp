// SPDX-License-Identifier: MIT
// A shared object that is inspected while its file is replaced.
extern "C" [[gnu::visibility("default")]] int inspected_twice(int n) { return 2 * n; }
extern "C" [[gnu::visibility("default")]] int inspected_squared(int n) { return n * n; }
