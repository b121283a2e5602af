// SPDX-License-Identifier: MIT
#include "planted.hpp"

void add_planted(Results& results) {
    planted::add_planted_here(results);
    results.add(inline_caller(21));
    results.add(template_caller<long, 5>(3) == template_caller<int, 5>(3));
}

bool are_planted_bytes_unchanged() { return planted::Bytes::now() == planted::at_start; }
