// SPDX-License-Identifier: MIT
// Stubs of x86-64; flags by lahf and seto, which cost nothing beside pushf and popf. asmjit writes one of each kind, of which
// every stub is a copy: 5 us less for each.
#include "probe_stub.hpp"

#define ASMJIT_STATIC
#include <asmjit/x86.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <utility>

#include <dynfunc/detail/export.hpp>

// probe_thunks.S
extern "C" {
DYNFUNC_HIDDEN void dynfunc_with_sse(void (*run)(void*, dynfunc::Registers*), void* a, dynfunc::Registers* registers);
DYNFUNC_HIDDEN void dynfunc_with_avx(void (*run)(void*, dynfunc::Registers*), void* a, dynfunc::Registers* registers);
DYNFUNC_HIDDEN void dynfunc_with_avx512(void (*run)(void*, dynfunc::Registers*), void* a, dynfunc::Registers* registers);
DYNFUNC_HIDDEN void dynfunc_with_avx512f(void (*run)(void*, dynfunc::Registers*), void* a, dynfunc::Registers* registers);
DYNFUNC_HIDDEN void dynfunc_probe_leave(dynfunc::Registers* registers);
DYNFUNC_HIDDEN bool dynfunc_probe_hit(void* site, dynfunc::Registers* registers);
}

// Debian's libasmjit.a can be a part of a shared object but for one member, which is compiled for executables: it prints failed
// assertions. These stand in its place, here and not in a file of their own: they must be there before the linker looks for
// them in that archive. They are weak: where a program has that member too, the member is taken.
namespace asmjit::inline ASMJIT_ABI_NAMESPACE {

[[gnu::weak]] const char* DebugUtils::errorAsString(Error) noexcept { return "asmjit: an error"; }
[[gnu::weak]] void DebugUtils::debugOutput(const char*) noexcept {}
[[gnu::weak]] void DebugUtils::assertionFailed(const char*, int, const char*) noexcept { std::abort(); }

}  // namespace asmjit::inline ASMJIT_ABI_NAMESPACE

namespace dynfunc::arch::x86 {
namespace {

using namespace asmjit::x86;

constexpr int red_zone = 128;
constexpr int frame_bytes = red_zone + static_cast<int>(sizeof(Registers));
constexpr std::uint32_t direction_flag = 0x400;
constexpr int go_to_slot = 2;  // what dynfunc_probe_hit returns (offsets.inc)

// All but rsp, rax and rcx, which are saved first and restored last.
constexpr std::array others{
    std::pair{2, offsetof(Registers, rdx)},  std::pair{3, offsetof(Registers, rbx)},  std::pair{6, offsetof(Registers, rsi)},
    std::pair{7, offsetof(Registers, rdi)},  std::pair{8, offsetof(Registers, r8)},   std::pair{9, offsetof(Registers, r9)},
    std::pair{10, offsetof(Registers, r10)}, std::pair{11, offsetof(Registers, r11)}, std::pair{12, offsetof(Registers, r12)},
    std::pair{13, offsetof(Registers, r13)}, std::pair{14, offsetof(Registers, r14)}, std::pair{15, offsetof(Registers, r15)},
    std::pair{5, offsetof(Registers, rbp)},
};

Mem slot(std::size_t at) noexcept { return qword_ptr(rsp, static_cast<std::int32_t>(at)); }

// What all stubs of a kind have in common: everything but the copy, and fields that are filled in.
struct Template {
    static constexpr std::size_t most_bytes = most_stub_bytes - Relocated::most_bytes - 16;

    std::array<std::byte, most_bytes> bytes;
    std::uint16_t size = 0;
    Stub stub;                             // but for size and relocated
    std::uint16_t site = 0, at = 0;        // 8 bytes
    std::uint16_t hit = 0, leave = 0;      // distances of calls, 4 bytes; 0: they are far, and need none
    std::array<std::uint16_t, 2> ahead{};  // distances over the copy, 4 bytes; 0: there is none
    std::uint16_t back = 0;                // the same, counted down
};

class TemplateWriter {
public:
    TemplateWriter(bool is_function_begin, bool is_far) noexcept : is_function_begin_(is_function_begin), is_far_(is_far) {
        code_.init(asmjit::Environment(asmjit::Arch::kX64));
        code_.attach(&a_);
    }

    bool write(Template& made) noexcept {
        Stub& stub = made.stub;
        const asmjit::Label leave = a_.newLabel(), popf = a_.newLabel(), raise = a_.newLabel();
        save(made);
        a_.movabs(rdi, placeholder);
        made.site = field(8);
        a_.mov(rsi, rsp);
        a_.lea(rbp, slot(offsetof(Registers, rbp)));
        stub.frame[1] = here();
        a_.and_(rsp, -16);
        made.hit = call(Address::of(&dynfunc_probe_hit));
        a_.lea(rsp, ptr(rbp, -static_cast<std::int32_t>(offsetof(Registers, rbp))));
        stub.frame[2] = here();
        a_.test(al, al);
        a_.long_().jnz(leave);
        made.ahead[0] = field(4);
        restore(made, popf, raise);
        stub.frame[3] = here();

        stub.copy = here();
        a_.bind(leave);
        if (is_function_begin_) {
            // To a slot, of which the address is in rdx: it stands in for the caller, so what the caller pushed is popped.
            const asmjit::Label elsewhere = a_.newLabel();
            a_.cmp(al, go_to_slot);
            a_.jne(elsewhere);
            a_.mov(slot(static_cast<std::size_t>(frame_bytes) - 8), rdx);
            for (const auto& [number, at] : others) a_.mov(gpq(static_cast<std::uint32_t>(number)), slot(at));
            a_.mov(rcx, slot(offsetof(Registers, rcx)));
            a_.mov(rax, slot(offsetof(Registers, rax)));
            a_.lea(rsp, ptr(rsp, frame_bytes + 8));
            stub.frame[4] = here();
            a_.jmp(qword_ptr(rsp, -16));
            stub.frame[5] = here();
            a_.bind(elsewhere);
        }
        a_.mov(rdi, rsp);
        made.leave = call(leave_stub());
        if (!is_function_begin_) put_slow_flags(made, popf, raise);
        if (code_.flatten() != 0 || code_.resolveUnresolvedLinks() != 0) return false;
        const std::size_t size = code_.codeSize();
        made.size = static_cast<std::uint16_t>(size);
        return size <= made.bytes.size() && code_.copyFlattenedData(made.bytes.data(), made.bytes.size()) == 0;
    }

private:
    static constexpr std::uint64_t placeholder = 0;

    std::uint16_t here() const noexcept { return static_cast<std::uint16_t>(a_.offset()); }
    // The last one of the instruction that was put.
    std::uint16_t field(std::uint16_t bytes) const noexcept { return static_cast<std::uint16_t>(here() - bytes); }

    void save(Template& made) noexcept {
        a_.lea(rsp, ptr(rsp, -frame_bytes));
        made.stub.frame[0] = here();
        a_.mov(slot(offsetof(Registers, rax)), rax);
        a_.mov(slot(offsetof(Registers, rcx)), rcx);
        if (is_function_begin_) {
            // ah: sign, zero, auxiliary carry, parity, carry, as in the low byte of the flags; al: overflow, flag 11.
            a_.lahf();
            a_.seto(al);
            a_.movzx(ecx, ah);
            a_.movzx(eax, al);
            a_.shl(eax, 11);
            a_.lea(eax, ptr(rax, rcx, 0, 0x200));  // interrupts are enabled
            a_.mov(slot(offsetof(Registers, rflags)), rax);
        } else {
            a_.pushfq();
            a_.pop(slot(offsetof(Registers, rflags)));  // counted from rsp behind the pop
            a_.cld();
        }
        for (const auto& [number, at] : others) a_.mov(slot(at), gpq(static_cast<std::uint32_t>(number)));
        a_.lea(rax, ptr(rsp, frame_bytes));
        a_.mov(slot(offsetof(Registers, rsp)), rax);
        a_.movabs(rax, placeholder);
        made.at = field(8);
        a_.mov(slot(offsetof(Registers, rip)), rax);
    }

    // The overflow flag by an addition that overflows if it is to be set, the others by sahf, which keeps it.
    void restore(Template& made, const asmjit::Label& popf, const asmjit::Label& raise) noexcept {
        for (const auto& [number, at] : others) a_.mov(gpq(static_cast<std::uint32_t>(number)), slot(at));
        a_.mov(rax, slot(offsetof(Registers, rflags)));
        if (!is_function_begin_) {
            a_.test(eax, direction_flag);
            a_.long_().jnz(popf);
            made.ahead[1] = field(4);
        }
        a_.mov(ecx, eax);
        a_.shr(ecx, 11);
        a_.and_(ecx, 1);
        a_.mov(ah, al);
        a_.add(cl, 0x7f);
        a_.sahf();
        a_.bind(raise);
        a_.mov(rcx, slot(offsetof(Registers, rcx)));
        a_.mov(rax, slot(offsetof(Registers, rax)));
        a_.lea(rsp, ptr(rsp, frame_bytes));
    }

    void put_slow_flags(Template& made, const asmjit::Label& popf, const asmjit::Label& raise) noexcept {
        a_.bind(popf);
        a_.push(rax);
        a_.popfq();
        a_.long_().jmp(raise);
        made.back = field(4);
    }

    // Where its distance is.
    std::uint16_t call(Address to) noexcept {
        if (is_far_) {
            a_.mov(rax, std::uint64_t{to.value});
            a_.call(rax);
            return 0;
        }
        constexpr std::uint8_t near[] = {0xe8, 0, 0, 0, 0};
        a_.embed(near, sizeof near);
        return field(4);
    }

    bool is_function_begin_, is_far_;
    asmjit::CodeHolder code_;
    Assembler a_;
};

// Made when it is first asked for, and kept. No guard, which a raw clone's child could find taken: of two that are made at once
// one is shown.
const Template* template_of(bool is_function_begin, bool is_far) noexcept {
    static constinit std::atomic<const Template*> templates[2][2];
    std::atomic<const Template*>& shown = templates[is_function_begin ? 1 : 0][is_far ? 1 : 0];
    if (const Template* const known = shown.load(std::memory_order_acquire)) return known;
    std::unique_ptr<Template> made(new (std::nothrow) Template);
    if (made == nullptr || !TemplateWriter(is_function_begin, is_far).write(*made)) return nullptr;
    const Template* known = nullptr;
    if (shown.compare_exchange_strong(known, made.get(), std::memory_order_acq_rel, std::memory_order_acquire))
        return made.release();
    return known;
}

template <class T>
void fill_in(std::span<std::byte> code, std::size_t at, T value) noexcept {
    std::memcpy(code.data() + at, &value, sizeof value);
}
void add_to_distance(std::span<std::byte> code, std::size_t at, std::ptrdiff_t more) noexcept {
    std::int32_t distance;
    std::memcpy(&distance, code.data() + at, sizeof distance);
    fill_in(code, at, static_cast<std::int32_t>(distance + more));
}

bool reaches_from_all(Address runs_at, Address to) noexcept {
    return std::in_range<std::int32_t>(to - runs_at) &&
           std::in_range<std::int32_t>(to - (runs_at + static_cast<std::ptrdiff_t>(most_stub_bytes)));
}

}  // namespace

Result<Stub> encode_stub(const StubRequest& request, Address runs_at, std::span<std::byte> room) noexcept {
    const auto no_memory = [runs_at] { return std::unexpected(Error{.code = Errc::out_of_memory, .address = runs_at}); };
    const Address hit = Address::of(&dynfunc_probe_hit), leave = leave_stub();
    const bool is_far = !reaches_from_all(runs_at, hit) || !reaches_from_all(runs_at, leave);
    const Template* const made = template_of(request.is_function_begin, is_far);
    if (made == nullptr) return no_memory();
    Stub stub = made->stub;
    const std::size_t copy = stub.copy;
    std::array<std::byte, Relocated::most_bytes> copied;
    const auto relocated = relocate(*request.displaced, runs_at + stub.copy, copied);
    if (!relocated) return std::unexpected(relocated.error());
    stub.relocated = *relocated;
    const std::size_t size = (made->size + std::size_t{relocated->size} + 15) / 16 * 16;
    if (size > room.size()) return no_memory();
    stub.size = static_cast<std::uint16_t>(size);

    const auto behind = std::copy_n(made->bytes.begin(), copy, room.begin());
    const auto rest = std::copy_n(copied.begin(), relocated->size, behind);
    const auto end = std::copy(made->bytes.begin() + stub.copy, made->bytes.begin() + made->size, rest);
    std::fill(end, room.begin() + stub.size, breakpoint().bytes[0]);

    const auto moved = [&](std::size_t at) { return at < copy ? at : at + relocated->size; };
    const auto fill_in_call = [&](std::size_t at, Address to) {
        if (at == 0) return;
        const Address next = runs_at + static_cast<std::ptrdiff_t>(moved(at) + sizeof(std::int32_t));
        fill_in(room, moved(at), static_cast<std::int32_t>(to - next));
    };
    fill_in(room, made->site, request.site.value);
    fill_in(room, made->at, request.displaced->at.value);
    fill_in_call(made->hit, hit);
    fill_in_call(made->leave, leave);
    for (const std::size_t at : made->ahead)
        if (at != 0) add_to_distance(room, at, relocated->size);
    if (made->back != 0) add_to_distance(room, moved(made->back), -std::ptrdiff_t{relocated->size});
    return stub;
}

// ff 25 02 00 00 00   jmp *2(%rip)
// cc cc               never reached
// .quad target
std::array<std::byte, jump_anywhere_bytes> encode_jump_anywhere(Address runs_at, Address target) noexcept {
    std::array<std::byte, jump_anywhere_bytes> bytes;
    bytes.fill(std::byte{0xcc});
    if (const auto direct = encode_site(SiteKind::branch, runs_at, target)) {
        std::ranges::copy(direct->span(), bytes.begin());
        return bytes;
    }
    constexpr std::uint8_t jump[] = {0xff, 0x25, 2, 0, 0, 0};
    std::memcpy(bytes.data(), jump, sizeof jump);
    std::memcpy(bytes.data() + 8, &target.value, sizeof target.value);
    return bytes;
}

bool has_stubs() noexcept { return true; }

Address leave_stub() noexcept { return Address::of(&dynfunc_probe_leave); }

// What the processor has and the system keeps for threads.
WithVectors with_vectors() noexcept {
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512bw")) return &dynfunc_with_avx512;
    if (__builtin_cpu_supports("avx512f")) return &dynfunc_with_avx512f;
    if (__builtin_cpu_supports("avx")) return &dynfunc_with_avx;
    return &dynfunc_with_sse;
}

const Breakpoint& breakpoint() noexcept {
    static constexpr Breakpoint int3{.bytes = {std::byte{0xcc}}, .size = 1};
    return int3;
}

}  // namespace dynfunc::arch::x86
