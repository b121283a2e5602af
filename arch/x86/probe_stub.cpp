// SPDX-License-Identifier: MIT
// Stubs of x86-64, written with asmjit; flags by lahf and seto, which cost nothing beside pushf and popf.
#include "probe_stub.hpp"

#define ASMJIT_STATIC
#include <asmjit/x86.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
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

// All but rsp, rax and rcx, which are saved first and restored last.
constexpr std::array others{
    std::pair{2, offsetof(Registers, rdx)},  std::pair{3, offsetof(Registers, rbx)},  std::pair{6, offsetof(Registers, rsi)},
    std::pair{7, offsetof(Registers, rdi)},  std::pair{8, offsetof(Registers, r8)},   std::pair{9, offsetof(Registers, r9)},
    std::pair{10, offsetof(Registers, r10)}, std::pair{11, offsetof(Registers, r11)}, std::pair{12, offsetof(Registers, r12)},
    std::pair{13, offsetof(Registers, r13)}, std::pair{14, offsetof(Registers, r14)}, std::pair{15, offsetof(Registers, r15)},
    std::pair{5, offsetof(Registers, rbp)},
};

Mem slot(std::size_t at) noexcept { return qword_ptr(rsp, static_cast<std::int32_t>(at)); }

class Writer {
public:
    Writer(const StubRequest& request, Address runs_at) noexcept : request_(request), runs_at_(runs_at) {
        code_.init(asmjit::Environment(asmjit::Arch::kX64));
        code_.attach(&a_);
    }

    Result<Stub> write(std::span<std::byte> room) noexcept {
        Stub stub;
        const asmjit::Label leave = a_.newLabel(), popf = a_.newLabel(), raise = a_.newLabel();
        save(stub);
        a_.mov(rdi, std::uint64_t{request_.site.value});
        a_.mov(rsi, rsp);
        a_.lea(rbp, slot(offsetof(Registers, rbp)));
        stub.frame[1] = here();
        a_.and_(rsp, -16);
        call(Address::of(&dynfunc_probe_hit));
        a_.lea(rsp, ptr(rbp, -static_cast<std::int32_t>(offsetof(Registers, rbp))));
        stub.frame[2] = here();
        a_.test(al, al);
        a_.jnz(leave);
        restore(popf, raise);
        stub.frame[3] = here();

        stub.copy = here();
        std::array<std::byte, Relocated::most_bytes> copy;
        const auto relocated = relocate(*request_.displaced, runs_at_ + stub.copy, copy);
        if (!relocated) return std::unexpected(relocated.error());
        stub.relocated = *relocated;
        a_.embed(copy.data(), relocated->size);

        a_.bind(leave);
        a_.mov(rdi, rsp);
        call(leave_stub());
        if (!request_.is_function_begin) put_slow_flags(popf, raise);
        while (a_.offset() % 16 != 0) a_.int3();

        if (code_.flatten() != 0 || code_.resolveUnresolvedLinks() != 0 || code_.relocateToBase(runs_at_.value) != 0)
            return refused();
        const std::size_t size = code_.codeSize();
        if (size > room.size() || code_.copyFlattenedData(room.data(), room.size()) != 0) return refused();
        stub.size = static_cast<std::uint16_t>(size);
        return stub;
    }

private:
    std::uint16_t here() const noexcept { return static_cast<std::uint16_t>(a_.offset()); }
    std::unexpected<Error> refused() const noexcept {
        return std::unexpected(Error{.code = Errc::out_of_memory, .address = runs_at_});
    }

    void save(Stub& stub) noexcept {
        a_.lea(rsp, ptr(rsp, -frame_bytes));
        stub.frame[0] = here();
        a_.mov(slot(offsetof(Registers, rax)), rax);
        a_.mov(slot(offsetof(Registers, rcx)), rcx);
        if (request_.is_function_begin) {
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
        a_.mov(rax, std::uint64_t{request_.displaced->at.value});
        a_.mov(slot(offsetof(Registers, rip)), rax);
    }

    // The overflow flag by an addition that overflows if it is to be set, the others by sahf, which keeps it.
    void restore(const asmjit::Label& popf, const asmjit::Label& raise) noexcept {
        for (const auto& [number, at] : others) a_.mov(gpq(static_cast<std::uint32_t>(number)), slot(at));
        a_.mov(rax, slot(offsetof(Registers, rflags)));
        if (!request_.is_function_begin) {
            a_.test(eax, direction_flag);
            a_.jnz(popf);
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

    void put_slow_flags(const asmjit::Label& popf, const asmjit::Label& raise) noexcept {
        a_.bind(popf);
        a_.push(rax);
        a_.popfq();
        a_.jmp(raise);
    }

    void call(Address to) noexcept {
        const Address behind = runs_at_ + here() + 5;
        if (std::in_range<std::int32_t>(to - behind)) {
            a_.call(to.value);
        } else {
            a_.mov(rax, std::uint64_t{to.value});
            a_.call(rax);
        }
    }

    const StubRequest& request_;
    Address runs_at_;
    asmjit::CodeHolder code_;
    Assembler a_;
};

}  // namespace

Result<Stub> encode_stub(const StubRequest& request, Address runs_at, std::span<std::byte> room) noexcept {
    return Writer(request, runs_at).write(room);
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
