// SPDX-License-Identifier: MIT
// Copies of arm64 instructions, read again by Capstone, on any host: an original and its copy are run by a small interpreter of
// what Capstone says that they are, and must do the same.
#include <gtest/gtest.h>

#include <cstdio>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "capstone.hpp"
#include "jump_plan.hpp"
#include "probe_stub.hpp"

namespace dynfunc::arch {
namespace {

constexpr Address home{0xaaaa'b000'1230};
constexpr std::ptrdiff_t away = 0x345'6780;
constexpr std::ptrdiff_t ahead_most = (std::ptrdiff_t{1} << 27) - 4, back_most = -(std::ptrdiff_t{1} << 27);

using test::Text;
using Words = std::vector<std::uint32_t>;

std::array<std::byte, 4> bytes_of(std::uint32_t word) {
    std::array<std::byte, 4> bytes;
    for (std::size_t i = 0; i < 4; ++i) bytes[i] = static_cast<std::byte>(word >> (8 * i));
    return bytes;
}
Words words_of(std::span<const std::byte> code) {
    Words words;
    for (std::size_t i = 0; i + 4 <= code.size(); i += 4) {
        words.push_back(0);
        for (std::size_t k = 0; k < 4; ++k) words.back() |= std::to_integer<std::uint32_t>(code[i + k]) << (8 * k);
    }
    return words;
}

class Capstone : public test::Capstone {
public:
    Capstone() : test::Capstone(CS_ARCH_ARM64, CS_MODE_LITTLE_ENDIAN) {}
    Text operator()(std::uint32_t word, Address at) { return test::Capstone::operator()(bytes_of(word), at); }
};

std::string text(std::uint64_t number) {
    char digits[24];
    std::snprintf(digits, sizeof digits, "%#lx", static_cast<unsigned long>(number));
    return digits;
}

// What instructions leave behind.
struct Ran {
    std::map<std::string, std::string> registers;  // those that they changed, and what they hold
    std::vector<std::string> did;                  // in order: what they loaded and asked, and whatever is none of this
    std::string left_to;
    std::size_t pushed = 0;
    friend bool operator==(const Ran&, const Ran&) = default;
    friend std::ostream& operator<<(std::ostream& to, const Ran& ran) {
        for (const auto& [name, value] : ran.registers) to << name << " = " << value << "; ";
        for (const std::string& each : ran.did) to << each << "; ";
        return to << "to " << ran.left_to << ", " << ran.pushed << " pushed";
    }
};

// Runs words that stand at `at`, up to a branch out of them, or behind the last.
class Interpreter {
public:
    Ran run(const Words& words, Address at, bool condition) {
        ran_ = {};
        known_.clear();
        saved_.clear();
        const Address end = at + static_cast<std::ptrdiff_t>(4 * words.size());
        Address here = at;
        for (int steps = 0; here < end && steps < 64; ++steps) {
            const Address from = here;
            const auto next = step(words[static_cast<std::size_t>(here - at) / 4], here, condition);
            if (!next) return finish();
            here = *next;
            // Forward into what is run; otherwise it is left.
            if (here <= from || here > end) break;
        }
        ran_.left_to = text(here.value);
        return finish();
    }

private:
    Ran finish() {
        for (const auto& [name, value] : known_) ran_.registers[name] = text(value);
        ran_.pushed = saved_.size();
        return ran_;
    }
    // Where it goes on; nothing: it is left for what a register says.
    std::optional<Address> step(std::uint32_t word, Address at, bool condition) {
        const Address behind = at + 4;
        const auto read = capstone_.read(bytes_of(word), at);
        if (read == nullptr) {
            ran_.did.push_back(text(word));
            return behind;
        }
        const cs_arm64& detail = read->detail->arm64;
        const auto operand = [&](int i) { return detail.operands[i < 0 ? detail.op_count + i : i]; };
        const auto target = [&] { return Address{static_cast<std::uintptr_t>(operand(-1).imm)}; };
        switch (read->id) {
            case ARM64_INS_NOP:
                return behind;
            case ARM64_INS_MOVZ:
                known_[wide(operand(0))] = part(operand(1));
                return behind;
            case ARM64_INS_MOVK:
                if (!known_.contains(wide(operand(0)))) break;
                known_[wide(operand(0))] |= part(operand(1));
                return behind;
            case ARM64_INS_ADR:
            case ARM64_INS_ADRP:
                if (wide(operand(0)) != "xzr") known_[wide(operand(0))] = target().value;
                return behind;
            case ARM64_INS_STR:
                if (word != 0xf81f'0ff0) break;
                saved_.push_back(known_);
                return behind;
            case ARM64_INS_LDR:
            case ARM64_INS_LDRSW:
            case ARM64_INS_PRFM:
                if (word == 0xf841'07f0 && !saved_.empty()) {
                    known_ = saved_.back();
                    saved_.pop_back();
                    return behind;
                }
                if (operand(-1).type == ARM64_OP_IMM && detail.op_count == 2) return load(*read, target().value), behind;
                if (operand(-1).type != ARM64_OP_MEM || operand(-1).mem.disp != 0 || detail.writeback) break;
                if (const auto base = known_.find(capstone_.name(operand(-1).mem.base)); base != known_.end())
                    return load(*read, base->second), behind;
                break;
            case ARM64_INS_B:
                if (std::string(read->mnemonic) == "b") return target();
                [[fallthrough]];
            case ARM64_INS_CBZ:
            case ARM64_INS_CBNZ:
            case ARM64_INS_TBZ:
            case ARM64_INS_TBNZ: {
                const std::string operands = read->op_str;
                ran_.did.push_back(std::string(read->mnemonic) + " " + operands.substr(0, operands.rfind('#')));
                return condition ? target() : behind;
            }
            case ARM64_INS_BL:
                known_["x30"] = behind.value;
                return target();
            case ARM64_INS_BLR:
                known_["x30"] = behind.value;
                [[fallthrough]];
            case ARM64_INS_BR:
            case ARM64_INS_RET: {
                const std::string name = detail.op_count == 0 ? "x30" : wide(operand(0));
                const auto value = known_.find(name);
                ran_.left_to = value == known_.end() ? name : text(value->second);
                return std::nullopt;
            }
            default:
                break;
        }
        ran_.did.push_back(text(word));
        return behind;
    }

    std::string wide(const cs_arm64_op& operand) const {
        std::string name = capstone_.name(operand.reg);
        if (name[0] == 'w') name[0] = 'x';
        return name;
    }
    static std::uint64_t part(const cs_arm64_op& operand) {
        return static_cast<std::uint64_t>(operand.imm) << (operand.shift.type == ARM64_SFT_LSL ? operand.shift.value : 0);
    }
    void load(const cs_insn& read, std::uint64_t from) {
        const std::string operands = read.op_str;
        const std::string what = std::string(read.mnemonic) + " " + operands.substr(0, operands.find(','));
        ran_.did.push_back(what + " from " + text(from));
        if (read.detail->arm64.operands[0].type != ARM64_OP_REG) return;
        const std::string to = wide(read.detail->arm64.operands[0]);
        known_.erase(to);
        if (to != "xzr") ran_.registers[to] = what;
    }

    Capstone capstone_;
    Ran ran_;
    std::map<std::string, std::uint64_t> known_;
    std::vector<std::map<std::string, std::uint64_t>> saved_;
};

struct Copied {
    Displaced displaced;
    Relocated relocated;
    Address at;
    Words words;
};
Result<Copied> copy_of(std::uint32_t word, Address runs_at = home + away) {
    const auto displaced = read_displaced(bytes_of(word), home, 4);
    if (!displaced) return std::unexpected(displaced.error());
    std::array<std::byte, Relocated::most_bytes> room;
    const auto relocated = relocate(*displaced, runs_at, room);
    if (!relocated) return std::unexpected(relocated.error());
    return Copied{*displaced, *relocated, runs_at, words_of(std::span(room).first(relocated->size))};
}

bool is_call(std::uint32_t word) { return (word & 0xfc00'0000) == 0x9400'0000; }

void expect_same(Interpreter& interpreter, std::uint32_t word, const Copied& copied) {
    for (const bool condition : {false, true}) {
        const Ran original = interpreter.run({word}, home, condition);
        Ran copy = interpreter.run(copied.words, copied.at, condition);
        if (is_call(word)) copy.registers.erase("x16");  // a linker's veneer may change it there, too
        ASSERT_EQ(copy, original) << std::hex << word << " at " << copied.at.value << (condition ? ", taken" : "");
    }
}

// Every form that counts from its own address, and its bits that are not fixed.
struct FormOf {
    const char* name;
    std::uint32_t fixed, others;
    unsigned low, bits;  // of the distance
};
constexpr FormOf forms[] = {
    {"b", 0x1400'0000, 0x03ff'ffff, 0, 26},      {"bl", 0x9400'0000, 0x03ff'ffff, 0, 26},
    {"b.cond", 0x5400'0000, 0x00ff'ffef, 5, 19}, {"cbz w", 0x3400'0000, 0x00ff'ffff, 5, 19},
    {"cbz x", 0xb400'0000, 0x00ff'ffff, 5, 19},  {"cbnz w", 0x3500'0000, 0x00ff'ffff, 5, 19},
    {"cbnz x", 0xb500'0000, 0x00ff'ffff, 5, 19}, {"tbz w", 0x3600'0000, 0x00ff'ffff, 5, 14},
    {"tbz x", 0xb600'0000, 0x00ff'ffff, 5, 14},  {"tbnz w", 0x3700'0000, 0x00ff'ffff, 5, 14},
    {"tbnz x", 0xb700'0000, 0x00ff'ffff, 5, 14}, {"adr", 0x1000'0000, 0x60ff'ffff, 5, 19},
    {"adrp", 0x9000'0000, 0x60ff'ffff, 5, 19},   {"ldr w", 0x1800'0000, 0x00ff'ffff, 5, 19},
    {"ldr x", 0x5800'0000, 0x00ff'ffff, 5, 19},  {"ldrsw", 0x9800'0000, 0x00ff'ffff, 5, 19},
    {"prfm", 0xd800'0000, 0x00ff'ffff, 5, 19},   {"ldr s", 0x1c00'0000, 0x00ff'ffff, 5, 19},
    {"ldr d", 0x5c00'0000, 0x00ff'ffff, 5, 19},  {"ldr q", 0x9c00'0000, 0x00ff'ffff, 5, 19},
};
std::uint32_t with_distance(const FormOf& form, std::uint32_t word, std::int64_t words) {
    const std::uint32_t field = static_cast<std::uint32_t>((std::uint64_t{1} << form.bits) - 1) << form.low;
    return (word & ~field) | (static_cast<std::uint32_t>(words) << form.low & field);
}

TEST(RelocateArm64, CopiesDoWhatTheirOriginalsDo) {
    Interpreter interpreter;
    std::mt19937 random(65);
    // Near enough for some literals, and further than conditional branches lead.
    constexpr std::ptrdiff_t places[] = {0x10'8000, -0x10'8000, away, -away};
    for (const FormOf& form : forms) {
        SCOPED_TRACE(form.name);
        int copies = 0;
        for (int round = 0; round < 4000; ++round) {
            const std::uint32_t word = form.fixed | (static_cast<std::uint32_t>(random()) & form.others);
            for (const std::ptrdiff_t place : places) {
                const auto copied = copy_of(word, home + place);
                if (!copied) {
                    // A branch that leads as far as it can leads too far from elsewhere.
                    ASSERT_EQ(form.bits, 26u);
                    ASSERT_EQ(copied.error().code, Errc::out_of_reach);
                    continue;
                }
                ++copies;
                ASSERT_NO_FATAL_FAILURE(expect_same(interpreter, word, *copied));
            }
        }
        EXPECT_GT(copies, 8000);
    }
}

// With the least and the greatest distance that each form can have, from copies that are just near enough for each of their
// branches, and one step further. A call goes on through x16 then, and nothing else does.
TEST(RelocateArm64, BothLimitsOfEveryForm) {
    Interpreter interpreter;
    Capstone decode;
    for (const FormOf& form : forms) {
        std::size_t reached = 0, refused = 0;
        const std::int64_t half = std::int64_t{1} << (form.bits - 1);
        for (const std::int64_t words : {-half, -half + 1, std::int64_t{-1}, std::int64_t{1}, half - 2, half - 1}) {
            for (const std::uint32_t reg : {0u, 5u, 14u, 30u}) {
                const std::uint32_t word = with_distance(form, form.fixed | (form.low != 0 ? reg & form.others : 0), words);
                SCOPED_TRACE(decode(word, home).mnemonic + " " + decode(word, home).operands);
                const auto sample = copy_of(word, home + (words < 0 ? -away : away));
                ASSERT_TRUE(sample);
                ASSERT_NO_FATAL_FAILURE(expect_same(interpreter, word, *sample));
                for (std::size_t i = 0; i < sample->words.size(); ++i) {
                    const Text branch = decode(sample->words[i], sample->at + static_cast<std::ptrdiff_t>(4 * i));
                    if (branch.mnemonic != "b") continue;
                    const Address target{std::stoull(branch.operands.substr(1), nullptr, 0)};
                    if (target > sample->at && target < sample->at + sample->relocated.size) continue;
                    for (const std::ptrdiff_t limit : {back_most, ahead_most}) {
                        const std::ptrdiff_t step = limit < 0 ? 4 : -4;
                        const Address at_limit = target - limit - static_cast<std::ptrdiff_t>(4 * i);
                        for (const Address at : {at_limit, at_limit - step, at_limit + step}) {
                            const auto copied = copy_of(word, at);
                            const bool is_beyond = at == at_limit + step;
                            if (copied) {
                                ASSERT_TRUE(!is_beyond || is_call(word)) << at.value;
                                ASSERT_EQ(copied->words.size() > sample->words.size(), is_beyond);
                                ASSERT_NO_FATAL_FAILURE(expect_same(interpreter, word, *copied));
                                ++reached;
                                continue;
                            }
                            ASSERT_EQ(copied.error().code, Errc::out_of_reach);
                            // Where another of its branches comes first, that one is it.
                            const std::ptrdiff_t distance = copied.error().address - at;
                            ASSERT_TRUE(copied.error().address == target || distance < back_most + 64 ||
                                        distance > ahead_most - 64);
                            ++refused;
                        }
                    }
                }
            }
        }
        EXPECT_GT(reached, 0u) << form.name;
        EXPECT_TRUE(refused > 0 || is_call(form.fixed)) << form.name;
    }
}

// Loads that have no register for an address: with another distance, as far as that reaches; then through x16, kept on the
// stack.
TEST(RelocateArm64, LiteralsInReachOfTheCopyAndBeyond) {
    Interpreter interpreter;
    constexpr std::ptrdiff_t reach = std::ptrdiff_t{1} << 20;
    for (const std::uint32_t word :
         {0x1c00'0001u, 0x5c00'0001u, 0x9c00'0001u, 0xd800'0001u, 0x1800'001fu, 0x5800'001fu, 0x9800'001fu})
        for (const std::int64_t words : {-0x40000, -3, 0, 8, 0x3ffff}) {
            const std::uint32_t literal = with_distance({"", 0, 0, 5, 19}, word, words);
            const Address operand = home + words * 4;
            for (const auto& [distance, is_near] : {std::pair{-reach - 4, false},
                                                    {-reach, true},
                                                    {reach - 4, true},
                                                    {reach, false},
                                                    {reach * 64, false},
                                                    {-reach * 64, false}}) {
                const auto copied = copy_of(literal, operand - distance);
                ASSERT_TRUE(copied);
                ASSERT_NO_FATAL_FAILURE(expect_same(interpreter, literal, *copied));
                ASSERT_EQ(copied->words.size() == 2, is_near);
                ASSERT_EQ(copied->relocated.raised == 0, is_near);
                if (is_near) continue;
                // From behind the push to behind the pop.
                ASSERT_EQ(copied->relocated.lowered, 4);
                ASSERT_EQ(copied->words[copied->relocated.raised / 4 - 1], 0xf841'07f0);
            }
        }
}

// What Capstone reads otherwise at another address is what the table knows, and nothing else: all opcodes, with random
// operands.
TEST(RelocateArm64, TheTableKnowsWhatCountsFromItsAddressAndNothingElse) {
    Capstone decode;
    Interpreter interpreter;
    std::mt19937 random(64);
    const Address elsewhere = home + 0x1234'5004;
    std::map<std::string, int> relative;
    std::size_t same = 0, unknown = 0;
    const auto check = [&](std::uint32_t word) {
        const Text here = decode(word, home);
        const auto copied = copy_of(word);
        if (here.mnemonic.empty()) {
            // Younger than Capstone: bc.cond, calls that authenticate, and what is refused (EveryPinnedInstructionIsRefused).
            ++unknown;
            const bool is_bc = (word & 0xff00'0010) == 0x5400'0010;
            const bool authenticates = (word & 0xfeff'f800) == 0xd63f'0800;
            ASSERT_TRUE(is_bc || authenticates ||
                        (copied ? copied->words[0] == word : copied.error().code == Errc::not_movable))
                << std::hex << word;
            return;
        }
        if (here != decode(word, elsewhere)) {
            ++relative[here.mnemonic.substr(0, here.mnemonic.find('.'))];
            if (!copied) {
                ASSERT_EQ(here.mnemonic, "b");
                ASSERT_EQ(copied.error().code, Errc::out_of_reach);
                return;
            }
            ASSERT_NE(copied->words[0], word) << here;
            expect_same(interpreter, word, *copied);
            return;
        }
        if (here.mnemonic == "blr") return;  // CallsThroughRegistersBecomeJumps
        ASSERT_TRUE(copied) << here;
        ++same;
        ASSERT_EQ(copied->words[0], word) << here;
        ASSERT_EQ(copied->words.size(), copied->displaced.goes_on ? 2u : 1u) << here;
        expect_same(interpreter, word, *copied);
    };
    for (std::uint32_t opcode = 0; opcode < 256; ++opcode)
        for (int round = 0; round < 1000; ++round)
            ASSERT_NO_FATAL_FAILURE(check(opcode << 24 | (static_cast<std::uint32_t>(random()) & 0x00ff'ffff)));
    for (int round = 0; round < 200'000; ++round) ASSERT_NO_FATAL_FAILURE(check(static_cast<std::uint32_t>(random())));
    std::printf("%zu the same, %zu unknown to Capstone\n", same, unknown);
    EXPECT_GT(same, 50'000u);
    for (const char* name : {"b", "bl", "cbz", "cbnz", "tbz", "tbnz", "adr", "adrp", "ldr", "ldrsw", "prfm"})
        EXPECT_GT(relative[name], 1000) << name;
    EXPECT_EQ(relative.size(), 11u);
}

// bc.cond differs from b.cond, which Capstone reads, in one bit.
TEST(RelocateArm64, ConsistentConditionsAreConditions) {
    for (std::uint32_t condition = 0; condition < 16; ++condition) {
        const std::uint32_t word = 0x5400'0000 | 0x1234 << 5 | condition;
        auto copied = copy_of(word | 0x10);
        ASSERT_TRUE(copied);
        EXPECT_EQ(copied->words[0] & 0x1f, condition | 0x10);
        copied->words[0] &= ~0x10u;
        EXPECT_EQ(copied->words, copy_of(word)->words);
    }
}

// As assembled by LLVM 19.
TEST(RelocateArm64, EveryPinnedInstructionIsRefused) {
    constexpr std::uint32_t pinned[] = {
        0x1901'0440, 0x1941'0440, 0x1981'0440,               // cpyfp, cpyfm, cpyfe
        0x1d01'0440, 0x19c2'0420,                            // cpyp, setp
        0xdac1'a3fe, 0xdac1'a7fe, 0xdac1'83fe, 0xdac1'87fe,  // paciasppc, pacibsppc, pacnbiasppc, pacnbibsppc
        0xf380'009f, 0xf3a0'009f, 0x5500'009f, 0x5520'009f,  // autiasppc, autibsppc, retaasppc, retabsppc
        0x0420'bc41, 0x0491'2441, 0x0490'2441,               // movprfx: alone, merging, zeroing
        0xd503'24ff,                                         // pacm
        0x7400'0000, 0xf500'0000,                            // compare and branch
    };
    for (const std::uint32_t word : pinned) {
        const auto copied = copy_of(word);
        ASSERT_FALSE(copied) << std::hex << word;
        EXPECT_EQ(copied.error().code, Errc::not_movable);
        EXPECT_EQ(copied.error().address, home);
    }
    for (const std::uint32_t word : {0x9940'0041u, 0x1901'0840u, 0xdac1'903eu, 0xd503'233fu, 0x0496'a061u})
        EXPECT_TRUE(copy_of(word));
}

TEST(RelocateArm64, CallsThroughRegistersBecomeJumps) {
    Interpreter interpreter;
    Capstone decode;
    for (std::uint32_t reg = 0; reg < 31; ++reg) {
        const std::uint32_t word = 0xd63f'0000 | reg << 5;
        const auto copied = copy_of(word);
        if (reg == 30) {
            EXPECT_EQ(copied.error().code, Errc::not_movable);
            EXPECT_EQ(copied.error().address, home);
            continue;
        }
        ASSERT_TRUE(copied);
        ASSERT_NO_FATAL_FAILURE(expect_same(interpreter, word, *copied));
        EXPECT_EQ(decode(copied->words.back(), home).mnemonic, "br");
        EXPECT_EQ(copied->displaced.calls, 1);
    }
    const auto authenticated = copy_of(0xd73f'0800 | 3 << 5 | 4);  // blraa x3, x4
    ASSERT_TRUE(authenticated);
    EXPECT_EQ(authenticated->words.back(), 0xd71f'0800u | 3 << 5 | 4);
    EXPECT_EQ(copy_of(0xd73f'0800 | 3 << 5 | 30).error().code, Errc::not_movable);
}

// ret, because on a guarded page br would come to landing pads alone.
TEST(RelocateArm64, AFarCallReturnsToWhatItCalls) {
    Capstone decode;
    const auto near = copy_of(0x9400'0000 | 0x1ff'ffff, home + 0x1000), far = copy_of(0x9400'0000 | 0x1ff'ffff, home - 0x1000);
    ASSERT_TRUE(near && far);
    EXPECT_EQ(decode(near->words.back(), near->at).mnemonic, "b");
    EXPECT_EQ(decode(far->words.back(), far->at), (Text{"ret", "x16"}));
}

TEST(RelocateArm64, KnowsWhereExecutionEnds) {
    for (const std::uint32_t word : {0xd65f'03c0u, 0xd65f'0bffu, 0xd61f'0200u, 0x1400'0004u, 0x0000'0000u, 0xd71f'0811u})
        EXPECT_FALSE(copy_of(word)->displaced.goes_on) << std::hex << word;
    for (const std::uint32_t word : {0xd503'201fu, 0xd63f'0000u, 0x9400'0004u, 0x5400'0080u, 0xd400'0001u})
        EXPECT_TRUE(copy_of(word)->displaced.goes_on) << std::hex << word;
    std::array<std::byte, 4> code{};
    EXPECT_EQ(read_displaced(code, home + 2, 4).error().code, Errc::not_an_instruction);
    EXPECT_EQ(read_displaced(std::span(code).first(3), home, 4).error().code, Errc::not_an_instruction);
}

TEST(JumpPlanArm64, EveryPlanIsOneInstruction) {
    const auto nop = bytes_of(0xd503'201f);
    const auto planned = plan_jump(JumpForm::whole, {.at = home, .code = nop, .free_behind = 0, .branches_to = 0b1110});
    ASSERT_TRUE(planned);
    EXPECT_EQ(planned->written, 4);
    EXPECT_EQ(planned->given_mask, 0u);
    EXPECT_EQ(planned->distance_from, 0);
}

TEST(JumpPlanArm64, LandingPadsStayOnGuardedPages) {
    constexpr std::uint32_t bti = 0xd503'241f, bti_c = 0xd503'245f, bti_j = 0xd503'249f, bti_jc = 0xd503'24df,
                            paciasp = 0xd503'233f, pacibsp = 0xd503'237f, pacia1716 = 0xd503'211f;
    for (const auto& [word, is_pad] : {std::pair{bti, false},
                                       {bti_c, true},
                                       {bti_j, true},
                                       {bti_jc, true},
                                       {paciasp, true},
                                       {pacibsp, true},
                                       {pacia1716, false}})
        for (const bool is_guarded : {false, true}) {
            const auto code = bytes_of(word);
            const auto planned = plan_jump(JumpForm::whole, {.at = home, .code = code, .is_guarded = is_guarded});
            ASSERT_EQ(planned.has_value(), !is_pad || !is_guarded) << std::hex << word;
            if (planned) continue;
            EXPECT_EQ(planned.error().code, Errc::landing_pad);
            EXPECT_EQ(planned.error().address, home);
        }
}

constexpr std::uint32_t nop = 0xd503'201f, load = 0x885f'7c20, load_pair = 0xc87f'8440, load_byte = 0x085f'fc20,
                        store = 0xc800'7c41, store_pair = 0xc820'8861, store_half = 0x4800'fc41, clear = 0xd503'3f5f;

// Which instructions of a function can have a probe: '.' can, 'x' is between exclusives, 'm' is not movable.
void expect_allowed(const Words& function, const std::string& expected) {
    std::vector<std::byte> code;
    for (const std::uint32_t word : function)
        for (const std::byte byte : bytes_of(word)) code.push_back(byte);
    std::string found;
    for (std::size_t i = 0; i < function.size(); ++i) {
        const Address at = home + static_cast<std::ptrdiff_t>(4 * i);
        const auto allowed = check_neighbours(code, home, at);
        found += allowed ? '.' : allowed.error().code == Errc::exclusive_access ? 'x' : 'm';
        if (!allowed) {
            EXPECT_EQ(allowed.error().address, at);
        }
    }
    EXPECT_EQ(found, expected);
}

TEST(CheckNeighboursArm64, NothingBetweenALoadExclusiveAndItsStore) {
    expect_allowed({nop, load, nop, nop, store, nop}, "..xxx.");
    expect_allowed({nop, load_pair, store_pair, nop}, "..x.");
    expect_allowed({load_byte, nop, store_half, nop, load, nop, store, nop}, ".xx..xx.");
    expect_allowed({nop, store, nop, load, nop}, ".....");          // a store alone; a load alone
    expect_allowed({load, nop, load, nop, store}, "...xx");         // the first has no store
    expect_allowed({load, nop, clear, nop, store, nop}, "......");  // given up
    // casp, cas, ldar, stlr, ldadd: whole by themselves.
    for (const std::uint32_t whole : {0x4820'7c82u, 0x0820'7c82u, 0xc8a0'7c41u, 0xc8df'fc20u, 0xc89f'fc20u, 0xf820'0041u})
        expect_allowed({nop, load, whole, store, nop, whole, nop, store}, "..xx....");
}

TEST(CheckNeighboursArm64, NothingBehindWhatBelongsToTheNext) {
    constexpr std::uint32_t movprfx = 0x0420'bc41, merging = 0x0491'2441, zeroing = 0x0490'2441, pacm = 0xd503'24ff;
    for (const std::uint32_t prefix : {movprfx, merging, zeroing, pacm}) expect_allowed({nop, prefix, nop, nop}, "..m.");
}

TEST(EncodeJumpAnywhereArm64, ReachesItsLimitsAndBeyond) {
    Interpreter interpreter;
    Capstone decode;
    for (const std::ptrdiff_t distance : {back_most, back_most - 4, ahead_most, ahead_most + 4, std::ptrdiff_t{16},
                                          std::ptrdiff_t{1} << 40, -(std::ptrdiff_t{1} << 40)}) {
        const Words words = words_of(encode_jump_anywhere(home, home + distance));
        ASSERT_EQ(words.size(), jump_anywhere_bytes / 4);
        if (back_most <= distance && distance <= ahead_most) {
            EXPECT_EQ(decode(words[0], home).mnemonic, "b");
            EXPECT_EQ(interpreter.run(words, home, false).left_to, text((home + distance).value));
            continue;
        }
        EXPECT_EQ(decode(words[0], home), (Text{"ldr", "x16, #" + text((home + 8).value)}));
        EXPECT_EQ(decode(words[1], home), (Text{"br", "x16"}));
        EXPECT_EQ(words[2] | std::uint64_t{words[3]} << 32, (home + distance).value);
    }
}

}  // namespace
}  // namespace dynfunc::arch
