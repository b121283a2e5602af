// SPDX-License-Identifier: MIT
// Verdicts: on functions whose bytes are known, on the C library as it is loaded and as it lies in its file, on files that are
// damaged in known ways, and on files that are damaged anyhow.
#include <dynfunc/inspect.hpp>

#include <dlfcn.h>
#include <elf.h>
#include <gnu/libc-version.h>
#include <gtest/gtest.h>
#include <link.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "known_functions.hpp"
#include "surroundings.hpp"

namespace dynfunc {
namespace {

using test::Known;
using test::known_functions;

const FunctionVerdict* find(const Inspection& inspection, Address begin) {
    const auto found = std::ranges::lower_bound(inspection.functions, begin, {}, &FunctionVerdict::begin);
    return found != inspection.functions.end() && found->begin == begin ? &*found : nullptr;
}

Address own_code() { return known_functions().front().begin; }
Address libc_code() { return Address::of(&gnu_get_libc_version); }

// `less`: what loaded addresses have more than those in `inspection`.
void expect_known(const Inspection& inspection, Address less) {
    const auto linked = [less](Address at) { return at - static_cast<std::ptrdiff_t>(less.value); };
    for (const Known& known : known_functions()) {
        SCOPED_TRACE(known.name);
        const FunctionVerdict* verdict = find(inspection, linked(known.begin));
        if (verdict == nullptr) {
            ADD_FAILURE();
            continue;
        }
        EXPECT_EQ(verdict->name, known.name);
        EXPECT_EQ(verdict->size, known.size);
        EXPECT_EQ(verdict->site, known.site) << to_string(verdict->site);
        EXPECT_EQ(verdict->why_not_better.has_value(), known.site != SiteClass::whole);
        if (!verdict->why_not_better) continue;
        EXPECT_EQ(verdict->why_not_better->code, known.why) << verdict->why_not_better->message();
        EXPECT_EQ(verdict->why_not_better->address, linked(known.in_the_way));
    }
}

void expect_sound(const Inspection& inspection) {
    std::array<std::size_t, site_classes> totals{};
    for (std::size_t i = 0; i < inspection.functions.size(); ++i) {
        const FunctionVerdict& function = inspection.functions[i];
        if (i != 0) {
            ASSERT_LT(inspection.functions[i - 1].begin, function.begin);
        }
        ++totals[static_cast<std::size_t>(function.site)];
        ASSERT_EQ(function.why_not_better.has_value(), function.site != SiteClass::whole);
    }
    EXPECT_EQ(totals, inspection.totals);
}

TEST(Inspect, JudgesKnownFunctionsOfThisProgram) {
    const auto found = inspect(own_code());
    ASSERT_TRUE(found) << found.error().message();
    EXPECT_EQ(found->path, std::filesystem::read_symlink("/proc/self/exe"));
    EXPECT_FALSE(found->no_names);
    expect_known(*found, {});
    expect_sound(*found);
}

TEST(Inspect, JudgesKnownFunctionsOfItsFile) {
    const auto loaded = inspect(own_code());
    const auto found = inspect_file("/proc/self/exe");
    ASSERT_TRUE(found) << found.error().message();
    EXPECT_EQ(found->base, Address{});
    expect_known(*found, loaded->base);
    expect_sound(*found);
}

TEST(Inspect, DemanglesNames) {
    const auto found = inspect(own_code());
    ASSERT_TRUE(found);
    const FunctionVerdict* verdict = find(*found, Address::of(static_cast<const char* (*)(SiteClass) noexcept>(&to_string)));
    ASSERT_NE(verdict, nullptr);
    EXPECT_EQ(verdict->name, "dynfunc::to_string(dynfunc::SiteClass)");
}

TEST(Inspect, LoadedAndFileAgreeOnTheCLibrary) {
    const auto loaded = inspect(libc_code());
    ASSERT_TRUE(loaded) << loaded.error().message();
    EXPECT_FALSE(loaded->no_names);
    EXPECT_NE(loaded->base, Address{});
    const auto file = inspect_file(loaded->path);
    ASSERT_TRUE(file) << file.error().message();
    expect_sound(*loaded);
    expect_sound(*file);
    EXPECT_GT(file->functions.size(), 1000u);
    EXPECT_EQ(loaded->totals, file->totals);
    ASSERT_EQ(loaded->functions.size(), file->functions.size());
    for (std::size_t i = 0; i < file->functions.size(); ++i) {
        const FunctionVerdict &a = loaded->functions[i], &b = file->functions[i];
        ASSERT_EQ(a.begin - loaded->base, static_cast<std::ptrdiff_t>(b.begin.value)) << b.name;
        ASSERT_EQ(a.size, b.size) << b.name;
        ASSERT_EQ(a.name, b.name);
        ASSERT_EQ(a.site, b.site) << b.name;
        ASSERT_EQ(a.why_not_better.has_value(), b.why_not_better.has_value()) << b.name;
        if (!a.why_not_better) continue;
        ASSERT_EQ(a.why_not_better->code, b.why_not_better->code) << b.name;
        ASSERT_EQ(a.why_not_better->address - loaded->base, static_cast<std::ptrdiff_t>(b.why_not_better->address.value));
    }
    const FunctionVerdict* named = find(*loaded, libc_code());
    ASSERT_NE(named, nullptr);
    EXPECT_EQ(named->name, "gnu_get_libc_version");
    EXPECT_LE(file->percent(SiteClass::breakpoint) + file->percent(SiteClass::refused), 0.1);
}

TEST(Inspect, FindsModulesByName) {
    const auto libc = inspect(libc_code());
    ASSERT_TRUE(libc);
    const std::filesystem::path path = libc->path, own = std::filesystem::read_symlink("/proc/self/exe");
    for (const std::string& name : {path.filename().string(), path.string(), std::filesystem::canonical(path).string()}) {
        const auto found = inspect_module(name);
        ASSERT_TRUE(found) << name;
        EXPECT_EQ(found->base, libc->base) << name;
        EXPECT_EQ(found->totals, libc->totals) << name;
    }
    for (const std::string& name : {own.filename().string(), own.string(), std::string("/proc/self/exe")}) {
        const auto found = inspect_module(name);
        ASSERT_TRUE(found) << name;
        EXPECT_NE(find(*found, own_code()), nullptr) << name;
    }
    for (const char* name : {"", "libc", "no such thing.so", "/lib/no such thing.so", "/"}) {
        const auto found = inspect_module(name);
        ASSERT_FALSE(found) << name;
        EXPECT_EQ(found.error().code, Errc::not_loaded) << name;
    }
}

TEST(Inspect, RefusesWhatIsInNoObject) {
    int on_stack = 0;
    const auto found = inspect(Address::of(&on_stack));
    ASSERT_FALSE(found);
    EXPECT_EQ(found.error().code, Errc::no_unwind_table);
    EXPECT_EQ(found.error().address, Address::of(&on_stack));
}

using Bytes = std::vector<char>;

Bytes bytes_of(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

// A small program, copied to where it can be damaged.
class InspectFile : public testing::Test {
protected:
    InspectFile() : good_(bytes_of(DYNFUNC_TEST_SMALL_PROGRAM)) {
        char folder[] = "/tmp/dynfunc-inspect-XXXXXX";
        folder_ = ::mkdtemp(folder);
        path_ = folder_ / "file";
    }
    ~InspectFile() override { std::filesystem::remove_all(folder_); }

    std::string write(const Bytes& bytes, const char* name = "file") const {
        const std::filesystem::path path = folder_ / name;
        std::ofstream(path, std::ios::binary | std::ios::trunc).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
        return path;
    }
    Result<Inspection> inspect_bytes(const Bytes& bytes) const { return inspect_file(write(bytes)); }

    template <class T>
    static T get(const Bytes& bytes, std::size_t at) {
        T value;
        std::memcpy(&value, bytes.data() + at, sizeof value);
        return value;
    }
    template <class T>
    static void put(Bytes& bytes, std::size_t at, const T& value) {
        std::memcpy(bytes.data() + at, &value, sizeof value);
    }
    using Header = ElfW(Ehdr);
    using Segment = ElfW(Phdr);

    // The good file but for what `change` does to its header, or to one of the segments of a type.
    Bytes with_header(const std::function<void(Header&)>& change) const {
        Bytes bytes = good_;
        auto header = get<Header>(bytes, 0);
        change(header);
        put(bytes, 0, header);
        return bytes;
    }
    static constexpr std::size_t last = ~std::size_t{0};
    Bytes with_segment(unsigned type, std::size_t n, const std::function<void(Segment&)>& change) const {
        Bytes bytes = good_;
        const auto header = get<Header>(bytes, 0);
        std::vector<std::size_t> places;
        for (std::size_t i = 0; i < header.e_phnum; ++i) {
            const std::size_t at = header.e_phoff + i * sizeof(Segment);
            if (get<Segment>(bytes, at).p_type == type) places.push_back(at);
        }
        const std::size_t at = places.at(n == last ? places.size() - 1 : n);
        auto segment = get<Segment>(bytes, at);
        change(segment);
        put(bytes, at, segment);
        return bytes;
    }

    Bytes good_;
    std::filesystem::path folder_, path_;
};

TEST_F(InspectFile, UndamagedIsJudged) {
    const auto found = inspect_bytes(good_);
    ASSERT_TRUE(found) << found.error().message();
    expect_sound(*found);
    EXPECT_TRUE(std::ranges::any_of(found->functions, [](const auto& function) { return function.name == "main"; }));
}

TEST_F(InspectFile, WhatCannotBeOpenedSaysWhy) {
    const auto missing = inspect_file(path_);
    ASSERT_FALSE(missing);
    EXPECT_EQ(missing.error().code, Errc::file_not_readable);
    EXPECT_EQ(missing.error().os_error, ENOENT);
    const auto folder = inspect_file(folder_);
    ASSERT_FALSE(folder);
    EXPECT_EQ(folder.error().code, Errc::file_not_readable);
    EXPECT_EQ(folder.error().os_error, EISDIR);
    ASSERT_EQ(::mkfifo(path_.c_str(), 0600), 0);
    const auto pipe = inspect_file(path_);
    ASSERT_FALSE(pipe);
    EXPECT_EQ(pipe.error().code, Errc::not_elf);
}

TEST_F(InspectFile, EachDamageHasItsError) {
    constexpr std::uint64_t huge = std::uint64_t{1} << 63, more_than_there_is = std::uint64_t{1} << 52;
    const std::size_t size = good_.size();
    const std::string text = "#!/bin/sh\nexit 0\n";
    const struct {
        const char* what;
        Bytes bytes;
        Errc code;
    } cases[] = {
        {"empty", {}, Errc::not_elf},
        {"one byte", {0x7f}, Errc::not_elf},
        {"a script", Bytes(text.begin(), text.end()), Errc::not_elf},
        {"half a header", Bytes(good_.begin(), good_.begin() + 40), Errc::elf_truncated},
        {"header alone", Bytes(good_.begin(), good_.begin() + sizeof(Header)), Errc::elf_truncated},
        {"first page", Bytes(good_.begin(), good_.begin() + 4096), Errc::elf_truncated},
        {"32 bits", with_header([](Header& h) { h.e_ident[EI_CLASS] = ELFCLASS32; }), Errc::other_machine},
        {"big endian", with_header([](Header& h) { h.e_ident[EI_DATA] = ELFDATA2MSB; }), Errc::other_machine},
        {"another processor", with_header([](Header& h) { h.e_machine = EM_S390; }), Errc::other_machine},
        {"an object file", with_header([](Header& h) { h.e_type = ET_REL; }), Errc::not_elf},
        {"a core", with_header([](Header& h) { h.e_type = ET_CORE; }), Errc::not_elf},
        {"no segments", with_header([](Header& h) { h.e_phnum = 0; }), Errc::elf_segments},
        {"more segments than fit", with_header([](Header& h) { h.e_phnum = 0xfffe; }), Errc::elf_truncated},
        {"segments behind the end", with_header([=](Header& h) { h.e_phoff = size; }), Errc::elf_truncated},
        {"segments nowhere", with_header([](Header& h) { h.e_phoff = ~std::uint64_t{0} - 8; }), Errc::elf_truncated},
        {"odd segments", with_header([](Header& h) { h.e_phentsize = 8; }), Errc::elf_segments},
        {"overlapping", with_segment(PT_LOAD, 1, [](Segment& s) { s.p_vaddr = s.p_offset = 0; }), Errc::elf_segments},
        {"descending", with_segment(PT_LOAD, 0, [](Segment& s) { s.p_vaddr += 1 << 30; }), Errc::elf_segments},
        {"not congruent", with_segment(PT_LOAD, 1, [](Segment& s) { s.p_offset += 8; }), Errc::elf_segments},
        {"less memory than file", with_segment(PT_LOAD, 0, [](Segment& s) { s.p_memsz = 1; }), Errc::elf_segments},
        {"wraps round", with_segment(PT_LOAD, last, [](Segment& s) { s.p_memsz = ~std::uint64_t{0}; }), Errc::elf_segments},
        {"half of all addresses", with_segment(PT_LOAD, last, [](Segment& s) { s.p_memsz = huge; }), Errc::elf_segments},
        {"too many addresses", with_segment(PT_LOAD, last, [](Segment& s) { s.p_memsz = more_than_there_is; }),
         Errc::out_of_memory},
        {"ends before", with_segment(PT_LOAD, last, [=](Segment& s) { s.p_filesz = s.p_memsz = size; }), Errc::elf_truncated},
        {"begins behind", with_segment(PT_LOAD, last, [](Segment& s) { s.p_offset += 1 << 30; }), Errc::elf_truncated},
        {"no unwind table", with_segment(PT_GNU_EH_FRAME, 0, [](Segment& s) { s.p_type = PT_NULL; }), Errc::no_unwind_table},
        {"unwind table outside", with_segment(PT_GNU_EH_FRAME, 0, [](Segment& s) { s.p_vaddr = huge; }), Errc::no_unwind_table},
        {"unwind table cut", with_segment(PT_GNU_EH_FRAME, 0, [](Segment& s) { s.p_filesz = 12; }), Errc::no_unwind_table},
        {"unwind table shifted", with_segment(PT_GNU_EH_FRAME, 0, [](Segment& s) { s.p_vaddr += 1; }), Errc::no_unwind_table},
    };
    for (const auto& [what, bytes, code] : cases) {
        const auto found = inspect_bytes(bytes);
        if (found) {
            ADD_FAILURE() << what << ": was judged";
            continue;
        }
        EXPECT_EQ(found.error().code, code) << what << ": " << found.error().message();
    }
    EXPECT_TRUE(inspect_bytes(good_));
}

// A table in a hole between segments, which reads as zero, and one whose list does not lie in one word each.
TEST_F(InspectFile, UnwindTableOfAnyBytesIsRead) {
    const auto header = get<Header>(good_, 0);
    Segment table{};
    for (std::size_t i = 0; i < header.e_phnum; ++i) {
        const auto segment = get<Segment>(good_, header.e_phoff + i * sizeof(Segment));
        if (segment.p_type == PT_GNU_EH_FRAME) table = segment;
    }
    ASSERT_NE(table.p_filesz, 0u);
    constexpr std::size_t first = 12, entry = 8;  // in the table: the list, and each entry of it
    for (const std::int32_t wrong : {0, -1, 1, 0x7fff'ffff, -0x7fff'ffff - 1}) {
        for (const std::size_t half : {0, 4}) {
            Bytes bytes = good_;
            for (std::size_t at = first; at + entry <= table.p_filesz; at += entry)
                put(bytes, table.p_offset + at + half, wrong);
            const auto found = inspect_bytes(bytes);
            ASSERT_TRUE(found) << found.error().message();
            expect_sound(*found);
        }
    }
}

TEST_F(InspectFile, WithoutSectionsNothingHasAName) {
    const auto whole = inspect_bytes(good_);
    const auto found = inspect_bytes(with_header([](Header& h) { h.e_shoff = h.e_shnum = h.e_shstrndx = 0; }));
    ASSERT_TRUE(found);
    EXPECT_GT(found->functions.size(), 0u);
    EXPECT_LT(found->functions.size(), whole->functions.size());  // what has no unwind information is not seen
    EXPECT_TRUE(std::ranges::all_of(found->functions, [](const auto& function) { return function.name.empty(); }));
}

// What matters is that nothing but the file is read (under the sanitizers too), and that it ends.
TEST_F(InspectFile, AnyBytesDoNoHarm) {
    constexpr unsigned seed = 20240611;
    const int rounds = test::emulator().empty() ? 1500 : 100;
    std::mt19937 random(seed);
    const auto header = get<Header>(good_, 0);
    std::vector<AddressRange> places{{Address{0}, Address{good_.size()}},
                                     {Address{0}, Address{header.e_phoff + header.e_phnum * sizeof(Segment)}}};
    for (std::size_t i = 0; i < header.e_phnum; ++i) {
        const auto segment = get<Segment>(good_, header.e_phoff + i * sizeof(Segment));
        if (segment.p_type == PT_GNU_EH_FRAME)  // and .eh_frame behind it
            places.push_back({Address{segment.p_offset}, Address{segment.p_offset + 4 * segment.p_filesz}});
    }
    if (header.e_shoff + header.e_shnum * std::size_t{header.e_shentsize} <= good_.size())
        places.push_back({Address{header.e_shoff}, Address{header.e_shoff + header.e_shnum * std::size_t{header.e_shentsize}}});

    const std::string path = write(good_);
    int judged = 0, refused = 0;
    for (int round = 0; round < rounds; ++round) {
        SCOPED_TRACE(round);
        Bytes bytes = good_;
        const AddressRange place = places[random() % places.size()];
        const std::size_t changes = 1 + random() % (random() % 4 == 0 ? 200 : 8);
        for (std::size_t i = 0; i < changes; ++i) {
            const std::size_t at = std::min(place.begin.value + random() % place.size(), bytes.size() - 1);
            constexpr unsigned char telling[] = {0x00, 0x01, 0x7f, 0x80, 0xff};
            bytes[at] = static_cast<char>(random() % 2 == 0 ? telling[random() % std::size(telling)] : random());
        }
        if (random() % 8 == 0) bytes.resize(random() % bytes.size());
        write(bytes);
        if (const auto found = inspect_file(path)) {
            ++judged;
            expect_sound(*found);
            EXPECT_TRUE(round % 16 != 0 || nlohmann::json::accept(to_json(*found)));
        } else {
            ++refused;
            EXPECT_FALSE(found.error().message().empty());
        }
    }
    std::printf("%d judged, %d refused\n", judged, refused);
    EXPECT_GT(judged, rounds / 10);
    EXPECT_GT(refused, rounds / 10);
}

// Another file in the place of the loaded one has names for other code.
TEST_F(InspectFile, ReplacedFileOfALoadedObjectGivesNoNames) {
    const std::string path = write(bytes_of(DYNFUNC_TEST_INSPECTED), "inspected.so");
    void* loaded = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    ASSERT_NE(loaded, nullptr) << ::dlerror();
    const Address twice = Address::of(::dlsym(loaded, "inspected_twice"));
    const auto first = inspect_module("inspected.so");
    ASSERT_TRUE(first) << first.error().message();
    EXPECT_FALSE(first->no_names);
    ASSERT_NE(find(*first, twice), nullptr);
    EXPECT_EQ(find(*first, twice)->name, "inspected_twice");

    std::filesystem::rename(write(good_, "other"), path);
    const auto replaced = inspect(twice);
    ASSERT_TRUE(replaced);
    ASSERT_TRUE(replaced->no_names);
    EXPECT_EQ(replaced->no_names->code, Errc::file_changed);
    ASSERT_NE(find(*replaced, twice), nullptr);
    EXPECT_EQ(find(*replaced, twice)->name, "");
    EXPECT_EQ(find(*replaced, twice)->site, find(*first, twice)->site);

    std::filesystem::remove(path);
    const auto gone = inspect(twice);
    ASSERT_TRUE(gone);
    ASSERT_TRUE(gone->no_names);
    EXPECT_EQ(gone->no_names->code, Errc::file_not_readable);
    EXPECT_EQ(gone->no_names->os_error, ENOENT);
    EXPECT_NE(to_json(*gone).find("no_names"), std::string::npos);
    ::dlclose(loaded);
}

TEST(InspectJson, AgreesWithTheStructure) {
    const auto found = inspect(own_code());
    ASSERT_TRUE(found);
    const auto json = nlohmann::json::parse(to_json(*found));
    EXPECT_EQ(json["path"], found->path);
    EXPECT_EQ(json["functions"], found->functions.size());
    ASSERT_EQ(json["verdicts"].size(), found->functions.size());
    std::map<std::string, std::size_t> counted;
    for (std::size_t i = 0; i < found->functions.size(); ++i) {
        const FunctionVerdict& function = found->functions[i];
        const auto& verdict = json["verdicts"][i];
        ASSERT_EQ(std::stoull(verdict["begin"].get<std::string>(), nullptr, 16), function.begin.value);
        ASSERT_EQ(verdict["size"], function.size);
        ASSERT_EQ(verdict["name"], function.name);
        ASSERT_EQ(verdict["site"], to_string(function.site));
        ASSERT_EQ(verdict.contains("why_not_better"), function.why_not_better.has_value());
        ++counted[verdict["site"]];
        if (!function.why_not_better) continue;
        ASSERT_EQ(std::stoull(verdict["why_not_better"]["address"].get<std::string>(), nullptr, 16),
                  function.why_not_better->address.value);
        ASSERT_EQ(verdict["why_not_better"]["reason"], Error{.code = function.why_not_better->code}.message());
    }
    double percent = 0;
    ASSERT_EQ(json["classes"].size(), site_classes);
    for (const auto& [name, of_class] : json["classes"].items()) {
        EXPECT_EQ(of_class["functions"], counted[name]) << name;
        percent += of_class["percent"].get<double>();
    }
    EXPECT_NEAR(percent, 100.0, 0.001);
}

TEST(InspectJson, IsSoundWhateverIsCalledHow) {
    Inspection odd;
    odd.path = "\"\\\n\xff";
    EXPECT_EQ(odd.percent(SiteClass::whole), 0.0);
    odd.functions.push_back({Address{~std::uintptr_t{0}}, 1, "\xc3\x28\x80 \x1b[2J", SiteClass::refused,
                             Error{.code = Errc::not_movable, .address = Address{1}}});
    odd.totals[static_cast<std::size_t>(SiteClass::refused)] = 1;
    const auto json = nlohmann::json::parse(to_json(odd));
    EXPECT_EQ(json["verdicts"][0]["begin"], "0xffffffffffffffff");
    EXPECT_EQ(json["classes"]["refused"]["percent"], 100.0);
}

}  // namespace
}  // namespace dynfunc
