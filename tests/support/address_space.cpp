// SPDX-License-Identifier: MIT
#include "address_space.hpp"

#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace dynfunc::test {

std::string writable_code() {
    std::ifstream maps("/proc/self/maps");
    std::string found, line;
    while (std::getline(maps, line)) {
        std::istringstream fields(line);
        std::string range, rights;
        fields >> range >> rights;
        if (rights.size() == 4 && rights[1] == 'w' && rights[2] == 'x') found += line + '\n';
    }
    return found;
}

std::string file_mapped_at(Address at) {
    std::ifstream maps("/proc/self/maps");
    std::string line;
    while (std::getline(maps, line)) {
        std::istringstream fields(line);
        std::uintptr_t begin = 0, end = 0;
        char dash = 0;
        std::string rights, offset, device, inode, file;
        fields >> std::hex >> begin >> dash >> end >> rights >> offset >> device >> inode >> file;
        if (AddressRange{Address{begin}, Address{end}}.contains(at)) return file;
    }
    return {};
}

std::size_t count_mappings() {
    std::ifstream maps("/proc/self/maps");
    std::string line;
    std::size_t lines = 0;
    while (std::getline(maps, line)) ++lines;
    return lines;
}

std::size_t count_descriptors() {
    std::size_t count = 0;
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) ++count;
    return count;
}

SignalDispositions SignalDispositions::now() {
    SignalDispositions all{};
    for (int signal = 1; signal < 65; ++signal) sigaction(signal, nullptr, &all.actions[static_cast<std::size_t>(signal)]);
    return all;
}

int SignalDispositions::difference(const SignalDispositions& other) const {
    for (std::size_t signal = 1; signal < actions.size(); ++signal) {
        if (static_cast<int>(signal) == signal_that_may_change) continue;
        const auto &a = actions[signal], &b = other.actions[signal];
        constexpr int set_by_libc = 0x04000000;  // SA_RESTORER: no choice of anybody's
        if (a.sa_handler != b.sa_handler || ((a.sa_flags ^ b.sa_flags) & ~set_by_libc) != 0 ||
            std::memcmp(&a.sa_mask, &b.sa_mask, 8) != 0)
            return static_cast<int>(signal);
    }
    return 0;
}

}  // namespace dynfunc::test
