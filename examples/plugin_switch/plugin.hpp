// SPDX-License-Identifier: MIT
// What host and plug-in agree on.
#pragma once

struct Answer {
    int version;  // of the plug-in that answered; 0: the host itself
    long value;   // the question times the version
};

// The symbol that each plug-in exports.
using Answers = Answer(long question);
inline constexpr const char* entry_point = "plugin_answer";
