// SPDX-License-Identifier: MIT
// Which words of a function are instructions. All have one size, so what has to be told from code is data between it: literals,
// and tables that an adr leads to. Compilers keep neither there, but with -mpc-relative-literal-loads and the like; assembly
// does.
#include <algorithm>
#include <optional>

#include "arm64/pc_relative.hpp"

namespace dynfunc::arch::arm64 {
namespace {

constexpr bool is_breakpoint(std::uint32_t word) noexcept { return (word & 0xffe0'001f) == trap; }

// How many bytes a load of a literal reads: w, s: 4; x, d: 8; ldrsw: 4; q: 16; a prefetch none.
constexpr std::ptrdiff_t literal_bytes(std::uint32_t word) noexcept {
    constexpr std::ptrdiff_t bytes[2][4] = {{4, 8, 4, 0}, {4, 8, 16, 0}};  // general, vector
    return bytes[word >> 26 & 1][word >> 30];
}

constexpr bool is_add(std::uint32_t word) noexcept {
    return (word & 0x7fc0'0000) == 0x0b00'0000 || (word & 0x7fe0'0000) == 0x0b20'0000;
}
constexpr bool is_br(std::uint32_t word, std::uint32_t reg) noexcept { return word == (br | reg << 5); }

// Whether the register that an adr sets is what compilers count the cases of a switch from: adr xb; add xt, xb, wi, sxtb #2; br
// xt. Then it leads to code.
bool is_base_of_switch(AddressRange function, Address adr, std::uint32_t base) noexcept {
    constexpr int most = 8;
    std::optional<std::uint32_t> target;
    Address at = adr + word_bytes;
    for (int i = 0; i < most && at + word_bytes <= function.end; ++i, at = at + word_bytes) {
        const std::uint32_t word = word_at({at.as<const std::byte*>(), word_bytes}, 0);
        if (target && is_br(word, *target)) return true;
        if (is_add(word) && ((word >> 5 & 31) == base || (word >> 16 & 31) == base)) target = word & 31;
    }
    return false;
}

template <class Visit>
void for_each_word(AddressRange function, Visit&& visit) noexcept {
    for (Address at = function.begin; at + word_bytes <= function.end; at = at + word_bytes) {
        const std::uint32_t word = word_at({at.as<const std::byte*>(), word_bytes}, 0);
        visit(at, word, pc_relative_form(word));
    }
}

// Not if the function loads it, nor from where an adr leads up to the next place that a branch leads to.
bool is_code(AddressRange function, Address place) noexcept {
    bool loaded = false;
    Address table{};
    for_each_word(function, [&](Address at, std::uint32_t word, const PcRelative& form) {
        if (form.form != Form::load && form.form != Form::address) return;
        const Address operand = refers_to(form, word, at);
        if (form.form == Form::load)
            loaded = loaded || AddressRange{operand, operand + literal_bytes(word)}.contains(place);
        else if (function.contains(operand) && operand <= place && !is_base_of_switch(function, at, word & 31))
            table = std::max(table, operand);
    });
    if (loaded || !table) return !loaded;
    bool reached = false;
    for_each_word(function, [&](Address at, std::uint32_t word, const PcRelative& form) {
        if (form.form != Form::branch && form.form != Form::conditional) return;
        const Address target = refers_to(form, word, at);
        reached = reached || (table < target && target <= place);
    });
    return reached;
}

}  // namespace

bool has_decoder() noexcept { return true; }

// Reads the function once for each reference in it; a few are in each.
void confirm_references(AddressRange function, std::span<Reference> ascending) noexcept {
    for (Reference& reference : ascending) {
        const std::uint32_t word = word_at({reference.field.as<const std::byte*>(), word_bytes}, 0);
        const Form form = pc_relative_form(word).form;
        reference.behind_trap = is_breakpoint(word);
        reference.is_branch = (form == Form::branch || form == Form::call) && is_code(function, reference.field);
    }
}

}  // namespace dynfunc::arch::arm64
