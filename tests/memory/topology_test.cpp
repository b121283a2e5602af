// SPDX-License-Identifier: MIT
#include "topology.hpp"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "address_space.hpp"
#include "child.hpp"

namespace dynfunc {
namespace {

using Cpus = std::vector<std::size_t>;

// A folder that stands for /sys.
class System {
public:
    System() {
        char pattern[] = "/tmp/dynfunc-topology-XXXXXX";
        root_ = mkdtemp(pattern);
    }
    ~System() { std::filesystem::remove_all(root_); }
    System(const System&) = delete;

    void write(const std::string& file, const std::string& text) const {
        const std::filesystem::path path = root_ / "devices/system" / file;
        std::filesystem::create_directories(path.parent_path());
        std::ofstream(path) << text;
    }
    void node(std::size_t number, const std::string& cpus) const {
        write("node/node" + std::to_string(number) + "/cpulist", cpus + '\n');
    }
    void cache(std::size_t cpu, int index, const std::string& level, const std::string& type,
               const std::string& sharers) const {
        const std::string folder = "cpu/cpu" + std::to_string(cpu) + "/cache/index" + std::to_string(index);
        write(folder + "/level", level + '\n');
        write(folder + "/type", type + '\n');
        write(folder + "/shared_cpu_list", sharers + '\n');
    }
    // What a CPU of today has: L1 of data and instructions, L2, and an L3 that others share.
    void caches(std::size_t cpu, const std::string& sharers) const {
        const std::string self = std::to_string(cpu);
        cache(cpu, 0, "1", "Data", self);
        cache(cpu, 1, "1", "Instruction", self);
        cache(cpu, 2, "2", "Unified", self);
        cache(cpu, 3, "3", "Unified", sharers);
    }
    Topology read(std::size_t cpus) const { return read_topology(root_.c_str(), cpus); }

private:
    std::filesystem::path root_;
};

// What must hold of every topology, whatever the system says.
void expect_sound(const Topology& topology, std::size_t cpus) {
    ASSERT_EQ(topology.cpus.size(), cpus);
    ASSERT_EQ(topology.at.size(), cpus);
    ASSERT_FALSE(topology.nodes.empty());
    for (std::size_t i = 1; i < topology.nodes.size(); ++i) EXPECT_LT(topology.nodes[i - 1], topology.nodes[i]);
    std::set<std::uint16_t> nodes;
    for (std::size_t number = 0; number < cpus; ++number) {
        const Topology::Cpu& cpu = topology.cpus[number];
        ASSERT_LT(cpu.position, cpus);
        EXPECT_EQ(topology.at[cpu.position], number);
        ASSERT_LT(cpu.node, topology.nodes.size());
        nodes.insert(cpu.node);
        EXPECT_LE(cpu.node_begin, cpu.cache_begin);
        EXPECT_LE(cpu.cache_begin, cpu.position);
        EXPECT_LT(cpu.position, cpu.cache_end);
        EXPECT_LE(cpu.cache_end, cpu.node_end);
        ASSERT_LE(cpu.node_end, cpus);
        for (std::size_t position = 0; position < cpus; ++position) {
            const Topology::Cpu& other = topology.cpus[topology.at[position]];
            const bool in_node = cpu.node_begin <= position && position < cpu.node_end;
            EXPECT_EQ(other.node == cpu.node, in_node);
            if (cpu.cache_begin <= position && position < cpu.cache_end) {
                EXPECT_EQ(other.cache_begin, cpu.cache_begin);
            }
        }
    }
    if (cpus != 0) {
        EXPECT_EQ(nodes.size(), topology.nodes.size()) << "a node without a CPU is listed";
    }
}

Cpus between(const Topology& topology, std::size_t begin, std::size_t end) {
    return Cpus(topology.at.begin() + static_cast<std::ptrdiff_t>(begin),
                topology.at.begin() + static_cast<std::ptrdiff_t>(end));
}
Cpus cache_of(const Topology& topology, std::size_t cpu) {
    return between(topology, topology.cpus[cpu].cache_begin, topology.cpus[cpu].cache_end);
}
Cpus node_of(const Topology& topology, std::size_t cpu) {
    return between(topology, topology.cpus[cpu].node_begin, topology.cpus[cpu].node_end);
}
using Nodes = std::vector<std::uint16_t>;

TEST(Topology, OneNodeWithOneCacheIsOneRange) {
    const System system;
    system.node(0, "0-3");
    for (std::size_t cpu = 0; cpu < 4; ++cpu) system.caches(cpu, "0-3");
    const Topology topology = system.read(4);
    expect_sound(topology, 4);
    EXPECT_EQ(topology.nodes, Nodes{0});
    EXPECT_EQ(cache_of(topology, 2), (Cpus{0, 1, 2, 3}));
    EXPECT_EQ(node_of(topology, 2), (Cpus{0, 1, 2, 3}));
}

TEST(Topology, InterleavedNumbersAreOrderedByNode) {
    const System system;
    system.node(0, "0,2,4,6");
    system.node(1, "1,3,5,7");
    for (std::size_t cpu = 0; cpu < 8; ++cpu) system.caches(cpu, cpu % 2 == 0 ? "0,2,4,6" : "1,3,5,7");
    const Topology topology = system.read(8);
    expect_sound(topology, 8);
    EXPECT_EQ(topology.nodes, (Nodes{0, 1}));
    EXPECT_EQ(topology.at, (std::vector<std::uint16_t>{0, 2, 4, 6, 1, 3, 5, 7}));
    EXPECT_EQ(cache_of(topology, 4), (Cpus{0, 2, 4, 6}));
    EXPECT_EQ(cache_of(topology, 5), (Cpus{1, 3, 5, 7}));
}

TEST(Topology, FourNodesOfTwoCachesAreOrderedByNodeThenCache) {
    const System system;
    for (std::size_t node = 0; node < 4; ++node) {
        // Cores 2n and 2n + 1 have a cache each; their second threads come after all cores, as on most machines.
        const std::size_t a = 4 * node, b = a + 2;
        const auto list = [](std::size_t first) {
            return std::to_string(first) + '-' + std::to_string(first + 1) + ',' + std::to_string(first + 16) + '-' +
                   std::to_string(first + 17);
        };
        system.node(node, list(a) + ',' + list(b));
        for (std::size_t first : {a, b})
            for (std::size_t cpu : {first, first + 1, first + 16, first + 17}) system.caches(cpu, list(first));
    }
    const Topology topology = system.read(32);
    expect_sound(topology, 32);
    EXPECT_EQ(topology.nodes, (Nodes{0, 1, 2, 3}));
    EXPECT_EQ(cache_of(topology, 4), (Cpus{4, 5, 20, 21}));
    EXPECT_EQ(cache_of(topology, 22), (Cpus{6, 7, 22, 23}));
    EXPECT_EQ(node_of(topology, 4), (Cpus{4, 5, 20, 21, 6, 7, 22, 23}));
    EXPECT_EQ(topology.cpus[20].node, 1);
}

TEST(Topology, ManyCpus) {
    const System system;
    system.node(0, "0-95,192-287");
    system.node(1, "96-191,288-383");
    const auto sharers = [](std::size_t cpu) {
        const std::size_t first = cpu % 192 / 8 * 8;
        return std::to_string(first) + '-' + std::to_string(first + 7) + ',' + std::to_string(first + 192) + '-' +
               std::to_string(first + 199);
    };
    for (std::size_t cpu = 0; cpu < 384; ++cpu) system.cache(cpu, 3, "3", "Unified", sharers(cpu));
    const Topology topology = system.read(384);
    expect_sound(topology, 384);
    std::set<std::uint16_t> caches;
    for (const Topology::Cpu& cpu : topology.cpus) {
        caches.insert(cpu.cache_begin);
        EXPECT_EQ(cpu.cache_end - cpu.cache_begin, 16);
        EXPECT_EQ(cpu.node_end - cpu.node_begin, 192);
    }
    EXPECT_EQ(caches.size(), 24u);
    EXPECT_EQ(topology.cpus[300].node, 1);
}

// A machine whose list of CPUs is longer than what one read of a file gives.
TEST(Topology, LongListsAreReadWhole) {
    const System system;
    std::string even, odd;
    for (std::size_t cpu = 0; cpu < 2048; ++cpu) {
        std::string& list = cpu % 2 == 0 ? even : odd;
        if (!list.empty()) list += ',';
        list += std::to_string(cpu);
    }
    system.node(0, even);
    system.node(1, odd);
    const Topology topology = system.read(2048);
    EXPECT_EQ(topology.nodes, (Nodes{0, 1}));
    EXPECT_EQ(topology.cpus[2046].node, 0);
    EXPECT_EQ(topology.cpus[2047].node, 1);
    EXPECT_EQ(topology.cpus[2047].node_end - topology.cpus[2047].node_begin, 1024);
}

TEST(Topology, NodeNumbersMayHaveGaps) {
    const System system;
    system.node(10, "6-7");
    system.node(8, "4-5");
    system.node(0, "0-3");
    system.node(255, "");  // memory alone, as on machines with accelerators
    const Topology topology = system.read(8);
    expect_sound(topology, 8);
    EXPECT_EQ(topology.nodes, (Nodes{0, 8, 10}));
    EXPECT_EQ(topology.cpus[5].node, 1);
    EXPECT_EQ(node_of(topology, 6), (Cpus{6, 7}));
}

TEST(Topology, NodesOfOtherCpusAreLeftOut) {
    const System system;
    system.node(0, "0-3");
    system.node(1, "4-7");
    const Topology topology = system.read(4);
    expect_sound(topology, 4);
    EXPECT_EQ(topology.nodes, Nodes{0});
}

TEST(Topology, ACpuThatNoFileNamesGoesToTheFirstNode) {
    const System system;
    system.node(3, "0-1");
    system.node(5, "2-3");
    for (std::size_t cpu = 0; cpu < 4; ++cpu) system.caches(cpu, cpu < 2 ? "0-1" : "2-3");
    const Topology topology = system.read(6);  // 4 and 5 are offline
    expect_sound(topology, 6);
    EXPECT_EQ(topology.nodes, (Nodes{3, 5}));
    EXPECT_EQ(node_of(topology, 0), (Cpus{0, 1, 4, 5}));
    EXPECT_EQ(cache_of(topology, 0), (Cpus{0, 1}));
    EXPECT_EQ(cache_of(topology, 4), (Cpus{4, 5}));
}

TEST(Topology, ACacheThatSpansNodesIsDividedAmongThem) {
    const System system;
    system.node(0, "0-1");
    system.node(1, "2-3");
    for (std::size_t cpu = 0; cpu < 4; ++cpu) system.caches(cpu, "0-3");
    const Topology topology = system.read(4);
    expect_sound(topology, 4);
    EXPECT_EQ(cache_of(topology, 0), (Cpus{0, 1}));
    EXPECT_EQ(cache_of(topology, 3), (Cpus{2, 3}));
}

TEST(Topology, TheLastLevelIsTheHighestThatHoldsData) {
    const System system;
    system.node(0, "0-3");
    for (std::size_t cpu = 0; cpu < 4; ++cpu) {
        system.cache(cpu, 0, "4", "Instruction", "0-3");
        system.cache(cpu, 1, "2", "Unified", cpu < 2 ? "0-1" : "2-3");
        system.cache(cpu, 2, "1", "Data", std::to_string(cpu));
    }
    const Topology topology = system.read(4);
    expect_sound(topology, 4);
    EXPECT_EQ(cache_of(topology, 1), (Cpus{0, 1}));
    EXPECT_EQ(cache_of(topology, 2), (Cpus{2, 3}));
}

TEST(Topology, NothingReadableIsOneNodeAndOneCache) {
    const System system;
    for (const Topology& topology : {system.read(5), read_topology("/nowhere/at/all", 5), read_topology("", 5),
                                     read_topology(std::string(5000, 'x').c_str(), 5)}) {
        expect_sound(topology, 5);
        EXPECT_EQ(topology.nodes, Nodes{0});
        EXPECT_EQ(cache_of(topology, 3), (Cpus{0, 1, 2, 3, 4}));
        EXPECT_EQ(node_of(topology, 3), (Cpus{0, 1, 2, 3, 4}));
    }
}

TEST(Topology, MissingCacheFilesAreOneCacheInEachNode) {
    const System system;
    system.node(0, "0-1");
    system.node(1, "2-3");
    const Topology topology = system.read(4);
    expect_sound(topology, 4);
    EXPECT_EQ(cache_of(topology, 0), (Cpus{0, 1}));
    EXPECT_EQ(cache_of(topology, 2), (Cpus{2, 3}));
}

TEST(Topology, GarbageInAListMakesTheWholeListUnreadable) {
    for (const std::string& garbage :
         {std::string("x"), std::string("0-"), std::string("-1"), std::string("0,,1"), std::string("0-1,"), std::string("1-0"),
          std::string("0 1"), std::string("0x1"), std::string("99999999999999999999"), std::string("0-18446744073709551616"),
          std::string("0-1\n\n"), std::string("0\0001", 3), std::string(200000, '0'), std::string(200000, ','),
          std::string("\xff\xfe\x80")}) {
        const System system;
        system.node(0, garbage);
        system.node(1, "0-1");
        for (std::size_t cpu = 0; cpu < 4; ++cpu) system.caches(cpu, cpu < 2 ? garbage : "2-3");
        const Topology topology = system.read(4);
        expect_sound(topology, 4);
        EXPECT_EQ(topology.nodes, Nodes{1}) << garbage.substr(0, 30);
        EXPECT_EQ(cache_of(topology, 0), (Cpus{0, 1})) << garbage.substr(0, 30);
        EXPECT_EQ(cache_of(topology, 2), (Cpus{2, 3})) << garbage.substr(0, 30);
    }
}

TEST(Topology, GarbageAboutALevelHidesThatCache) {
    const System system;
    system.node(0, "0-3");
    for (std::size_t cpu = 0; cpu < 4; ++cpu) {
        system.cache(cpu, 2, "2", "Unified", cpu < 2 ? "0-1" : "2-3");
        system.cache(cpu, 3, "three", "Unified", "0-3");
    }
    const Topology topology = system.read(4);
    expect_sound(topology, 4);
    EXPECT_EQ(cache_of(topology, 1), (Cpus{0, 1}));
}

TEST(Topology, ACacheListWithoutItsOwnCpuIsGarbage) {
    const System system;
    system.node(0, "0-3");
    system.caches(0, "2-3");
    system.caches(1, "0-1");
    const Topology topology = system.read(4);
    expect_sound(topology, 4);
    EXPECT_EQ(cache_of(topology, 2), (Cpus{2, 3})) << "known only from a list that is garbage";
}

TEST(Topology, ListsThatContradictEachOtherStayWithTheFirst) {
    const System system;
    system.node(0, "0-2");
    system.node(1, "2-3");
    system.caches(0, "0-1");
    system.caches(2, "1-3");
    const Topology topology = system.read(4);
    expect_sound(topology, 4);
    EXPECT_EQ(node_of(topology, 2), (Cpus{0, 1, 2}));
    EXPECT_EQ(cache_of(topology, 1), (Cpus{0, 1}));
}

TEST(Topology, FoldersAndUnreadableFilesAreNoLists) {
    const System system;
    system.write("node/node0/cpulist/x", "");
    system.write("node/nodes", "");
    system.write("node/node1x/cpulist", "0");
    system.write("cpu/cpu0/cache/index3", "a file where a folder should be");
    const Topology topology = system.read(2);
    expect_sound(topology, 2);
    EXPECT_EQ(topology.nodes, Nodes{0});
}

TEST(Topology, AsManyCpusAsAreAskedFor) {
    const System system;
    system.node(0, "0-3");
    expect_sound(system.read(0), 0);
    expect_sound(system.read(1), 1);
    EXPECT_EQ(system.read(65535).cpus.size(), 65535u);
    EXPECT_EQ(system.read(65535).cpus[65534].node_end, 65535);
    EXPECT_EQ(system.read(1000000).cpus.size(), 65535u);
}

TEST(Topology, OfThisMachine) {
    const auto cpus = static_cast<std::size_t>(sysconf(_SC_NPROCESSORS_CONF));
    const std::size_t descriptors = test::count_descriptors();
    expect_sound(read_topology("/sys", cpus), cpus);
    EXPECT_EQ(test::count_descriptors(), descriptors);
}

TEST(Topology, WithoutDescriptorsAMachineIsOneNode) {
    const System system;
    system.node(0, "0-1");
    system.node(1, "2-3");
    EXPECT_EQ(test::in_child([&] {
                  const rlimit none{0, 0};
                  if (setrlimit(RLIMIT_NOFILE, &none) != 0) return 1;
                  const Topology topology = system.read(4);
                  return topology.nodes == Nodes{0} && topology.cpus[3].cache_end == 4 ? 42 : 2;
              }).status,
              42);
}

}  // namespace
}  // namespace dynfunc
