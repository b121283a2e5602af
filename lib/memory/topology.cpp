// SPDX-License-Identifier: MIT
#include "topology.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>

namespace dynfunc {
namespace {

constexpr std::uint16_t unknown = 0xffff;  // of a node's index, of a cache
constexpr std::size_t most_cpus = 0xffff;

struct Range {
    std::size_t first, last;
};

class Path {
public:
    [[gnu::format(printf, 2, 3)]] explicit Path(const char* format, ...) noexcept {
        va_list arguments;
        va_start(arguments, format);
        const int length = std::vsnprintf(text_, sizeof text_, format, arguments);
        va_end(arguments);
        if (length < 0 || static_cast<std::size_t>(length) >= sizeof text_) text_[0] = '\0';  // names nothing
    }
    operator const char*() const noexcept { return text_; }

private:
    char text_[PATH_MAX];
};

// Moves `text` behind the number that it begins with. No number that matters has more digits than six.
std::optional<std::size_t> take_number(std::span<const char>& text) noexcept {
    std::size_t number = 0, digits = 0;
    while (digits < text.size() && text[digits] >= '0' && text[digits] <= '9' && digits < 7)
        number = number * 10 + static_cast<std::size_t>(text[digits++] - '0');
    if (digits == 0 || digits == 7) return std::nullopt;
    text = text.subspan(digits);
    return number;
}

bool take(std::span<const char>& text, char c) noexcept {
    if (text.empty() || text.front() != c) return false;
    text = text.subspan(1);
    return true;
}

// The longest list of the 8192 CPUs that Linux may be built for is well below half of this.
constexpr std::size_t longest_file = 65536;

// Whole, without the newline at its end; empty if it cannot be read.
std::optional<std::vector<char>> read_file(const char* path) {
    int file;
    do file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    while (file < 0 && errno == EINTR);
    if (file < 0) return std::nullopt;
    struct Closing {
        int file;
        ~Closing() { close(file); }
    } closing{file};
    std::vector<char> text(1024);
    std::size_t size = 0;
    for (;;) {
        const ssize_t got = read(file, text.data() + size, text.size() - size);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return std::nullopt;
        if (got == 0) break;
        size += static_cast<std::size_t>(got);
        if (size < text.size()) continue;
        if (size >= longest_file) return std::nullopt;
        text.resize(2 * size);
    }
    if (size > 0 && text[size - 1] == '\n') --size;
    text.resize(size);
    return text;
}

std::optional<std::size_t> read_number(const char* path) {
    const auto text = read_file(path);
    if (!text) return std::nullopt;
    std::span<const char> rest(*text);
    const auto number = take_number(rest);
    return rest.empty() ? number : std::nullopt;
}

// "0-3,8,10-11". A node without CPUs has an empty list. Garbage anywhere makes the whole list unreadable: half of a truth would
// tear apart what belongs together.
std::optional<std::vector<Range>> read_list(const char* path) {
    const auto text = read_file(path);
    if (!text) return std::nullopt;
    std::vector<Range> list;
    std::span<const char> rest(*text);
    while (!rest.empty()) {
        if (!list.empty() && !take(rest, ',')) return std::nullopt;
        const auto first = take_number(rest);
        if (!first) return std::nullopt;
        const auto last = take(rest, '-') ? take_number(rest) : first;
        if (!last || *last < *first) return std::nullopt;
        list.push_back({*first, *last});
    }
    return list;
}

// The numbers in the names of what lies in a folder: of "node0", "node8", "possible" with prefix "node", 0 and 8. Ascending.
std::vector<std::size_t> numbered_entries(const char* folder, const char* prefix) {
    std::vector<std::size_t> numbers;
    struct Closing {
        DIR* folder;
        ~Closing() {
            if (folder != nullptr) closedir(folder);
        }
    } open{opendir(folder)};
    if (open.folder == nullptr) return numbers;
    const std::size_t prefix_size = std::strlen(prefix);
    while (const dirent* entry = readdir(open.folder)) {
        if (std::strncmp(entry->d_name, prefix, prefix_size) != 0) continue;
        std::span<const char> rest(entry->d_name + prefix_size, std::strlen(entry->d_name + prefix_size));
        const auto number = take_number(rest);
        if (number && rest.empty()) numbers.push_back(*number);
    }
    std::sort(numbers.begin(), numbers.end());
    return numbers;
}

template <class Visit>
void for_each_below(std::span<const Range> list, std::size_t end, Visit&& visit) {
    for (const Range& range : list)
        for (std::size_t cpu = range.first; cpu <= range.last && cpu < end; ++cpu) visit(cpu);
}

void read_nodes(const char* sys, Topology& topology) {
    for (const std::size_t number : numbered_entries(Path("%s/devices/system/node", sys), "node")) {
        if (number >= unknown) continue;
        const auto list = read_list(Path("%s/devices/system/node/node%zu/cpulist", sys, number));
        if (!list) continue;
        const auto index = static_cast<std::uint16_t>(topology.nodes.size());
        bool has_cpus = false;  // else it is memory alone, or others' CPUs
        for_each_below(*list, topology.cpus.size(), [&](std::size_t cpu) {
            if (topology.cpus[cpu].node != unknown) return;
            topology.cpus[cpu].node = index;
            has_cpus = true;
        });
        if (has_cpus) topology.nodes.push_back(static_cast<std::uint16_t>(number));
    }
    if (topology.nodes.empty()) topology.nodes.push_back(0);
    for (Topology::Cpu& cpu : topology.cpus)
        if (cpu.node == unknown) cpu.node = 0;
}

bool is_of_instructions(const char* path) {
    const auto text = read_file(path);
    constexpr std::string_view name = "Instruction";
    return text && std::equal(text->begin(), text->end(), name.begin(), name.end());
}

// The CPUs that share the last-level cache of `cpu`.
std::optional<std::vector<Range>> read_last_level_cache(const char* sys, std::size_t cpu) {
    const Path folder("%s/devices/system/cpu/cpu%zu/cache", sys, cpu);
    std::size_t highest = 0, last_level = 0;
    for (const std::size_t index : numbered_entries(folder, "index")) {
        const auto level = read_number(Path("%s/index%zu/level", static_cast<const char*>(folder), index));
        if (!level || *level <= highest) continue;
        if (is_of_instructions(Path("%s/index%zu/type", static_cast<const char*>(folder), index))) continue;
        highest = *level;
        last_level = index;
    }
    if (highest == 0) return std::nullopt;
    auto list = read_list(Path("%s/index%zu/shared_cpu_list", static_cast<const char*>(folder), last_level));
    const auto names_it = [cpu](const Range& range) { return range.first <= cpu && cpu <= range.last; };
    if (list && std::none_of(list->begin(), list->end(), names_it)) return std::nullopt;
    return list;
}

// By CPU: the first that told of the last-level cache they share, or `unknown`.
std::vector<std::uint16_t> read_caches(const char* sys, std::size_t cpus) {
    std::vector<std::uint16_t> caches(cpus, unknown);
    for (std::size_t cpu = 0; cpu < cpus; ++cpu) {
        if (caches[cpu] != unknown) continue;  // told by one that shares it: a machine has many CPUs and few caches
        const auto list = read_last_level_cache(sys, cpu);
        if (!list) continue;
        for_each_below(*list, cpus, [&](std::size_t sharer) {
            if (caches[sharer] == unknown) caches[sharer] = static_cast<std::uint16_t>(cpu);
        });
    }
    return caches;
}

// Calls `visit(begin, end)` for each longest run of positions whose CPUs are `alike`.
template <class Alike, class Visit>
void for_each_run(const std::vector<std::uint16_t>& at, Alike&& alike, Visit&& visit) {
    for (std::size_t begin = 0, end; begin < at.size(); begin = end) {
        end = begin + 1;
        while (end < at.size() && alike(at[begin], at[end])) ++end;
        visit(begin, end);
    }
}

}  // namespace

Topology read_topology(const char* sys, std::size_t count) {
    Topology topology;
    topology.cpus.assign(std::min(count, most_cpus), {.node = unknown});
    read_nodes(sys, topology);
    const std::vector<std::uint16_t> caches = read_caches(sys, topology.cpus.size());

    auto& [cpus, at, nodes] = topology;
    at.resize(cpus.size());
    for (std::size_t cpu = 0; cpu < cpus.size(); ++cpu) at[cpu] = static_cast<std::uint16_t>(cpu);
    std::sort(at.begin(), at.end(), [&](std::uint16_t a, std::uint16_t b) {
        if (cpus[a].node != cpus[b].node) return cpus[a].node < cpus[b].node;
        if (caches[a] != caches[b]) return caches[a] < caches[b];
        return a < b;
    });
    const auto same_node = [&](std::uint16_t a, std::uint16_t b) { return cpus[a].node == cpus[b].node; };
    for_each_run(at, same_node, [&](std::size_t begin, std::size_t end) {
        for (std::size_t position = begin; position < end; ++position) {
            Topology::Cpu& cpu = cpus[at[position]];
            cpu.position = static_cast<std::uint16_t>(position);
            cpu.node_begin = static_cast<std::uint16_t>(begin);
            cpu.node_end = static_cast<std::uint16_t>(end);
        }
    });
    const auto same_cache = [&](std::uint16_t a, std::uint16_t b) { return same_node(a, b) && caches[a] == caches[b]; };
    for_each_run(at, same_cache, [&](std::size_t begin, std::size_t end) {
        for (std::size_t position = begin; position < end; ++position) {
            Topology::Cpu& cpu = cpus[at[position]];
            cpu.cache_begin = static_cast<std::uint16_t>(begin);
            cpu.cache_end = static_cast<std::uint16_t>(end);
        }
    });
    return topology;
}

std::size_t possible_cpus(const char* sys) {
    constexpr std::size_t most_possible = 8192;  // of Linux
    if (const auto list = read_list(Path("%s/devices/system/cpu/possible", sys)); list && !list->empty()) {
        std::size_t highest = 0;
        for (const Range& range : *list) highest = std::max(highest, range.last);
        if (highest < most_possible) return highest + 1;
    }
    unsigned long mask[most_possible / CHAR_BIT / sizeof(unsigned long)];
    const long bytes = syscall(SYS_sched_getaffinity, 0, sizeof mask, mask);
    return bytes > 0 ? static_cast<std::size_t>(bytes) * CHAR_BIT : most_possible;
}

}  // namespace dynfunc
