// SPDX-License-Identifier: MIT
// Dynamic functions: one batch of retargets.
#include "registry.hpp"

namespace dynfunc {

Result<void> Registry::retarget(std::span<const Retarget> batch) noexcept {
    const Hold hold(*this);
    if (batch.empty()) return std::unexpected(Error{.code = Errc::empty_batch});
    const auto refused = [batch](Errc code, std::size_t i) {
        return std::unexpected(Error{.code = code, .address = Address::of(batch[i].key_), .element = i});
    };
    const auto target_of = [batch](std::size_t i) {
        return batch[i].target_ != nullptr ? batch[i].target_ : batch[i].key_->jump.null_target;
    };
    for (std::size_t i = 0; i < batch.size(); ++i) {
        if (batch[i].key_ == nullptr || !claim(batch[i].key_->identity)) return refused(Errc::foreign_key, i);
        if (target_of(i) == nullptr) return refused(Errc::no_null_target, i);
    }
    if (const auto i = find_duplicate(batch.size(), [batch](std::size_t i) -> bool& { return batch[i].key_->jump.in_batch; }))
        return refused(Errc::duplicate_in_batch, *i);
    for (const Retarget& element : batch) prepare_sites(element.key_->jump);
    update_.begin();
    for (std::size_t i = 0; i < batch.size(); ++i)
        if (!update_.set(batch[i].key_->jump, target_of(i), i)) return refused(Errc::out_of_memory, i);
    return update_.apply();
}

Result<void> retarget_all(std::span<const Retarget> batch) noexcept { return Registry::instance().retarget(batch); }

}  // namespace dynfunc
