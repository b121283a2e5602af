// SPDX-License-Identifier: MIT
#include "text_writer.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <memory>
#include <thread>

#include "address_space.hpp"
#include "child.hpp"
#include "os.hpp"
#include "surroundings.hpp"

namespace dynfunc {
namespace {

// A page with the rights of text, private to the process as an executable's text is.
class TextPage {
public:
    TextPage() : memory_(mmap(nullptr, os::page_size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) {
        std::memset(memory_, 0x11, os::page_size());
        mprotect(memory_, os::page_size(), PROT_READ | PROT_EXEC);
    }
    ~TextPage() { munmap(memory_, os::page_size()); }
    Address at(std::ptrdiff_t offset) const { return Address::of(memory_) + offset; }
    std::uint64_t word(std::ptrdiff_t offset) const {
        return __atomic_load_n(at(offset).as<const std::uint64_t*>(), __ATOMIC_RELAXED);
    }

private:
    void* memory_;
};

std::array<std::byte, 8> bytes_of(std::uint64_t word) { return std::bit_cast<std::array<std::byte, 8>>(word); }

template <class Writing>
class TextWriting_ : public testing::Test {
protected:
    Writing writing_;
    TextPage page_;

    void SetUp() override {
        if (!writing_.write(page_.at(0), bytes_of(page_.word(0)))) GTEST_SKIP() << "the system refuses this writer";
    }
    void write(std::ptrdiff_t offset, std::uint64_t word) {
        const auto done = writing_.write(page_.at(offset), bytes_of(word));
        ASSERT_TRUE(done) << done.error().message();
        EXPECT_EQ(test::writable_code(), "");
    }
};

using Writings = testing::Types<ProcessMemoryWriting, MemoryFileWriting>;
TYPED_TEST_SUITE(TextWriting_, Writings);

TYPED_TEST(TextWriting_, ChangesTheWordAndNothingBesideIt) {
    this->write(64, 0x2222222222222222);
    EXPECT_EQ(this->page_.word(64), 0x2222222222222222u);
    EXPECT_EQ(this->page_.word(56), 0x1111111111111111u);
    EXPECT_EQ(this->page_.word(72), 0x1111111111111111u);
}

TYPED_TEST(TextWriting_, WritesTheLastWordOfAPage) {
    const auto last = static_cast<std::ptrdiff_t>(os::page_size() - 8);
    this->write(last, 7);
    EXPECT_EQ(this->page_.word(last), 7u);
}

TYPED_TEST(TextWriting_, LeavesThePageUnwritableAndTheMappingsBounded) {
    this->write(0, 1);
    const std::size_t mappings = test::count_mappings(), descriptors = test::count_descriptors();
    for (std::uint64_t i = 0; i < 100; ++i) this->write(8, i);
    EXPECT_LT(test::count_mappings(), mappings + 50) << "a mapping is left behind by each write";
    EXPECT_EQ(test::count_descriptors(), descriptors);
    EXPECT_EQ(test::in_child([&] {
                  *this->page_.at(0).template as<volatile char*>() = 0;
                  return 0;
              }).signal,
              SIGSEGV);
}

TYPED_TEST(TextWriting_, ReportsAnAddressWithoutMemory) {
    void* gone = mmap(nullptr, os::page_size(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(gone, os::page_size());
    const auto done = this->writing_.write(Address::of(gone), bytes_of(1));
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().address, Address::of(gone));
    EXPECT_NE(done.error().os_error, 0);
}

TYPED_TEST(TextWriting_, ReadersOfDataSeeWholeWords) {
    std::atomic<bool> stop{false}, torn{false};
    std::jthread reader([&] {
        while (!stop) {
            const std::uint64_t word = this->page_.word(128);
            if (word != 0x1111111111111111 && word != 0x2222222222222222) torn = true;
        }
    });
    for (int i = 0; i < test::rounds(20000); ++i)
        ASSERT_TRUE(this->writing_.write(this->page_.at(128), bytes_of(i % 2 == 0 ? 0x2222222222222222 : 0x1111111111111111)));
    stop = true;
    reader.join();
    EXPECT_FALSE(torn);
}

// In each direction and for both ways of making a child.
template <class Writing, class Start>
void expect_isolation(Writing& writing, TextPage& page, Start&& start) {
    int to_child[2], to_parent[2];
    ASSERT_EQ(pipe(to_child), 0);
    ASSERT_EQ(pipe(to_parent), 0);
    char token = 0;
    const pid_t child = start([&] {
        if (!writing.adopt_in_child()) return 1;
        if (!writing.write(page.at(0), bytes_of(100))) return 2;
        if (::write(to_parent[1], &token, 1) != 1 || read(to_child[0], &token, 1) != 1) return 3;
        return page.word(0) == 100 && page.word(8) == 0x1111111111111111 ? 0 : 4;
    });
    ASSERT_EQ(read(to_parent[0], &token, 1), 1);
    EXPECT_EQ(page.word(0), 0x1111111111111111u) << "the child's write reached the parent";
    ASSERT_TRUE(writing.write(page.at(8), bytes_of(200)));
    ASSERT_EQ(::write(to_child[1], &token, 1), 1);
    EXPECT_EQ(test::wait_for(child).status, 0) << "4: the parent's write reached the child";
    for (int end : {to_child[0], to_child[1], to_parent[0], to_parent[1]}) close(end);
}

TYPED_TEST(TextWriting_, ForkedChildAndParentDoNotSeeEachOthersWrites) {
    expect_isolation(this->writing_, this->page_, [](auto body) { return test::start_child(body); });
}

TYPED_TEST(TextWriting_, RawClonedChildAndParentDoNotSeeEachOthersWrites) {
    if (test::thread_sanitizer) GTEST_SKIP() << "the sanitizer takes the child for a thread";
    expect_isolation(this->writing_, this->page_, [](auto body) { return test::start_raw_child(body); });
}

// A program that becomes a daemon closes every descriptor and opens others under the same numbers.
TEST(ProcessMemoryWriting, DoesNotWriteToAFileThatTookOverItsDescriptor) {
    ProcessMemoryWriting writing;
    const TextPage page;
    if (!writing.write(page.at(0), bytes_of(1))) GTEST_SKIP() << "the system refuses this writer";
    char name[] = "/tmp/dynfunc-test-XXXXXX";
    const int file = mkstemp(name);
    ASSERT_GE(file, 0);
    unlink(name);
    for (int descriptor = 3; descriptor < 600; ++descriptor)
        if (descriptor != file) dup2(file, descriptor);
    const auto done = writing.write(page.at(0), bytes_of(2));
    EXPECT_TRUE(done) << done.error().message();
    EXPECT_EQ(page.word(0), 2u);
    EXPECT_EQ(lseek(file, 0, SEEK_END), 0) << "something was written to the file";
    for (int descriptor = 3; descriptor < 600; ++descriptor)
        if (descriptor != file) close(descriptor);
    close(file);
}

TEST(ProcessMemoryWriting, ItsDescriptorIsCloseOnExec) {
    ProcessMemoryWriting writing;
    const TextPage page;
    if (!writing.write(page.at(0), bytes_of(1))) GTEST_SKIP() << "the system refuses this writer";
    int found = 0;
    for (int descriptor = 3; descriptor < 600; ++descriptor) {
        char target[64] = {};
        const std::string link = "/proc/self/fd/" + std::to_string(descriptor);
        if (readlink(link.c_str(), target, sizeof target - 1) < 0 || std::strstr(target, "/mem") == nullptr) continue;
        ++found;
        EXPECT_NE(fcntl(descriptor, F_GETFD) & FD_CLOEXEC, 0);
    }
    EXPECT_GE(found, 1);
}

TEST(MemoryFileWriting, KeepsNoDescriptorAndNoWritableMapping) {
    MemoryFileWriting writing;
    const TextPage page;
    const std::size_t descriptors = test::count_descriptors();
    if (!writing.write(page.at(0), bytes_of(1))) GTEST_SKIP() << "the system refuses this writer";
    EXPECT_EQ(test::count_descriptors(), descriptors);
}

}  // namespace
}  // namespace dynfunc
