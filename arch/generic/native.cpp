// SPDX-License-Identifier: MIT
#include "arch.hpp"

namespace dynfunc::arch::generic {

// Nobody has written text.
void flush_text(AddressRange) noexcept {}

bool guards_pages() noexcept { return false; }
bool fetches_whole_copied_words() noexcept { return true; }

EntryFrame entry_frame() noexcept { return {.stack_pointer = 0, .bytes = 0, .return_address = 0, .is_return_on_stack = false}; }

// Nothing to try: null.
ProbeCode probe_code() noexcept { return ProbeCode{.run = nullptr, .site = {}, .first = {}, .second = {}}; }

Address trapped_at(const void*) noexcept { return {}; }
void go_on_at(void*, Address) noexcept {}

bool step_over_site(void*, std::span<const std::byte>, Address) noexcept { return false; }
bool steps_over_sites() noexcept { return false; }

}  // namespace dynfunc::arch::generic
