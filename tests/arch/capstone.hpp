// SPDX-License-Identifier: MIT
// A second reader of instructions, which knows nothing of the library's.
#pragma once

#include <capstone/capstone.h>
#include <gtest/gtest.h>

#include <memory>
#include <ostream>
#include <span>
#include <string>

#include "arch.hpp"

namespace dynfunc::arch::test {

// One instruction as text.
struct Text {
    std::string mnemonic, operands;
    std::size_t size = 0;
    friend bool operator==(const Text& a, const Text& b) { return a.mnemonic == b.mnemonic && a.operands == b.operands; }
};
inline std::ostream& operator<<(std::ostream& to, const Text& text) { return to << text.mnemonic << ' ' << text.operands; }

class Capstone {
public:
    Capstone(cs_arch machine, cs_mode mode) {
        EXPECT_EQ(cs_open(machine, mode, &handle_), CS_ERR_OK);
        cs_option(handle_, CS_OPT_DETAIL, CS_OPT_ON);
    }
    ~Capstone() { cs_close(&handle_); }
    Capstone(const Capstone&) = delete;

    struct Free {
        void operator()(cs_insn* instruction) const { cs_free(instruction, 1); }
    };
    // The first instruction of `code`, as executed at `at`. Null: it knows no such instruction.
    std::unique_ptr<cs_insn, Free> read(std::span<const std::byte> code, Address at) {
        cs_insn* found = nullptr;
        cs_disasm(handle_, reinterpret_cast<const std::uint8_t*>(code.data()), code.size(), at.value, 1, &found);
        return std::unique_ptr<cs_insn, Free>(found);
    }
    // The same as text. Without a name, size 0: it knows no such instruction.
    Text operator()(std::span<const std::byte> code, Address at) {
        const auto found = read(code, at);
        return found == nullptr ? Text{} : Text{found->mnemonic, found->op_str, found->size};
    }
    std::string name(unsigned reg) const { return cs_reg_name(handle_, reg); }

private:
    csh handle_ = 0;
};

}  // namespace dynfunc::arch::test
