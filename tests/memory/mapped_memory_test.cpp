// SPDX-License-Identifier: MIT
#include <dynfunc/mapped_memory.hpp>

#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/mempolicy.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <memory_resource>
#include <string>
#include <thread>
#include <vector>

#include "address_space.hpp"
#include "child.hpp"
#include "mapped_memory.hpp"
#include "os.hpp"
#include "surroundings.hpp"

namespace dynfunc {
namespace {

constexpr std::size_t MiB = std::size_t{1} << 20;
constexpr std::size_t impossible = std::size_t{1} << 60;

bool is_aligned(const void* memory, std::size_t alignment) { return reinterpret_cast<std::uintptr_t>(memory) % alignment == 0; }

bool is_zero(const void* memory, std::size_t bytes) {
    const auto* begin = static_cast<const std::byte*>(memory);
    return std::all_of(begin, begin + bytes, [](std::byte each) { return each == std::byte{0}; });
}

// The flags of the mapping that holds `at` ("rd wr mr mw me ac hg ..."), and how large its pages are.
struct Mapping {
    std::string flags;
    std::size_t page_kib = 0;
    static Mapping of(const void* at) {
        std::ifstream smaps("/proc/self/smaps");
        const auto address = reinterpret_cast<std::uintptr_t>(at);
        Mapping mapping;
        std::string line;
        bool inside = false;
        while (std::getline(smaps, line)) {
            unsigned long begin, end;
            if (std::sscanf(line.c_str(), "%lx-%lx ", &begin, &end) == 2) inside = begin <= address && address < end;
            if (inside && line.starts_with("KernelPageSize:")) mapping.page_kib = std::stoul(line.substr(15));
            if (inside && line.starts_with("VmFlags:")) mapping.flags = line.substr(8) + ' ';
        }
        return mapping;
    }
};

std::size_t free_huge_pages() {
    std::ifstream file("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
    std::size_t count = 0;
    file >> count;
    return count;
}

class MappedMemory_ : public testing::TestWithParam<bool> {
protected:
    bool huge_pages() const { return GetParam(); }
    std::size_t granule() const { return huge_pages() ? 2 * MiB : os::page_size(); }
    MappedMemory memory_{MappedMemoryOptions{.huge_pages = GetParam()}};
};
INSTANTIATE_TEST_SUITE_P(, MappedMemory_, testing::Bool(),
                         [](const auto& huge_pages) { return huge_pages.param ? "HugePages" : "Pages"; });

TEST_P(MappedMemory_, IsZeroAndHoldsWhatIsWritten) {
    for (const std::size_t bytes : {std::size_t{0}, std::size_t{1}, os::page_size(), os::page_size() + 1, 3 * MiB}) {
        void* memory = memory_.allocate(bytes, 1);
        EXPECT_TRUE(is_zero(memory, bytes));
        std::memset(memory, 0x5a, bytes);
        EXPECT_TRUE(bytes == 0 || static_cast<unsigned char*>(memory)[bytes - 1] == 0x5a);
        memory_.deallocate(memory, bytes, 1);
    }
}

TEST_P(MappedMemory_, HonoursEveryAlignment) {
    for (std::size_t alignment = 1; alignment <= 64 * MiB; alignment *= 2) {
        void *first = memory_.allocate(100, alignment), *second = memory_.allocate(100, alignment);
        EXPECT_TRUE(is_aligned(first, alignment)) << alignment;
        EXPECT_TRUE(is_aligned(second, alignment)) << alignment;
        EXPECT_TRUE(is_aligned(first, granule()));
        std::memset(first, 1, granule());
        std::memset(second, 2, granule());
        memory_.deallocate(first, 100, alignment);
        memory_.deallocate(second, 100, alignment);
    }
}

TEST_P(MappedMemory_, GivesEveryMappingBack) {
    if (test::thread_sanitizer || test::address_sanitizer) GTEST_SKIP() << "the sanitizer maps memory of its own";
    const auto take_and_give_back = [&] {
        for (const std::size_t alignment : {std::size_t{8}, os::page_size(), 8 * MiB}) {
            std::vector<void*> taken;
            for (std::size_t i = 1; i <= 20; ++i) taken.push_back(memory_.allocate(i * 50000, alignment));
            for (std::size_t i = 1; i <= 20; i += 2) memory_.deallocate(taken[i - 1], i * 50000, alignment);
            for (std::size_t i = 2; i <= 20; i += 2) memory_.deallocate(taken[i - 1], i * 50000, alignment);
        }
    };
    take_and_give_back();
    const std::size_t mappings = test::count_mappings();
    take_and_give_back();
    EXPECT_EQ(test::count_mappings(), mappings);
}

TEST_P(MappedMemory_, UnmapsWhatIsFreed) {
    void* memory = memory_.allocate(100000, 8);
    EXPECT_EQ(msync(memory, 1, MS_ASYNC), 0);
    memory_.deallocate(memory, 100000, 8);
    EXPECT_EQ(msync(memory, 1, MS_ASYNC), -1) << "it is mapped still";
    EXPECT_EQ(errno, ENOMEM);
}

TEST_P(MappedMemory_, LeavesItsNeighboursAlone) {
    constexpr std::size_t bytes = 5 * MiB;
    std::vector<void*> taken;
    for (int i = 0; i < 9; ++i) std::memset(taken.emplace_back(memory_.allocate(bytes, 8)), i, bytes);
    for (std::size_t i = 0; i < 9; i += 2) memory_.deallocate(taken[i], bytes, 8);
    for (std::size_t i = 1; i < 9; i += 2) {
        const auto* begin = static_cast<unsigned char*>(taken[i]);
        EXPECT_TRUE(std::all_of(begin, begin + bytes, [i](unsigned char each) { return each == i; }));
        memory_.deallocate(taken[i], bytes, 8);
    }
}

TEST_P(MappedMemory_, KeepsErrno) {
    errno = 4711;
    void* memory = memory_.allocate(3 * MiB, 4 * MiB);
    EXPECT_EQ(errno, 4711);
    memory_.deallocate(memory, 3 * MiB, 4 * MiB);
    EXPECT_EQ(errno, 4711);
}

TEST_P(MappedMemory_, RefusesMoreThanThereIs) {
    for (const std::size_t bytes : {impossible, SIZE_MAX - 4096, SIZE_MAX - 1, SIZE_MAX}) {
        EXPECT_THROW([[maybe_unused]] void* memory = memory_.allocate(bytes, 8), std::bad_alloc) << bytes;
        errno = 0;
        EXPECT_EQ(map_memory(bytes, huge_pages()), nullptr);
        EXPECT_EQ(errno, ENOMEM);
    }
    for (const std::size_t bytes : {std::size_t{1}, SIZE_MAX / 2}) {
        const volatile std::size_t alignment = std::size_t{1} << 63;  // clang knows of a constant that nobody can honour it
        EXPECT_THROW([[maybe_unused]] void* memory = memory_.allocate(bytes, alignment), std::bad_alloc);
    }
}

TEST_P(MappedMemory_, RefusesWhenTheAddressSpaceIsFull) {
    if (test::address_sanitizer || test::thread_sanitizer) GTEST_SKIP() << "the sanitizer needs address space itself";
    if (test::emulated) GTEST_SKIP() << "the emulator ignores this limit";
    EXPECT_EQ(test::in_child([&] {
                  const rlimit limit{1024 * MiB, 1024 * MiB};
                  if (setrlimit(RLIMIT_AS, &limit) != 0) return 1;
                  void* small = map_memory(16 * MiB, huge_pages());
                  if (small == nullptr) return 2;
                  errno = 0;
                  if (map_memory(1024 * MiB, huge_pages()) != nullptr || errno != ENOMEM) return 3;
                  try {
                      (void)memory_.allocate(1024 * MiB, 8);
                      return 4;
                  } catch (const std::bad_alloc&) {
                  }
                  std::memset(small, 1, 16 * MiB);
                  unmap_memory(small, 16 * MiB, huge_pages());
                  return 42;
              }).status,
              42);
}

// The kernel cannot cut a mapping in two at the limit of mappings; the pages must go back nevertheless.
TEST_P(MappedMemory_, GivesPagesBackAtTheLimitOfMappings) {
    if (test::address_sanitizer || test::thread_sanitizer || test::emulated) GTEST_SKIP() << "maps memory of its own";
    std::ifstream file("/proc/sys/vm/max_map_count");
    std::size_t most = 0;
    if (!(file >> most) || most > 200000) GTEST_SKIP() << "the limit is too high for a test";
    EXPECT_EQ(test::in_child([&] {
                  const std::size_t page = os::page_size();
                  auto* memory = static_cast<char*>(map_memory(3 * granule(), huge_pages()));
                  if (memory == nullptr) return 1;
                  memory[granule()] = 1;
                  // Mappings that cannot be joined: every other page with other rights.
                  auto* many =
                      static_cast<char*>(mmap(nullptr, 2 * most * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
                  if (many == MAP_FAILED) return 2;
                  std::size_t cut = 0;
                  while (cut < most && mprotect(many + 2 * cut * page, page, PROT_READ) == 0) ++cut;
                  if (cut == most) return 3;
                  errno = 4711;
                  unmap_memory(memory + granule(), granule(), huge_pages());
                  return errno == 4711 && memory[granule()] == 0 ? 42 : 4;
              }).status,
              42);
}

TEST_P(MappedMemory_, AnyThreadMayFreeWhatAnotherAllocated) {
    void* memory = nullptr;
    std::jthread([&] { std::memset(memory = memory_.allocate(MiB, 8), 7, MiB); }).join();
    EXPECT_EQ(static_cast<char*>(memory)[MiB - 1], 7);
    memory_.deallocate(memory, MiB, 8);
}

TEST_P(MappedMemory_, ServesAVector) {
    std::pmr::vector<int> numbers(&memory_);
    for (int i = 0; i < 100000; ++i) numbers.push_back(i);
    EXPECT_EQ(numbers[99999], 99999);
}

TEST(MappedMemory, EqualsOneOfTheSameOptions) {
    MappedMemory pages, more_pages, huge({.huge_pages = true}), more_huge({.huge_pages = true});
    EXPECT_TRUE(pages.is_equal(more_pages));
    EXPECT_TRUE(huge.is_equal(more_huge));
    EXPECT_FALSE(pages.is_equal(huge));
    EXPECT_FALSE(pages.is_equal(*std::pmr::new_delete_resource()));
    EXPECT_FALSE(pages.options().huge_pages);
}

TEST(MappedMemory, AsksForTransparentHugePagesWhereNoneAreReserved) {
    if (free_huge_pages() != 0) GTEST_SKIP() << "this machine has some reserved";
    if (test::emulated) GTEST_SKIP() << "the emulator ignores advice";
    void* memory = map_memory(3 * MiB, true);
    ASSERT_NE(memory, nullptr);
    const Mapping mapping = Mapping::of(memory);
    if (!mapping.flags.empty() && access("/sys/kernel/mm/transparent_hugepage", F_OK) == 0) {
        EXPECT_NE(mapping.flags.find(" hg "), std::string::npos) << mapping.flags;
    }
    std::memset(memory, 1, 4 * MiB);  // rounded up
    unmap_memory(memory, 3 * MiB, true);
}

TEST(MappedMemory, TakesReservedHugePages) {
    const std::size_t before = free_huge_pages();
    if (before < 3) GTEST_SKIP() << "this machine has none reserved (vm.nr_hugepages)";
    MappedMemory resource({.huge_pages = true});
    void* memory = resource.allocate(3 * MiB, 4 * MiB);
    EXPECT_EQ(Mapping::of(memory).page_kib, 2048u);
    EXPECT_TRUE(is_aligned(memory, 4 * MiB));
    EXPECT_EQ(free_huge_pages(), before - 2);
    resource.deallocate(memory, 3 * MiB, 4 * MiB);
    EXPECT_EQ(free_huge_pages(), before);
    void* more = resource.allocate((before + 1) * 2 * MiB, 8);
    EXPECT_EQ(Mapping::of(more).page_kib, os::page_size() / 1024) << "more than are reserved: all of the other kind";
    resource.deallocate(more, (before + 1) * 2 * MiB, 8);
}

// The node that `at` prefers, or -1.
int preferred_node(void* at) {
    int policy = -1;
    unsigned long nodes[16]{};
    if (syscall(SYS_get_mempolicy, &policy, nodes, 1024UL, at, static_cast<unsigned long>(MPOL_F_ADDR)) != 0) return -1;
    return policy == MPOL_PREFERRED && nodes[0] != 0 ? __builtin_ctzl(nodes[0]) : -1;
}

TEST(PreferNode, TellsTheKernelOfWholePages) {
    const std::size_t page = os::page_size();
    auto* memory = static_cast<char*>(map_memory(4 * page, false));
    errno = 4711;
    const bool done = prefer_node(memory + 1, 3 * page, 0);
    EXPECT_EQ(errno, 4711);
    if (done && preferred_node(memory + page) >= 0) {  // else the policy is accepted and not told
        EXPECT_EQ(preferred_node(memory), -1) << "only part of it is in the range";
        EXPECT_EQ(preferred_node(memory + page), 0);
        EXPECT_EQ(preferred_node(memory + 2 * page), 0);
        EXPECT_EQ(preferred_node(memory + 3 * page), -1);
    }
    std::memset(memory, 1, 4 * page);
    unmap_memory(memory, 4 * page, false);
}

TEST(PreferNode, HasNothingToDoWithoutAWholePage) {
    const std::size_t page = os::page_size();
    auto* memory = static_cast<char*>(map_memory(2 * page, false));
    EXPECT_TRUE(prefer_node(memory, 0, 0));
    EXPECT_TRUE(prefer_node(memory, page - 1, 0));
    EXPECT_TRUE(prefer_node(memory + 1, page, 0));
    unmap_memory(memory, 2 * page, false);
}

TEST(PreferNode, IsFalseForANodeThatCannotBe) {
    void* memory = map_memory(100000, false);
    for (const unsigned node : {1000u, 1023u, 1024u, 1u << 20, ~0u}) {
        errno = 4711;
        EXPECT_FALSE(prefer_node(memory, 100000, node)) << node;
        EXPECT_EQ(errno, 4711);
    }
    std::memset(memory, 1, 100000);
    unmap_memory(memory, 100000, false);
}

bool refuse_mbind() {
    sock_filter filter[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
                            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mbind, 0, 1),
                            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    const sock_fprog program{std::size(filter), filter};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

TEST(PreferNode, IsFalseWhereTheSystemRefuses) {
    if (test::emulated) GTEST_SKIP() << "no seccomp";
    const int status = test::in_child([] {
                           if (!refuse_mbind()) return 77;
                           void* memory = map_memory(100000, false);
                           errno = 4711;
                           if (prefer_node(memory, 100000, 0) || errno != 4711) return 1;
                           std::memset(memory, 1, 100000);
                           return 42;
                       }).status;
    if (status == 77) GTEST_SKIP() << "no seccomp";
    EXPECT_EQ(status, 42);
}

}  // namespace
}  // namespace dynfunc
