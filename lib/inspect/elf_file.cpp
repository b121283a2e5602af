// SPDX-License-Identifier: MIT
#include "elf_file.hpp"

#include <elf.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>

#include "os.hpp"

// Defined by the linker: the header of the object that this code is in, and so of the machine that it is for.
extern "C" [[gnu::visibility("hidden")]] const ElfW(Ehdr) __ehdr_start;

namespace dynfunc {
namespace {

std::unexpected<Error> refuse(Errc code, std::uint64_t linked_at = 0, int os_error = 0) noexcept {
    return std::unexpected(Error{.code = code, .address = Address{linked_at}, .os_error = os_error});
}

bool is_same_machine(const ElfW(Ehdr) & header) noexcept {
    return header.e_ident[EI_CLASS] == __ehdr_start.e_ident[EI_CLASS] &&
           header.e_ident[EI_DATA] == __ehdr_start.e_ident[EI_DATA] && header.e_machine == __ehdr_start.e_machine;
}

constexpr bool adds_up(std::uint64_t begin, std::uint64_t bytes, std::uint64_t end) noexcept {
    return bytes <= end && begin <= end - bytes;
}

}  // namespace

Result<ElfFile> ElfFile::open(const std::string& path) {
    // Not waiting for whoever writes to a pipe.
    const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (descriptor < 0) return refuse(Errc::file_not_readable, 0, errno);
    ElfFile file(descriptor);
    if (const auto done = file.read_headers(); !done) return std::unexpected(done.error());
    return file;
}

ElfFile::~ElfFile() {
    if (descriptor_ >= 0) ::close(descriptor_);
}

bool ElfFile::read(std::uint64_t offset, std::span<std::byte> bytes) const noexcept {
    if (!adds_up(offset, bytes.size(), size_)) return false;
    while (!bytes.empty()) {
        const ssize_t got = ::pread(descriptor_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;
        bytes = bytes.subspan(static_cast<std::size_t>(got));
        offset += static_cast<std::uint64_t>(got);
    }
    return true;
}

Result<void> ElfFile::read_headers() {
    struct stat status;
    if (::fstat(descriptor_, &status) != 0) return refuse(Errc::file_not_readable, 0, errno);
    if (S_ISDIR(status.st_mode)) return refuse(Errc::file_not_readable, 0, EISDIR);
    if (!S_ISREG(status.st_mode)) return refuse(Errc::not_elf);
    size_ = static_cast<std::size_t>(status.st_size);

    ElfW(Ehdr) header{};
    const auto bytes = std::as_writable_bytes(std::span(&header, 1));
    if (!read(0, bytes.first(std::min(bytes.size(), size_)))) return refuse(Errc::file_not_readable, 0, EIO);
    if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0) return refuse(Errc::not_elf);
    if (size_ < sizeof header) return refuse(Errc::elf_truncated);
    if (!is_same_machine(header)) return refuse(Errc::other_machine);
    if (header.e_type != ET_EXEC && header.e_type != ET_DYN) return refuse(Errc::not_elf);
    if (header.e_phnum == 0 || header.e_phnum == PN_XNUM || header.e_phentsize != sizeof(Segment))
        return refuse(Errc::elf_segments);
    segments_.resize(header.e_phnum);
    if (!read(header.e_phoff, std::as_writable_bytes(std::span(segments_)))) return refuse(Errc::elf_truncated);
    return {};
}

const ElfFile::Segment* ElfFile::unwind_header() const noexcept {
    const auto found = std::ranges::find(segments_, PT_GNU_EH_FRAME, &Segment::p_type);
    return found == segments_.end() ? nullptr : &*found;
}

Result<ElfImage> ElfImage::map(const ElfFile& file) {
    const std::uint64_t page = os::page_size(), in_page = page - 1;
    std::vector<ElfFile::Segment> loaded;
    for (const ElfFile::Segment& segment : file.segments())
        if (segment.p_type == PT_LOAD && segment.p_memsz != 0) loaded.push_back(segment);
    if (loaded.empty()) return refuse(Errc::elf_segments);
    std::uint64_t end = 0;
    for (const ElfFile::Segment& segment : loaded) {
        if (segment.p_vaddr < end || segment.p_filesz > segment.p_memsz ||
            !adds_up(segment.p_vaddr, segment.p_memsz, std::numeric_limits<std::int64_t>::max() - page) ||
            (segment.p_vaddr & in_page) != (segment.p_offset & in_page))
            return refuse(Errc::elf_segments, segment.p_vaddr);
        if (!adds_up(segment.p_offset, segment.p_filesz, file.size())) return refuse(Errc::elf_truncated, segment.p_vaddr);
        end = segment.p_vaddr + segment.p_memsz;
    }

    const std::uint64_t first = loaded.front().p_vaddr & ~in_page, bytes = ((end + in_page) & ~in_page) - first;
    void* room = ::mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room == MAP_FAILED) return refuse(Errc::out_of_memory, 0, errno);
    const Address begin = Address::of(room);
    ElfImage image({begin, begin + static_cast<std::ptrdiff_t>(bytes)}, begin - static_cast<std::ptrdiff_t>(first));
    for (const ElfFile::Segment& segment : loaded) {
        if (segment.p_filesz == 0) continue;
        // Whole pages, of which the file has at least one byte each. A page of two segments is the second one's, as in a
        // loaded object.
        const Address at = image.base_ + static_cast<std::ptrdiff_t>(segment.p_vaddr);
        const std::uint64_t before = segment.p_vaddr & in_page;
        if (::mmap((at - static_cast<std::ptrdiff_t>(before)).as<void*>(), before + segment.p_filesz, PROT_READ,
                   MAP_PRIVATE | MAP_FIXED, file.descriptor(), static_cast<off_t>(segment.p_offset - before)) == MAP_FAILED) {
            const int cause = errno;
            return refuse(cause == ENOMEM ? Errc::out_of_memory : Errc::file_not_readable, 0, cause);
        }
        if ((segment.p_flags & PF_X) != 0 && (segment.p_flags & PF_R) != 0)
            image.text_.push_back({at, at + static_cast<std::ptrdiff_t>(segment.p_filesz)});
    }
    return image;
}

ElfImage::~ElfImage() {
    if (mapped_.size() != 0) ::munmap(mapped_.begin.as<void*>(), mapped_.size());
}

}  // namespace dynfunc
