// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>
#include <dynfunc/introspect.hpp>
#include <dynfunc/static_key.hpp>

#include <array>
#include <atomic>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "address_space.hpp"
#include "registry.hpp"
#include "surroundings.hpp"
#include "text_writer.hpp"

namespace keys {
DYNFUNC_STATIC_KEY_DECLARE(declared_first);
DYNFUNC_STATIC_KEY_TRUE(declared_first);
DYNFUNC_STATIC_KEY_TRUE(starts_true);
DYNFUNC_STATIC_KEY_FALSE(starts_false);
DYNFUNC_STATIC_KEY_FALSE(counted);
DYNFUNC_STATIC_KEY_FALSE(a);
DYNFUNC_STATIC_KEY_FALSE(b);
DYNFUNC_STATIC_KEY_FALSE(untouched);
DYNFUNC_STATIC_KEY_FALSE(raced);
namespace inner {
DYNFUNC_STATIC_KEY_TRUE(a);  // another one of the same name
}

// Before main, before or after the library's own start: constructors of other files, and a priority that comes first.
int before_main[2] = {-1, -1};
[[gnu::constructor(101)]] void very_early() { before_main[0] = static_branch_unlikely(starts_true) ? 1 : 0; }
[[gnu::constructor]] void early() { before_main[1] = static_branch_likely(starts_false) ? 1 : 0; }
}  // namespace keys

namespace dynfunc {
namespace {

using namespace keys;

// One site each, so that what stands there can be looked at.
[[gnu::noinline]] bool true_likely() { return static_branch_likely(starts_true); }
[[gnu::noinline]] bool true_unlikely() { return static_branch_unlikely(starts_true); }
[[gnu::noinline]] bool false_likely() { return static_branch_likely(starts_false); }
[[gnu::noinline]] bool false_unlikely() { return static_branch_unlikely(starts_false); }
[[gnu::noinline]] bool is_a() { return static_branch_unlikely(a); }
[[gnu::noinline]] bool is_b() { return static_branch_likely(b); }
[[gnu::noinline]] bool is_counted() { return static_branch_unlikely(counted); }

const detail::BranchKey& branch_of(const auto& key) { return reinterpret_cast<const detail::StaticKeyData&>(key).branch; }

bool is_nop(const detail::BranchRecord& record) {
    const auto nop = arch::encode_site(arch::SiteKind::branch, site_of(record), {});
    return std::memcmp(site_of(record).as<const void*>(), nop->bytes.data(), nop->size) == 0;
}

struct Row {
    const char* name;
    bool (*branch)();
    Result<void> (*set)(bool);
    const detail::BranchKey& key;
    bool starts, likely;
};

const std::array rows{
    Row{"true, likely", &true_likely, [](bool on) { return on ? starts_true.enable() : starts_true.disable(); },
        branch_of(starts_true), true, true},
    Row{"true, unlikely", &true_unlikely, [](bool on) { return on ? starts_true.enable() : starts_true.disable(); },
        branch_of(starts_true), true, false},
    Row{"false, likely", &false_likely, [](bool on) { return on ? starts_false.enable() : starts_false.disable(); },
        branch_of(starts_false), false, true},
    Row{"false, unlikely", &false_unlikely, [](bool on) { return on ? starts_false.enable() : starts_false.disable(); },
        branch_of(starts_false), false, false},
};

// The table in static_key.hpp: a nop where the key goes the expected way, a jump where it does not.
void expect_text(const Row& row, bool enabled) {
    if (capabilities().form != Form::patched) return;
    std::size_t nops = 0, jumps = 0;
    for (const auto* record = row.key.sites; record != nullptr; record = record->next) {
        const bool likely = record->targets[1] == 0;
        if (likely != row.likely) continue;
        EXPECT_EQ(is_nop(*record), enabled == likely) << row.name;
        EXPECT_LE(site_of(*record).value % arch::capabilities().word_bytes + arch::capabilities().site_bytes,
                  arch::capabilities().word_bytes)
            << "the site is not inside one aligned word";
        (is_nop(*record) ? nops : jumps) += 1;
    }
    EXPECT_GT(nops + jumps, 0u) << row.name << ": the site is not there";
}

TEST(StaticKey, GoesTheWayOfTheTruthTable) {
    for (const Row& row : rows) {
        EXPECT_EQ(row.branch(), row.starts) << row.name;
        expect_text(row, row.starts);
        for (const bool enabled : {true, false, true, true, false, false}) {
            ASSERT_TRUE(row.set(enabled));
            EXPECT_EQ(row.branch(), enabled) << row.name;
            expect_text(row, enabled);
        }
        ASSERT_TRUE(row.set(row.starts));
    }
    EXPECT_EQ(test::writable_code(), "");
}

TEST(StaticKey, IsRightInConstructorsBeforeMain) {
    EXPECT_EQ(before_main[0], 1);
    EXPECT_EQ(before_main[1], 0);
}

TEST(StaticKey, IsRightWhereverTheSiteStands) {
    const auto in_lambda = [](int x) { return static_branch_unlikely(a) ? x : 0; };
    const auto in_loop = [] {
        int turns = 0;
        for (int i = 0; i < 10; ++i)
            if (static_branch_unlikely(a)) ++turns;
        return turns;
    };
    const auto everywhere = [&] {
        return std::vector<int>{in_lambda(1), in_loop() / 10, []<class T>(T one) -> T {
                                    if (static_branch_likely(a)) return one;
                                    return 0;
                                }(1)};
    };
    EXPECT_EQ(everywhere(), std::vector<int>({0, 0, 0}));
    ASSERT_TRUE(a.enable());
    EXPECT_EQ(everywhere(), std::vector<int>({1, 1, 1}));
    ASSERT_TRUE(a.disable());
    EXPECT_EQ(everywhere(), std::vector<int>({0, 0, 0}));
}

TEST(StaticKey, OfTheSameNameInTwoNamespacesAreTwo) {
    EXPECT_FALSE(static_branch_unlikely(keys::a));
    EXPECT_TRUE(static_branch_unlikely(keys::inner::a));
    EXPECT_TRUE(declared_first.is_enabled());
}

TEST(StaticKey, CountsItsUsers) {
    ASSERT_TRUE(counted.increment());
    ASSERT_TRUE(counted.increment());
    EXPECT_TRUE(is_counted());
    ASSERT_TRUE(counted.decrement());
    EXPECT_TRUE(is_counted());
    EXPECT_EQ(find_static_key("keys::counted")->count, 1u);
    ASSERT_TRUE(counted.decrement());
    EXPECT_FALSE(is_counted());
    const auto refused = counted.decrement();
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Errc::count_out_of_range);
    EXPECT_EQ(refused.error().address, Address::of(&counted));
    EXPECT_FALSE(is_counted());
}

TEST(StaticKey, ACountThatWouldOverflowIsAnError) {
    auto& data = reinterpret_cast<detail::StaticKeyData&>(counted);
    data.count = ~std::uint64_t{0};
    const auto refused = counted.increment();
    data.count = 0;
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Errc::count_out_of_range);
}

TEST(UpdateAll, ChangesEveryElement) {
    ASSERT_TRUE(update_all({a.to(true), b.to(true)}));
    EXPECT_TRUE(is_a() && is_b());
    ASSERT_TRUE(update_all({a.to(false), b.to(true)}));
    EXPECT_TRUE(!is_a() && is_b());
    ASSERT_TRUE(update_all({b.to(false)}));
    EXPECT_FALSE(is_b());
}

TEST(UpdateAll, RefusesBadBatchesAndChangesNothing) {
    const auto refusal = [](const Result<void>& done, Errc code, std::size_t element) {
        ASSERT_FALSE(done);
        EXPECT_EQ(done.error().code, code);
        EXPECT_EQ(done.error().element, element);
        EXPECT_FALSE(is_a() || is_b());
    };
    refusal(update_all(std::span<const KeyUpdate>()), Errc::empty_batch, 0);
    refusal(update_all({a.to(true), b.to(true), a.to(false)}), Errc::duplicate_in_batch, 2);
    refusal(update_all({a.to(true), KeyUpdate()}), Errc::foreign_key, 1);
    auto& identity = reinterpret_cast<detail::StaticKeyData&>(b).identity;
    const void* owner = std::exchange(identity.owner, &identity);
    refusal(update_all({a.to(true), b.to(true)}), Errc::foreign_key, 1);
    identity.owner = owner;
    EXPECT_TRUE(update_all({a.to(true), b.to(true)})) << "a mark of the refused batch was left";
    EXPECT_TRUE(update_all({a.to(false), b.to(false)}));
}

// A debugger's breakpoint on a site.
TEST(UpdateAll, RefusesForeignBytesAtASiteAndChangesNothing) {
    if (capabilities().writer != TextWriter::process_memory) GTEST_SKIP() << capabilities().text();
    ASSERT_FALSE(is_b());
    const Address site = site_of(*branch_of(b).sites);
    const std::size_t word_bytes = arch::capabilities().word_bytes;
    const Address word{site.value & ~(word_bytes - 1)};
    std::vector<std::byte> before(word.as<const std::byte*>(), word.as<const std::byte*>() + word_bytes);
    auto changed = before;
    changed[site.value - word.value] = std::byte{0xcc};
    ProcessMemoryWriting writing;
    ASSERT_TRUE(writing.write(word, changed));
    const auto refused = update_all({a.to(true), b.to(true)});
    ASSERT_TRUE(writing.write(word, before));
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Errc::bytes_changed);
    EXPECT_EQ(refused.error().address, site);
    EXPECT_EQ(refused.error().element, 1u);
    EXPECT_FALSE(is_a() || is_b() || a.is_enabled() || b.is_enabled());
    EXPECT_EQ(find_static_key("keys::b")->count, 0u);
    ASSERT_TRUE(update_all({a.to(true), b.to(true)}));
    EXPECT_TRUE(is_a() && is_b());
    ASSERT_TRUE(update_all({a.to(false), b.to(false)}));
}

TEST(StaticKeyInfo, TellsWhatIsPatchedAndWhyNot) {
    const auto info = find_static_key("keys::starts_true");
    ASSERT_TRUE(info);
    EXPECT_TRUE(info->enabled);
    EXPECT_EQ(info->file, std::string(__FILE__));
    if (DYNFUNC_GENERIC_SITES) {
        EXPECT_EQ(info->branches.sites, 0u);
    } else {
        EXPECT_GE(info->branches.sites, 3u);
        const bool patched = capabilities().form == Form::patched;
        EXPECT_EQ(info->branches.patched, patched ? info->branches.sites : 0u);
        EXPECT_EQ(std::string(info->branches.reason).empty(), patched);
    }
    EXPECT_EQ(static_keys("keys::inner::*").size(), 1u);
    EXPECT_FALSE(find_static_key("keys::none"));
    EXPECT_EQ(find_static_key("keys::untouched")->branches.sites, 0u);
}

// Threads go through a site while it is switched; what each sees is old or new, and after the switch new.
TEST(StaticKeyStress, ASiteThatIsRunGoesOldOrNewAndAfterTheSwitchNew) {
    std::atomic<bool> stop{false};
    std::atomic<long> state{0};  // twice the number of the switch; odd while one is going on
    std::atomic<long> wrong{0}, seen[2] = {0, 0};
    const auto run = [&] {
        while (!stop.load(std::memory_order_relaxed)) {
            const long before = state.load(std::memory_order_acquire);
            const bool enabled = static_branch_unlikely(raced);
            const long after = state.load(std::memory_order_acquire);
            seen[enabled ? 1 : 0].fetch_add(1, std::memory_order_relaxed);
            if (before == after && before % 2 == 0 && enabled != (before / 2 % 2 == 1)) ++wrong;
        }
    };
    std::vector<std::thread> threads;
    for (int i = 0; i < 3; ++i) threads.emplace_back(run);
    // Until both ways were seen, however the threads are scheduled.
    for (long i = 1; i <= test::rounds(20'000, 100) || seen[0] == 0 || seen[1] == 0; ++i) {
        state.store(2 * i - 1, std::memory_order_release);
        ASSERT_TRUE(i % 2 == 1 ? raced.enable() : raced.disable());
        state.store(2 * i, std::memory_order_release);
    }
    stop = true;
    for (auto& thread : threads) thread.join();
    EXPECT_EQ(wrong, 0);
    ASSERT_TRUE(raced.disable());
}

}  // namespace
}  // namespace dynfunc
