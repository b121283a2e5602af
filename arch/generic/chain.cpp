// SPDX-License-Identifier: MIT
// A machine whose code is never written has no chains: whoever calls several callees walks a list of pointers.
#include "arch.hpp"

namespace dynfunc::arch::generic {

Result<std::size_t> encode_chain(std::span<const ChainCall>, const ArgumentLayout&, Address runs_at,
                                 std::span<std::byte>) noexcept {
    return std::unexpected(Error{.code = Errc::text_not_writable, .address = runs_at});
}

std::size_t chain_bytes(std::size_t, const ArgumentLayout&) noexcept { return 0; }

}  // namespace dynfunc::arch::generic
