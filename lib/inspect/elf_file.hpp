// SPDX-License-Identifier: MIT
// An ELF file as its program headers describe it, and its segments where the dynamic linker would put them relative to each
// other. The file may be anything: whatever is handed on has been checked against the file's size.
//
//     auto file = ElfFile::open(path);
//     auto image = ElfImage::map(*file);         // read-only; holes between segments read as zero
#pragma once

#include <dynfunc/result.hpp>

#include <link.h>

#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace dynfunc {

class ElfFile {
public:
    using Segment = ElfW(Phdr);

    // Errors: file_not_readable (errno), not_elf, other_machine, elf_truncated, elf_segments.  Throws: std::bad_alloc.
    static Result<ElfFile> open(const std::string& path);
    ~ElfFile();
    ElfFile(ElfFile&& other) noexcept
        : descriptor_(std::exchange(other.descriptor_, -1)), size_(other.size_), segments_(std::move(other.segments_)) {}
    ElfFile(const ElfFile&) = delete;

    int descriptor() const noexcept { return descriptor_; }
    std::size_t size() const noexcept { return size_; }
    std::span<const Segment> segments() const noexcept { return segments_; }
    // The header of the unwind table; null: there is none.
    const Segment* unwind_header() const noexcept;
    // Whether all of `bytes` could be read from the file's `offset` on.
    bool read(std::uint64_t offset, std::span<std::byte> bytes) const noexcept;

private:
    explicit ElfFile(int descriptor) noexcept : descriptor_(descriptor) {}
    Result<void> read_headers();

    int descriptor_;
    std::size_t size_ = 0;
    std::vector<Segment> segments_;
};

class ElfImage {
public:
    // Errors: elf_truncated, elf_segments (address = of the segment, as linked); out_of_memory (errno).  Throws:
    // std::bad_alloc.
    static Result<ElfImage> map(const ElfFile& file);
    ~ElfImage();
    ElfImage(ElfImage&& other) noexcept
        : mapped_(std::exchange(other.mapped_, {})), base_(other.base_), text_(std::move(other.text_)) {}
    ElfImage(const ElfImage&) = delete;

    // All of it can be read.
    AddressRange mapped() const noexcept { return mapped_; }
    // To be added to an address as linked.
    Address base() const noexcept { return base_; }
    // What would be executable.
    std::span<const AddressRange> text() const noexcept { return text_; }

private:
    ElfImage(AddressRange mapped, Address base) noexcept : mapped_(mapped), base_(base) {}

    AddressRange mapped_;
    Address base_;
    std::vector<AddressRange> text_;
};

}  // namespace dynfunc
