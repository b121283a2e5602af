// SPDX-License-Identifier: MIT
// Where no stub can be made: machines without one yet, and builds without asmjit or Zydis.
#include "probe_stub.hpp"

namespace dynfunc::arch::DYNFUNC_ARCH {

Result<Stub> encode_stub(const StubRequest&, Address runs_at, std::span<std::byte>) noexcept {
    return std::unexpected(Error{.code = Errc::text_not_writable, .address = runs_at});
}
Result<Stub> encode_wrap_thunk(const ThunkRequest&, Address runs_at, std::span<std::byte>) noexcept {
    return std::unexpected(Error{.code = Errc::text_not_writable, .address = runs_at});
}
std::array<std::byte, jump_anywhere_bytes> encode_jump_anywhere(Address, Address) noexcept { return {}; }
std::size_t encode_frames_begin(std::span<std::byte>) noexcept { return 0; }
std::size_t encode_frame(std::size_t, const Stub&, const Displaced&, Address, std::span<std::byte>) noexcept { return 0; }
Address leave_stub() noexcept { return {}; }
std::uint16_t elf_machine() noexcept { return 0; }
WithVectors with_vectors() noexcept { return nullptr; }
const Breakpoint& breakpoint() noexcept {
    static constexpr Breakpoint none{};
    return none;
}
std::size_t encode_jump_frame(std::size_t, Address, Address, std::span<std::byte>) noexcept { return 0; }
bool has_stubs() noexcept { return false; }

}  // namespace dynfunc::arch::DYNFUNC_ARCH
