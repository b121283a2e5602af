// SPDX-License-Identifier: MIT
#include "code_page.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

#include "refused.hpp"

namespace bench {
namespace {

constexpr std::size_t page = 4096;

// e9 00000000  jmp to the next instruction        both words do the same, so that a caller may run either
// c3           ret
// cccc, cc90   never run: they tell the words apart
constexpr std::uint64_t words[] = {0xcccc'c300'0000'00e9, 0xcc90'c300'0000'00e9};

void* map(int protection, int flags, int file) {
    void* mapped = mmap(nullptr, page, protection, flags, file, 0);
    return mapped == MAP_FAILED ? nullptr : mapped;
}

void* map_file(int protection, int file) { return map(protection, MAP_SHARED, file); }

void store(std::uint64_t* at, std::uint64_t word) { __atomic_store_n(at, word, __ATOMIC_RELEASE); }

bool write_at(int file, std::uint64_t word, std::uintptr_t offset) {
    return pwrite(file, &word, sizeof word, static_cast<off_t>(offset)) == sizeof word;
}

}  // namespace

CodePage::CodePage() {
    if (!map_pages()) return;
    probe_process_memory();
    make_keyed_alias();
}

CodePage::~CodePage() {
    for (void* mapped : {text_, private_text_, static_cast<void*>(alias_), static_cast<void*>(protected_alias_),
                         static_cast<void*>(keyed_alias_)})
        if (mapped != nullptr) munmap(mapped, page);
    if (key_ >= 0) pkey_free(key_);
    for (const int file : {file_, process_memory_})
        if (file >= 0) close(file);
}

bool CodePage::map_pages() {
    file_ = memfd_create("dynfunc-bench", MFD_CLOEXEC);
    if (file_ < 0 || ftruncate(file_, page) != 0) return error_ = refused("memfd_create"), false;
    alias_ = static_cast<std::uint64_t*>(map_file(PROT_READ | PROT_WRITE, file_));
    protected_alias_ = static_cast<std::uint64_t*>(map_file(PROT_NONE, file_));
    private_text_ = map(PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    if (alias_ == nullptr || protected_alias_ == nullptr || private_text_ == nullptr) return error_ = refused("mmap"), false;
    *alias_ = words[0];
    *static_cast<std::uint64_t*>(private_text_) = words[0];
    text_ = map_file(PROT_READ | PROT_EXEC, file_);
    if (text_ == nullptr || mprotect(private_text_, page, PROT_READ | PROT_EXEC) != 0)
        return error_ = refused("executable page"), false;
    return true;
}

void CodePage::probe_process_memory() {
    process_memory_ = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
    if (process_memory_ < 0)
        process_memory_refusal_ = refused("open /proc/self/mem");
    else if (!write_process())
        process_memory_refusal_ = refused("pwrite /proc/self/mem");
}

void CodePage::make_keyed_alias() {
    key_ = pkey_alloc(0, PKEY_DISABLE_WRITE);
    if (key_ < 0) {
        key_refusal_ = refused("pkey_alloc");
        return;
    }
    keyed_alias_ = static_cast<std::uint64_t*>(map_file(PROT_READ | PROT_WRITE, file_));
    if (keyed_alias_ == nullptr || pkey_mprotect(keyed_alias_, page, PROT_READ | PROT_WRITE, key_) != 0)
        key_refusal_ = refused("pkey_mprotect");
}

std::uint64_t CodePage::other_word() { return words[++turn_ % 2]; }

bool CodePage::write_alias() {
    store(alias_, other_word());
    return true;
}

bool CodePage::map_write_unmap() {
    // Populated: one call less than a page fault is dearer.
    void* mapped = map(PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, file_);
    if (mapped == nullptr) return false;
    store(static_cast<std::uint64_t*>(mapped), other_word());
    return munmap(mapped, page) == 0;
}

bool CodePage::write_protected() {
    if (mprotect(protected_alias_, page, PROT_READ | PROT_WRITE) != 0) return false;
    store(protected_alias_, other_word());
    return mprotect(protected_alias_, page, PROT_NONE) == 0;
}

bool CodePage::write_file() { return write_at(file_, other_word(), 0); }

bool CodePage::write_process() {
    return write_at(process_memory_, other_word(), reinterpret_cast<std::uintptr_t>(private_text_));
}

bool CodePage::write_with_key() {
    if (pkey_set(key_, 0) != 0) return false;
    store(keyed_alias_, other_word());
    return pkey_set(key_, PKEY_DISABLE_WRITE) == 0;
}

void CodePage::call() const {
    reinterpret_cast<void (*)()>(text_)();
    reinterpret_cast<void (*)()>(private_text_)();
}

const std::array<CodePage::Writer, 6>& CodePage::writers() {
    static const std::array<Writer, 6> all = {{
        {"permanent-alias", &CodePage::write_alias, &CodePage::error_},
        {"map-write-unmap", &CodePage::map_write_unmap, &CodePage::error_},
        {"mprotect-alias", &CodePage::write_protected, &CodePage::error_},
        {"memfd-pwrite", &CodePage::write_file, &CodePage::error_},
        {"proc-self-mem", &CodePage::write_process, &CodePage::process_memory_refusal_},
        {"protection-key", &CodePage::write_with_key, &CodePage::key_refusal_},
    }};
    return all;
}

}  // namespace bench
