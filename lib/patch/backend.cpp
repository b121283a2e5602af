// SPDX-License-Identifier: MIT
#include "backend.hpp"

#include <array>
#include <cstdlib>
#include <cstring>
#include <new>
#include <optional>

#include "arch.hpp"
#include "first_use.hpp"
#include "os.hpp"
#include "text_poke.hpp"

namespace dynfunc {
namespace {

// Storage that is never destroyed: code runs through trampolines until the very end of the process.
alignas(ProcessMemoryWriting) std::byte process_memory_storage[sizeof(ProcessMemoryWriting)];
alignas(MemoryFileWriting) std::byte memory_file_storage[sizeof(MemoryFileWriting)];

constexpr const char* not_executed_process_memory = "/proc/self/mem: what is written there is not what runs";
constexpr const char* not_executed_memory_file = "memory file: what is written there is not what runs";

// Patches the probe site to its second target and back, and calls it after each step.
std::optional<Refusal> try_writing(TextWriting& writing, const char* facility, const char* not_executed) noexcept {
    const arch::ProbeCode code = arch::probe_code();
    if (code.run() != 1) return Refusal{not_executed, 0};
    const std::uint64_t before = read_word(code.site);
    const auto second = arch::encode_site(arch::SiteKind::tail_call, code.site, code.second);
    if (!second) return Refusal{not_executed, 0};
    std::uint64_t after = before;
    std::memcpy(&after, second->bytes.data(), second->size);
    const auto word_bytes = static_cast<std::uint8_t>(arch::capabilities().word_bytes);
    TextPoke poke(writing);
    std::array there{Poke{code.site, before, after, 0, word_bytes}};
    std::array back{Poke{code.site, after, before, 0, word_bytes}};
    if (auto done = poke.commit(there); !done) return Refusal{facility, done.error().os_error};
    const bool seen = code.run() == 2;
    if (auto done = poke.commit(back); !done) return Refusal{facility, done.error().os_error};
    if (!seen || code.run() != 1) return Refusal{not_executed, 0};
    return std::nullopt;
}

class Search {
public:
    Backend run() noexcept {
        const char* form = environment("DYNFUNC_BACKEND");
        const char* writer = environment("DYNFUNC_TEXT_WRITER");
        if (!arch::capabilities().patches_text) {
            refuse("this build patches nothing (backend 'generic')", 0);
            return result(Form::pointer, nullptr);
        }
        if (is(form, "pointer")) {
            refuse("DYNFUNC_BACKEND=pointer asks for this form", 0);
            return result(Form::pointer, nullptr);
        }
        if (is(form, "slot")) {
            refuse("DYNFUNC_BACKEND=slot asks for this form", 0);
            return result(Form::slot, nullptr);
        }
        if (form != nullptr && !is(form, "patched")) refuse("DYNFUNC_BACKEND is none of patched, slot, pointer: ignored", 0);
        if (const int refused = os::register_sync_cores(); refused != 0) {
            refuse("membarrier(PRIVATE_EXPEDITED_SYNC_CORE)", refused);
            return result(Form::slot, nullptr);
        }
        const bool only_process_memory = is(writer, "process_memory");
        const bool only_memory_file = is(writer, "memory_file");
        if (writer != nullptr && !only_process_memory && !only_memory_file)
            refuse("DYNFUNC_TEXT_WRITER is none of process_memory, memory_file: ignored", 0);
        if (only_memory_file)
            refuse("DYNFUNC_TEXT_WRITER=memory_file asks for this writer", 0);
        else if (!arch::fetches_whole_copied_words())
            refuse("/proc/self/mem: this processor may fetch half of a word that the kernel copies", 0);
        else if (auto* writing = new (process_memory_storage) ProcessMemoryWriting;
                 accept(try_writing(*writing, "/proc/self/mem", not_executed_process_memory)))
            return result(Form::patched, writing);
        if (only_process_memory)
            refuse("DYNFUNC_TEXT_WRITER=process_memory allows no other writer", 0);
        else if (auto* writing = new (memory_file_storage) MemoryFileWriting;
                 accept(try_writing(*writing, "memory file", not_executed_memory_file)))
            return result(Form::patched, writing);
        return result(Form::slot, nullptr);
    }

private:
    // Not in programs that run with more rights than their user.
    static const char* environment(const char* name) noexcept {
        const char* value = secure_getenv(name);
        return value != nullptr && *value != '\0' ? value : nullptr;
    }
    static bool is(const char* value, const char* word) noexcept { return value != nullptr && std::strcmp(value, word) == 0; }

    void refuse(const char* what, int os_error) noexcept { refusals_[count_++] = {what, os_error}; }
    bool accept(const std::optional<Refusal>& refusal) noexcept {
        if (refusal) refuse(refusal->what, refusal->os_error);
        return !refusal.has_value();
    }
    Backend result(Form form, TextWriting* writing) const noexcept {
        const TextWriter kind = writing != nullptr ? writing->kind() : TextWriter::none;
        Backend found{{form, kind, std::span(refusals_).first(count_)},
                      writing,
                      is(environment("DYNFUNC_STRICT"), "1"),
                      is(environment("DYNFUNC_PROBE_CACHE"), "1"),
                      CallSites::on_change,
                      nullptr};
        decide_on_call_sites(found);
        return found;
    }
    static void decide_on_call_sites(Backend& found) noexcept {
        const char* when = environment("DYNFUNC_CALL_SITES");
        if (is(when, "0")) found.call_sites = CallSites::never;
        if (is(when, "1")) found.call_sites = CallSites::always;
        if (found.writing == nullptr) {
            found.no_call_sites = "no code is patched in this process";
        } else if (arch::capabilities().reference_bytes == 0) {
            found.no_call_sites = "call sites are not looked for on this machine";
        } else if (!arch::has_decoder()) {
            found.no_call_sites = "this build of the library cannot read instructions (it was made without Zydis)";
        }
    }

    static constinit std::array<Refusal, 6> refusals_;  // more than run() can meet
    std::size_t count_ = 0;
};

constinit std::array<Refusal, 6> Search::refusals_{};

}  // namespace

const Backend& backend() noexcept {
    // A fork waits for it: the code that is tried is the child's as it was built.
    static constinit MadeOnFirstUse<Backend> found;
    return found.get([] { return Search().run(); });
}

}  // namespace dynfunc
