// SPDX-License-Identifier: MIT
// Targets that no direct jump reaches.
#include <dynfunc/dynfunc.hpp>
#include <dynfunc/introspect.hpp>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstring>

#include "arch.hpp"
#include "os.hpp"

extern "C" {
// A leaf without addresses in it: its bytes do the same anywhere.
[[gnu::noinline, gnu::optimize("no-stack-protector"), gnu::no_sanitize("address", "undefined", "thread")]] int far_leaf(int x) {
    return x + 7;
}
}

namespace far_target {
int near(int x) { return x; }
DYNFUNC(function, int(int), &near);
}  // namespace far_target

namespace dynfunc {
namespace {

// A copy of far_leaf more than `distance` away from it.
class FarCode {
public:
    explicit FarCode(std::ptrdiff_t distance) {
        const std::size_t size = os::page_size();
        const Address wanted{(Address::of(&far_leaf) + distance).value & ~(size - 1)};
        void* memory = mmap(wanted.as<void*>(), size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) return;
        std::memcpy(memory, reinterpret_cast<const void*>(&far_leaf), 64);
        mprotect(memory, size, PROT_READ | PROT_EXEC);
        __builtin___clear_cache(static_cast<char*>(memory), static_cast<char*>(memory) + 64);
        memory_ = memory;
    }
    ~FarCode() {
        if (memory_ != nullptr) munmap(memory_, os::page_size());
    }
    auto entry() const { return reinterpret_cast<int (*)(int)>(memory_); }

private:
    void* memory_ = nullptr;
};

class FarTarget : public testing::TestWithParam<std::ptrdiff_t> {};

TEST_P(FarTarget, IsReachedThroughTheSlotAndReported) {
    const FarCode code(GetParam());
    ASSERT_NE(code.entry(), nullptr);
    EXPECT_EQ(far_target::function(1), 1);
    ASSERT_TRUE(far_target::function.retarget(code.entry()));
    EXPECT_EQ(far_target::function(1), 8);
    const auto info = find_function("far_target::function");
    ASSERT_TRUE(info);
    EXPECT_EQ(info->target, Address::of(code.entry()));
    if (capabilities().form == Form::patched) {
        EXPECT_EQ(info->form, Form::slot);
        EXPECT_STREQ(info->trampolines.at(0).reason, "the target is out of reach of a direct jump");
    }
    ASSERT_TRUE(far_target::function.retarget(&far_target::near));
    EXPECT_EQ(far_target::function(1), 1);
    EXPECT_EQ(find_function("far_target::function")->form, capabilities().form);
}

INSTANTIATE_TEST_SUITE_P(BothWays, FarTarget, testing::Values(std::ptrdiff_t{1} << 33, -(std::ptrdiff_t{1} << 33)),
                         [](const auto& param) { return param.param > 0 ? "Ahead" : "Behind"; });

}  // namespace
}  // namespace dynfunc
