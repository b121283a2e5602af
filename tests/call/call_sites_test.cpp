// SPDX-License-Identifier: MIT
// Call sites that are patched themselves: which, when, to where; and what is true of them in every form of a process.
#include <dynfunc/call_sites.hpp>

#include <gtest/gtest.h>
#include <sys/auxv.h>
#include <dynfunc/dynfunc.hpp>
#include <dynfunc/introspect.hpp>
#include <dynfunc/tracepoint.hpp>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "address_space.hpp"
#include "arch.hpp"
#include "call_site_samples.hpp"
#include "child.hpp"
#include "code_copy.hpp"
#include "os.hpp"
#include "probe_stub.hpp"
#include "surroundings.hpp"
#include "text_writer.hpp"

namespace sites {
int one(int x) { return x + 1; }
int two(int x) { return x + 2; }
int throwing(int x) { throw std::runtime_error(std::to_string(x)); }
DYNFUNC(function, int(int), &one);
DYNFUNC(beside, int(int), &one);
DYNFUNC(untouched, int(int), &one);
DYNFUNC(calm, int(int), &one);
DYNFUNC(stopped, int(int), &one);
DYNFUNC(procedure, void(int), nullptr);
DYNFUNC_TRACEPOINT(event, void(int value));

int last = 0;
void note(int x) { last = x; }
[[gnu::noinline]] void call_procedure(int x) {
    procedure(x);
    last += 1;
}
[[gnu::noinline]] int call_untouched(int x) { return 2 * untouched(x); }
[[gnu::noinline]] int call_both(int x) { return 2 * function(x) + calm(x); }
[[gnu::noinline]] int call_stopped(int x) { return 2 * stopped(x) + stopped(x + 1); }
[[gnu::noinline]] void fire(int value) {
    DYNFUNC_TRACE(event, value);
    last += 1;
}
}  // namespace sites

namespace dynfunc {
namespace {

using namespace sites;
using test::call_sites_of;
using test::site_samples;

bool are_patched() { return *call_site_patching().reason == '\0'; }
const char* asked_for() {
    const char* when = std::getenv("DYNFUNC_CALL_SITES");
    return when != nullptr ? when : "";
}

// As the process began.
const CallSitePatching at_start = call_site_patching();
const std::vector<ObjectInfo> objects_at_start = objects();

// In the megabytes of an instrumented program some bytes look like a call's and are none.
constexpr std::size_t by_chance = test::address_sanitizer || test::thread_sanitizer ? 10 : 0;

class CallSite : public testing::Test {
protected:
    void SetUp() override { ASSERT_TRUE(set_call_sites(CallSites::on_change)); }
    void TearDown() override {
        ASSERT_TRUE(retarget_all({function.to(&one), beside.to(&one), procedure.to(nullptr)}));
        ASSERT_TRUE(set_call_sites(CallSites::on_change));
        EXPECT_EQ(test::writable_code(), "");
    }
    static void expect_result(int result) {
        for (std::size_t i = 0; i < site_samples; ++i) ASSERT_EQ(call_sites_of<function>[i](10), result) << "site " << i;
    }
};

// Writes a few bytes of code inside one word, as a debugger does. What stood there is given back.
std::vector<std::byte> put(Address at, std::span<const std::byte> code) {
    static ProcessMemoryWriting writing;
    const Address word{at.value & ~std::uintptr_t{7}};
    std::array<std::byte, 8> bytes;
    std::memcpy(bytes.data(), word.as<const void*>(), bytes.size());
    const auto place = std::span(bytes).subspan(static_cast<std::size_t>(at - word), code.size());
    std::vector<std::byte> before(place.begin(), place.end());
    std::ranges::copy(code, place.begin());
    EXPECT_TRUE(writing.write(word, bytes));
    EXPECT_EQ(os::sync_cores(), 0);
    return before;
}
std::vector<std::byte> put_breakpoint(Address at) {
    const arch::Breakpoint& breakpoint = arch::breakpoint();
    return put(at, std::span(breakpoint.bytes).first(breakpoint.size));
}

#define SKIP_UNLESS_PATCHED() \
    if (!are_patched()) GTEST_SKIP() << call_site_patching().reason

bool lies_in_one_word(Address field) {
    const arch::Capabilities& machine = arch::capabilities();
    return field.value / machine.word_bytes == (field.value + machine.reference_bytes - 1u) / machine.word_bytes;
}
// Otherwise some instructions lie across two words.
bool has_words_as_long_as_references() { return arch::capabilities().word_bytes == arch::capabilities().reference_bytes; }

Address trampoline_of(std::string_view name) {
    return Address{find_function(name)->trampolines.at(0).code.value & ~std::uintptr_t{15}};
}

// Each site leads straight to `target`, but for those that one store does not replace; both kinds are there.
void expect_sites_lead_to(Address target, const char* reason_elsewhere = "one store does not replace its distance") {
    std::size_t patched = 0, left = 0;
    for (const CallSiteInfo& site : call_sites("sites::function")) {
        if (lies_in_one_word(site.field) && target) {
            ++patched;
            EXPECT_TRUE(site.patched) << site.reason;
            EXPECT_STREQ(site.reason, "");
            EXPECT_EQ(arch::reference_target(site.field), target);
        } else {
            ++left;
            EXPECT_FALSE(site.patched);
            if (lies_in_one_word(site.field)) {
                EXPECT_STREQ(site.reason, reason_elsewhere);
            }
            EXPECT_EQ(arch::reference_target(site.field), trampoline_of("sites::function"));
        }
    }
    EXPECT_GE(patched + left, site_samples);
    EXPECT_EQ(left > 0, !target || !has_words_as_long_as_references());
    if (target) {
        EXPECT_GT(patched, site_samples / 2);
    }
    const auto info = find_function("sites::function");
    EXPECT_EQ(info->call_sites.found, patched + left);
    EXPECT_EQ(info->call_sites.patched, patched);
    std::size_t with_reason = 0;
    for (const auto& each : info->call_sites.left) with_reason += each.sites;
    EXPECT_EQ(with_reason, left);
}

TEST_F(CallSite, AProcessThatChangesNothingReadsNothing) {
    EXPECT_STREQ(to_string(at_start.when), std::strcmp(asked_for(), "0") == 0   ? "never"
                                           : std::strcmp(asked_for(), "1") == 0 ? "always"
                                                                                : "on change");
    ASSERT_EQ(objects_at_start.size(), DYNFUNC_GENERIC_SITES ? 0u : 1u);
    if (objects_at_start.empty()) return;
    if (at_start.when != CallSites::always) {
        EXPECT_EQ(objects_at_start[0].text_bytes, 0u);
        EXPECT_STRNE(objects_at_start[0].reason, "");
    } else if (are_patched()) {
        EXPECT_GT(objects_at_start[0].text_bytes, 1000u);
        EXPECT_GE(objects_at_start[0].call_sites, site_samples);
        EXPECT_STREQ(objects_at_start[0].reason, "");
    }
}

// Before any other test changes a function that is called beside it.
TEST_F(CallSite, OfAFunctionThatIsNeverChangedSaysSoThoughAnotherOneBesideItIsPatched) {
    SKIP_UNLESS_PATCHED();
    if (at_start.when == CallSites::always) GTEST_SKIP() << "all are patched";
    ASSERT_TRUE(function.retarget(&two));
    EXPECT_EQ(call_both(1), 8);
    const auto site = call_sites("sites::calm").at(0);
    EXPECT_FALSE(site.patched);
    EXPECT_STREQ(site.reason,
                 lies_in_one_word(site.field) ? "what it calls was never changed" : "one store does not replace its distance");
}

// Also where the linker leaves gaps between its segments (the test is linked so as well).
TEST_F(CallSite, OfTheExecutableAreLookedForFromItsFirstSegmentToItsLast) {
    if (DYNFUNC_GENERIC_SITES) GTEST_SKIP() << "there is nothing to patch";
    const AddressRange mapped = objects().at(0).mapped;
    EXPECT_TRUE(mapped.contains(Address{getauxval(AT_PHDR)}));
    EXPECT_TRUE(mapped.contains(Address::of(&one)));
    EXPECT_TRUE(mapped.contains(Address::of(&last)));
    if (!are_patched()) return;
    ASSERT_TRUE(function.retarget(&two));
    EXPECT_STREQ(objects().at(0).reason, "");
}

// A breakpoint takes the first byte of an instruction, and the reader of instructions its way. Before any other test
// asks for all call sites, as the next one.
TEST_F(CallSite, BehindABreakpointIsLookedForAgainAtTheNextChange) {
    SKIP_UNLESS_PATCHED();
    if (at_start.when == CallSites::always) GTEST_SKIP() << "they were looked for when the process began";
    if (capabilities().writer != TextWriter::process_memory) GTEST_SKIP() << "the page is shared memory";
    ASSERT_TRUE(function.retarget(&two));
    const auto sites = call_sites("sites::stopped");
    ASSERT_EQ(sites.size(), 2u);
    const Address first = arch::reference_begin(std::min(sites[0].field, sites[1].field));
    const auto before = put_breakpoint(first);
    ASSERT_TRUE(stopped.retarget(&two));
    EXPECT_EQ(find_function("sites::stopped")->call_sites.found, 2u);
    put(first, before);
    EXPECT_EQ(call_stopped(1), 10);
    ASSERT_TRUE(stopped.retarget(&one));
    for (const CallSiteInfo& site : call_sites("sites::stopped"))
        EXPECT_EQ(site.patched, lies_in_one_word(site.field)) << site.reason;
    EXPECT_LE(objects().at(0).no_call_sites, by_chance);
    EXPECT_EQ(call_stopped(1), 7);
}

TEST_F(CallSite, OfAFunctionThatIsNeverChangedIsPatchedOnlyWhenAlwaysIsAskedFor) {
    SKIP_UNLESS_PATCHED();
    ASSERT_TRUE(function.retarget(&two));
    if (at_start.when != CallSites::always) {
        const auto untouched_yet = find_function("sites::untouched")->call_sites;
        EXPECT_GE(untouched_yet.found, 1u);
        EXPECT_LE(untouched_yet.found, 1u + by_chance);  // nothing was read around them yet
        EXPECT_EQ(untouched_yet.patched, 0u);
        EXPECT_STREQ(untouched_yet.left.at(0).reason, "what it calls was never changed, so it was not looked at");
    }
    ASSERT_TRUE(set_call_sites(CallSites::always));
    const auto info = find_function("sites::untouched");
    ASSERT_EQ(info->call_sites.found, 1u);
    const auto site = call_sites("sites::untouched").at(0);
    EXPECT_EQ(site.patched, lies_in_one_word(site.field));
    EXPECT_EQ(call_untouched(1), 4);
}

TEST_F(CallSite, CallsReachTheTargetInEveryForm) {
    for (const CallSites when : {CallSites::always, CallSites::on_change, CallSites::never, CallSites::on_change}) {
        ASSERT_TRUE(set_call_sites(when));
        expect_result(11);
        ASSERT_TRUE(function.retarget(&two));
        expect_result(12);
        ASSERT_TRUE(function.retarget(&one));
        expect_result(11);
    }
}

TEST_F(CallSite, LeadsToTheTargetOnceItsFunctionWasChanged) {
    SKIP_UNLESS_PATCHED();
    ASSERT_TRUE(function.retarget(&two));
    expect_sites_lead_to(Address::of(&two));
    expect_result(12);
    ASSERT_TRUE(function.retarget(&one));
    expect_sites_lead_to(Address::of(&one));
    EXPECT_LE(objects()[0].no_call_sites, by_chance);
}

TEST_F(CallSite, NeverLeadsEverySiteBack) {
    SKIP_UNLESS_PATCHED();
    ASSERT_TRUE(function.retarget(&two));
    expect_sites_lead_to(Address::of(&two));
    ASSERT_TRUE(set_call_sites(CallSites::never));
    EXPECT_EQ(call_site_patching().when, CallSites::never);
    expect_sites_lead_to({}, "call sites are not to be patched");
    expect_result(12);
    ASSERT_TRUE(function.retarget(&one));
    expect_sites_lead_to({}, "call sites are not to be patched");
    expect_result(11);
    ASSERT_TRUE(set_call_sites(CallSites::on_change));
    expect_sites_lead_to(Address::of(&one));
}

TEST_F(CallSite, OfANullTargetDoesWhatTheTrampolineDoes) {
    ASSERT_TRUE(function.retarget(nullptr));
    expect_result(0);
    ASSERT_TRUE(procedure.retarget(&note));
    last = 0;
    call_procedure(5);
    EXPECT_EQ(last, 6);
    ASSERT_TRUE(procedure.retarget(nullptr));
    last = 0;
    call_procedure(5);
    EXPECT_EQ(last, 1);
    if (!are_patched()) return;
    for (const CallSiteInfo& site : call_sites("sites::procedure")) {
        EXPECT_FALSE(site.patched);
        EXPECT_EQ(arch::reference_target(site.field), trampoline_of("sites::procedure"));
    }
}

TEST_F(CallSite, OfATargetOutOfReachStaysWithTheTrampoline) {
    const test::CodeCopy far(&test::leaf<7>, Address::of(&test::leaf<7>) + (std::ptrdiff_t{1} << 33), 0);
    ASSERT_TRUE(function.retarget(&two));
    ASSERT_TRUE(function.retarget(far.entry()));
    expect_result(10 * 16 + 7);
    if (are_patched()) expect_sites_lead_to({}, "the target is out of reach of a direct call");
    ASSERT_TRUE(function.retarget(&two));
    expect_result(12);
    if (are_patched()) expect_sites_lead_to(Address::of(&two));
}

TEST_F(CallSite, LetsExceptionsThrough) {
    ASSERT_TRUE(function.retarget(&throwing));
    for (std::size_t i = 0; i < site_samples; ++i) {
        try {
            call_sites_of<function>[i](static_cast<int>(i));
            ADD_FAILURE() << "site " << i << " did not throw";
        } catch (const std::runtime_error& error) {
            EXPECT_EQ(error.what(), std::to_string(i));
        }
    }
}

TEST_F(CallSite, OfATracepointLeadsToItsOneCallback) {
    auto attached = event.attach(&note, {.static_lifetime = true});
    ASSERT_TRUE(attached);
    last = 0;
    fire(7);
    EXPECT_EQ(last, 8);
    if (are_patched()) {
        const auto info = find_tracepoint("sites::event");
        EXPECT_EQ(info->call_sites.found, 3u) << "the traced one, two in what delivers";
        for (const CallSiteInfo& site : call_sites("sites::event")) {
            EXPECT_EQ(site.patched, lies_in_one_word(site.field)) << site.reason;
            if (site.patched) {
                EXPECT_EQ(arch::reference_target(site.field), Address::of(&note));
            }
        }
    }
    ASSERT_TRUE(attached->detach());
    fire(7);
    EXPECT_EQ(last, 9);
    for (const CallSiteInfo& site : call_sites("sites::event")) {
        EXPECT_FALSE(site.patched) << "a thread that is late must not reach a callback that is gone";
        EXPECT_NE(arch::reference_target(site.field), Address::of(&note));
    }
}

TEST_F(CallSite, TextIsAsItWasLinkedOnceNoSiteIsPatched) {
    SKIP_UNLESS_PATCHED();
    ASSERT_TRUE(set_call_sites(CallSites::never));
    const auto text = [] {
        const auto sites = call_sites("sites::*");
        std::map<std::uintptr_t, std::string> bytes;
        for (const CallSiteInfo& site : sites) bytes[site.field.value] = std::string((site.field - 32).as<const char*>(), 64);
        return bytes;
    };
    ASSERT_TRUE(function.retarget(&two));
    ASSERT_TRUE(set_call_sites(CallSites::always));
    ASSERT_TRUE(set_call_sites(CallSites::never));
    const auto before = text();
    ASSERT_TRUE(set_call_sites(CallSites::always));
    EXPECT_NE(text(), before);
    ASSERT_TRUE(set_call_sites(CallSites::never));
    EXPECT_EQ(text(), before);
}

TEST_F(CallSite, APatchedPageStaysTheFilesAndIsReported) {
    SKIP_UNLESS_PATCHED();
    if (capabilities().writer != TextWriter::process_memory) GTEST_SKIP() << "the page is a memory file's";
    if (test::address_sanitizer || test::thread_sanitizer) GTEST_SKIP() << "sanitizers write text of their own";
    ASSERT_TRUE(function.retarget(&two));
    const Address at = call_sites("sites::function").at(0).field;
    EXPECT_EQ(test::file_mapped_at(at), test::file_mapped_at(Address::of(&one)));
    EXPECT_NE(test::file_mapped_at(at), "");

    const auto self = objects().at(0);
    std::ifstream smaps("/proc/self/smaps");
    std::size_t private_kib = 0;
    bool in_text = false;
    for (std::string line; std::getline(smaps, line);) {
        std::uintptr_t begin = 0, end = 0, kib = 0;
        char rights[8];
        if (std::sscanf(line.c_str(), "%zx-%zx %7s", &begin, &end, rights) == 3)
            in_text = self.mapped.contains(Address{begin}) && rights[2] == 'x';
        else if (in_text && std::sscanf(line.c_str(), "Anonymous: %zu", &kib) == 1)
            private_kib += kib;
    }
    EXPECT_GT(self.private_pages, 0u);
    EXPECT_EQ(private_kib, self.private_pages * os::page_size() / 1024);
}

TEST_F(CallSite, OfAChildIsItsOwn) {
    ASSERT_TRUE(function.retarget(&two));
    EXPECT_EQ(test::in_child([] {
                  if (call_sites_of<function>[5](1) != 3 || !function.retarget(&one)) return 1;
                  for (const auto call : call_sites_of<function>)
                      if (call(1) != 2) return 2;
                  return 0;
              }).status,
              0);
    expect_result(12);
    if (are_patched()) expect_sites_lead_to(Address::of(&two));
}

class CallSiteWithForeignBytes : public CallSite {
protected:
    void SetUp() override {
        SKIP_UNLESS_PATCHED();
        if (capabilities().writer != TextWriter::process_memory) GTEST_SKIP() << "the page is shared memory";
        CallSite::SetUp();
        ASSERT_TRUE(function.retarget(&two));
        for (const CallSiteInfo& site : call_sites("sites::function"))
            if (site.patched) field_ = site.field;
        ASSERT_TRUE(field_);
    }
    Address field_;
};

TEST_F(CallSiteWithForeignBytes, RefusesTheUpdateAndNamesTheAddress) {
    const std::array changed{*field_.as<const std::byte*>() ^ std::byte{0x40}};
    const auto before = put(field_, changed);
    const auto done = retarget_all({beside.to(&two), function.to(&one)});
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().code, Errc::bytes_changed);
    EXPECT_EQ(done.error().address, field_);
    EXPECT_EQ(done.error().element, 1u);
    EXPECT_EQ(function.target(), &two) << "the key must not run ahead of the text";
    EXPECT_EQ(beside.target(), &one);
    EXPECT_FALSE(set_call_sites(CallSites::never));
    EXPECT_EQ(call_site_patching().when, CallSites::on_change);
    put(field_, before);
    expect_result(12);
    expect_sites_lead_to(Address::of(&two));
}

// A debugger's breakpoint stands on the first byte of an instruction, which is never written.
TEST_F(CallSiteWithForeignBytes, ABreakpointOnTheInstructionStays) {
    if (has_words_as_long_as_references()) GTEST_SKIP() << "a breakpoint takes the place of the whole branch here";
    const Address opcode = arch::reference_begin(field_);
    const auto before = put_breakpoint(opcode);
    ASSERT_TRUE(function.retarget(&one));
    EXPECT_EQ(*opcode.as<const std::byte*>(), arch::breakpoint().bytes[0]);
    EXPECT_EQ(arch::reference_target(field_), Address::of(&one));
    put(opcode, before);
    expect_result(11);
}

}  // namespace
}  // namespace dynfunc
