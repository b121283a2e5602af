// SPDX-License-Identifier: MIT
// Runs another program and keeps what it says.
#pragma once

#include <expected>
#include <filesystem>
#include <string>
#include <vector>

namespace bench {

// The folder that this program lies in, and the programs and modules that were built with it.
const std::filesystem::path& program_folder();

enum class Cpus { all, measuring };  // every CPU that this process was given, or the one that it measures on

// What the program writes to both outputs. Error: in words, why it did not run or how it ended.
std::expected<std::string, std::string> run_program(const std::vector<std::string>& words, Cpus cpus);

}  // namespace bench
