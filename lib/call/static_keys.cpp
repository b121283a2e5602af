// SPDX-License-Identifier: MIT
// Static keys: one batch of updates.
#include <limits>

#include "registry.hpp"

namespace dynfunc {

Result<void> Registry::update(std::span<const KeyUpdate> batch) noexcept {
    using Step = KeyUpdate::Step;
    constexpr std::uint64_t most = std::numeric_limits<std::uint64_t>::max();
    const Hold hold(*this);
    if (batch.empty()) return std::unexpected(Error{.code = Errc::empty_batch});
    const auto refused = [batch](Errc code, std::size_t i) {
        return std::unexpected(Error{.code = code, .address = Address::of(batch[i].key_), .element = i});
    };
    const auto new_count = [batch](std::size_t i) -> std::uint64_t {
        const std::uint64_t count = batch[i].key_->count;
        switch (batch[i].step_) {
            case Step::enable:
                return count == 0 ? 1 : count;
            case Step::disable:
                return 0;
            case Step::increment:
                return count + 1;
            case Step::decrement:
                return count - 1;
        }
        return count;
    };
    for (std::size_t i = 0; i < batch.size(); ++i) {
        const KeyUpdate& element = batch[i];
        if (element.key_ == nullptr || !claim(element.key_->identity)) return refused(Errc::foreign_key, i);
        if ((element.step_ == Step::increment && element.key_->count == most) ||
            (element.step_ == Step::decrement && element.key_->count == 0))
            return refused(Errc::count_out_of_range, i);
    }
    if (const auto i = find_duplicate(batch.size(), [batch](std::size_t i) -> bool& { return batch[i].key_->branch.in_batch; }))
        return refused(Errc::duplicate_in_batch, *i);
    update_.begin();
    for (std::size_t i = 0; i < batch.size(); ++i) {
        detail::BranchKey& branch = batch[i].key_->branch;
        const bool enabled = new_count(i) != 0;
        if (enabled != (branch.enabled != 0) && !update_.set(branch, enabled, i)) return refused(Errc::out_of_memory, i);
    }
    if (auto done = update_.apply(); !done) return done;
    for (std::size_t i = 0; i < batch.size(); ++i) batch[i].key_->count = new_count(i);
    return {};
}

Result<void> update_all(std::span<const KeyUpdate> batch) noexcept { return Registry::instance().update(batch); }

}  // namespace dynfunc
