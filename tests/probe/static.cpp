// SPDX-License-Identifier: MIT
// Linked statically: nothing can be preloaded.
int main() { return 0; }
