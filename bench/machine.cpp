// SPDX-License-Identifier: MIT
#include "machine.hpp"

#include <sys/utsname.h>
#include <unistd.h>

#include <dynfunc/introspect.hpp>
#include <fstream>

#include "harness.hpp"

namespace bench {
namespace {

std::string first_line(const std::string& path) {
    std::ifstream file(path);
    std::string line;
    std::getline(file, line);
    return line;
}

// The value of the first "key : value" line of /proc/cpuinfo; empty if there is none.
std::string cpuinfo(const std::string& key) {
    std::ifstream file("/proc/cpuinfo");
    for (std::string line; std::getline(file, line);) {
        const std::size_t colon = line.find(':');
        if (colon == std::string::npos || !line.starts_with(key)) continue;
        if (line.find_first_not_of(" \t", key.size()) != colon) continue;
        const std::size_t value = line.find_first_not_of(" \t", colon + 1);
        return value == std::string::npos ? std::string() : line.substr(value);
    }
    return {};
}

std::string cpu_name(const utsname& system) {
    std::string name = cpuinfo("model name");
    if (name.empty()) return system.machine;
    if (const std::string family = cpuinfo("cpu family"); !family.empty())
        name += " (family " + family + ", model " + cpuinfo("model") + ")";
    return name;
}

std::string clocking() {
    const std::string cpu = "/sys/devices/system/cpu/cpu" + std::to_string(measuring_cpu());
    if (const std::string governor = first_line(cpu + "/cpufreq/scaling_governor"); !governor.empty())
        return "frequency governor " + governor;
    return cpuinfo("flags").find(" hypervisor") != std::string::npos ? "virtual machine, frequency not readable"
                                                                     : "frequency governor not readable";
}

}  // namespace

std::vector<Param> describe_machine() {
    utsname system{};
    uname(&system);
    const auto usable = static_cast<std::int64_t>(allowed_cpus().size());
#if defined(__clang__)
    const std::string compiler = "clang " __clang_version__;
#else
    const std::string compiler = "gcc " __VERSION__;
#endif
    return {{"cpu", cpu_name(system)},
            {"cores", usable},
            {"kernel", std::string(system.sysname) + ' ' + system.release + ' ' + system.machine},
            {"compiler", compiler},
            {"clocking", clocking()},
            {"load", first_line("/proc/loadavg")},
            {"capabilities", dynfunc::capabilities().text()},
            {"measuring_cpu", measuring_cpu()}};
}

}  // namespace bench
