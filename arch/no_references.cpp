// SPDX-License-Identifier: MIT
// A machine whose call sites are not looked for: every call goes through its trampoline.
#include "arch.hpp"

namespace dynfunc::arch::DYNFUNC_ARCH {

Address find_reference(AddressRange, Address, AddressRange) noexcept { return {}; }

Address reference_target(Address) noexcept { return {}; }
Address reference_begin(Address field) noexcept { return field; }

Result<std::uint32_t> encode_reference(Address field, std::uint32_t, Address) noexcept {
    return std::unexpected(Error{.code = Errc::text_not_writable, .address = field});
}

}  // namespace dynfunc::arch::DYNFUNC_ARCH
