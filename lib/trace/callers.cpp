// SPDX-License-Identifier: MIT
#include "callers.hpp"

#include "find_call_sites.hpp"
#include "hit.hpp"
#include "return_records.hpp"

namespace dynfunc::trace {

constinit std::uint64_t Callers::known_[std::size_t{1} << known_bits];

namespace {

using Question = bool (*)(std::uint64_t address) noexcept;

// At a hit, with vector registers kept.
DYNFUNC_AT_HIT bool ask(Question question, std::uint64_t address, Registers& registers) noexcept {
    struct Asked {
        Question question;
        std::uint64_t address;
        bool answer;
    } asked{question, address, false};
    dynfunc_keep_vectors(
        [](void* data, Registers*) {
            auto& of = *static_cast<Asked*>(data);
            of.answer = of.question(of.address);
        },
        &asked, &registers);
    return asked.answer;
}

bool is_of_a_slot(std::uint64_t address) noexcept { return ReturnRecords::record_of(address) != nullptr; }

bool is_in_unwind_table(std::uint64_t address) noexcept {
    const Address call{address - 1};
    const char* reason = nullptr;
    const auto text = ObjectText::of(call.as<const void*>(), reason);
    return (text && text->function_at(call).size() != 0) || is_of_a_slot(address);
}

}  // namespace

bool Callers::is_place_of_return(std::uint64_t return_address, Registers& registers) noexcept {
    return ask(&is_of_a_slot, return_address, registers);
}

bool Callers::find_unwind_information(std::uint64_t return_address, Registers& registers) noexcept {
    return ask(&is_in_unwind_table, return_address, registers);
}

void Callers::forget() noexcept {
    for (std::uint64_t& place : known_) __atomic_store_n(&place, 0, __ATOMIC_RELAXED);
}

}  // namespace dynfunc::trace
