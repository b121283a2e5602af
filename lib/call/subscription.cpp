// SPDX-License-Identifier: MIT
// The handles: what is ready to be attached, and what is attached.
#include <new>

#include "callbacks.hpp"
#include "reclaim.hpp"
#include "registry.hpp"

namespace dynfunc {

using detail::AttachedCallback;
using detail::TracepointKey;

Attachment::Attachment(TracepointKey& key, const detail::CallbackShape& shape, const AttachOptions& options) noexcept
    : key_(&key), callback_(shape.function != nullptr ? AttachedCallback::make(shape, options) : nullptr) {
    refused_ = shape.function == nullptr ? Errc::no_callback : Errc::out_of_memory;
    destroy_ = shape.destroy;
}

Attachment::~Attachment() {
    if (callback_ == nullptr) return;
    if (callback_->was_shown)
        retire(*callback_);
    else
        AttachedCallback::free(callback_);
}

void* Attachment::object() const noexcept { return callback_ != nullptr ? callback_->object : nullptr; }
void Attachment::owns_object() noexcept { callback_->destroy = destroy_; }

Result<std::vector<Subscription>> attach_all(std::span<Attachment> batch) noexcept {
    try {
        try_reclaim_own();
        std::vector<Subscription> attached(batch.size());
        if (auto done = Registry::instance().attach(batch, attached.data()); !done) return std::unexpected(done.error());
        return attached;
    } catch (const std::bad_alloc&) {
        return std::unexpected(Error{.code = Errc::out_of_memory});
    }
}

Result<Subscription> attach(Attachment attachment) noexcept {
    try_reclaim_own();
    Subscription attached;
    if (auto done = Registry::instance().attach(std::span(&attachment, 1), &attached); !done)
        return std::unexpected(done.error());
    return attached;
}

Subscription::~Subscription() {
    // Refused: it stays attached, and what it needs stays alive.
    static_cast<void>(detach());
}

bool Subscription::is_attached() const noexcept { return callback_ != nullptr && Registry::instance().is_attached(*callback_); }

std::uint64_t Subscription::hits() const noexcept {
    return callback_ != nullptr ? __atomic_load_n(&callback_->hits, __ATOMIC_RELAXED) : 0;
}

Result<void> Subscription::detach_nosync() noexcept {
    if (callback_ == nullptr) return {};
    if (auto done = Registry::instance().detach(*callback_); !done) return done;
    Registry::instance().let_go(*std::exchange(callback_, nullptr),
                                [](detail::AttachedCallback& callback) { retire(callback); });
    return {};
}

Result<void> Subscription::detach() noexcept {
    if (is_in_section()) return detach_nosync();
    if (callback_ == nullptr) return {};
    const Reclaiming before_its_code_is_unloaded;
    if (auto done = Registry::instance().detach(*callback_); !done) return done;
    // Not retired: another thread's synchronize() might take it, and be late.
    synchronize();
    Registry::instance().let_go(*std::exchange(callback_, nullptr),
                                [](detail::AttachedCallback& callback) { detail::AttachedCallback::free(&callback); });
    return {};
}

}  // namespace dynfunc
