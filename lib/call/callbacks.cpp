// SPDX-License-Identifier: MIT
// Attaching and detaching: what each jump of a tracepoint leads to, and when what is detached may go.
//
//     1. memory      lists are made before the lock is taken; if the key's list has grown meanwhile, once more
//     2. new code    written where no thread can be, and seen by every core, before anything leads to it
//     3. update      list, inner jump, outer jump, branch: one batch, one membarrier
//     4. retired     the old list with its code, and what was detached, until a grace period is over
#include "callbacks.hpp"

#include <algorithm>
#include <new>

#include "arguments.hpp"
#include "backend.hpp"
#include "reclaim.hpp"
#include "registry.hpp"

namespace dynfunc {

using detail::AttachedCallback;
using detail::Callback;
using detail::TraceFunction;
using detail::TracepointKey;

namespace {

[[gnu::tls_model("initial-exec")]] thread_local constinit unsigned nested_events = 0;

bool is_same(const Callback& callback, const AttachedCallback& other) noexcept {
    return callback.function == other.function && callback.data == other.data && callback.with_data == other.with_data;
}

// The old entries and the new one, by priority, ties by age.
void fill(OwnedList& list, const OwnedList* old, AttachedCallback* added, const AttachedCallback* left_out) noexcept {
    list.clear();
    const auto add_if_due = [&](int next_priority) {
        if (added == nullptr || added->priority <= next_priority) return;
        list.push_back(added->entry());
        added = nullptr;
    };
    if (old != nullptr) {
        for (const Callback* callback = old->begin; callback != old->end; ++callback) {
            if (!is_live(*callback) || callback->attached == left_out) continue;
            add_if_due(callback->attached->priority);
            list.push_back(*callback);
        }
    }
    if (added != nullptr) list.push_back(added->entry());
}

void retire_list(OwnedList* list) noexcept {
    if (list != nullptr) retire_own(*list);
}

}  // namespace

bool detail::enter_nested_event(TracepointKey& key) noexcept {
    if (nested_events < max_nested_events) {
        ++nested_events;
        return true;
    }
    __atomic_fetch_add(&key.cut, 1, __ATOMIC_RELAXED);
    return false;
}

void detail::leave_nested_event() noexcept { --nested_events; }

// Code that calls the list's callbacks in turn. Empty where there can be none: then `iterate` walks the list.
ChainBlock Registry::make_chain(TracepointKey& key, const OwnedList& list) noexcept {
    if (backend().writing == nullptr) return {};
    const Address part = Address::of(key.chain_part);
    detail::Tables* tables = first_;
    while (tables != nullptr && !(Address::of(tables->chains) <= part && part < Address::of(tables->chains_end)))
        tables = tables->next;
    if (tables == nullptr) return {};
    if (tables->chain_area == nullptr)
        tables->chain_area = ChainArea::open({Address::of(tables->chains), Address::of(tables->chains_end)});
    if (tables->chain_area == nullptr) return {};

    chain_calls_.clear();
    for (const Callback* callback = list.begin; callback != list.end; ++callback)
        if (is_live(*callback) &&
            !chain_calls_.push_back({Address::of(callback->function), reinterpret_cast<std::uintptr_t>(callback->data),
                                     callback->with_data, callback->hits}))
            return {};
    const arch::ArgumentLayout layout = argument_layout(key.places());
    const std::size_t most = arch::chain_bytes(chain_calls_.size(), layout);
    if (!chain_code_.reserve(most)) return {};
    ChainBlock block = static_cast<ChainArea*>(tables->chain_area)->allocate(most);
    if (!block) return {};
    const Address at = ChainArea::address_of(block);
    const std::span<std::byte> code(chain_code_.begin(), most);
    const auto used = arch::encode_chain(chain_calls_, layout, at, code);
    if (!used || !TextPoke(*backend().writing).write_new(at, code.first(*used))) {
        ChainArea::release(block);
        return {};
    }
    ChainArea::trim(block, *used);
    return block;
}

// Adds to the update what leads to the live callbacks of `list`. `chain` is the code that was made for it.
bool Registry::set_list(TracepointKey& key, OwnedList* list, ChainBlock& chain, std::size_t element) noexcept {
    void* inner = key.inner.null_target;
    void* outer = key.outer.null_target;
    chain = {};
    const std::size_t live = list != nullptr ? list->live() : 0;
    if (live != 0) {
        const Callback& first = *std::find_if(list->begin, list->end, is_live);
        const bool plain = live == 1 && !first.with_data && first.hits == nullptr;
        outer = plain && first.static_lifetime ? first.function : key.function(TraceFunction::deliver);
        if (plain)
            inner = first.function;
        else if ((chain = make_chain(key, *list)))
            inner = ChainArea::address_of(chain).as<void*>();
        else
            inner = key.function(TraceFunction::iterate);
    }
    const bool set = update_.set(reinterpret_cast<const void**>(&key.list), live != 0 ? list : nullptr) &&
                     update_.set(key.inner, inner, element) && update_.set(key.outer, outer, element) &&
                     update_.set(key.branch, live != 0, element);
    if (!set) {
        ChainArea::release(chain);
        chain = {};
    }
    return set;
}

Result<void> Registry::check(std::span<Attachment> batch) noexcept {
    const auto refused = [batch](Errc code, std::size_t i) {
        return std::unexpected(Error{.code = code, .address = Address::of(batch[i].key_), .element = i});
    };
    for (std::size_t i = 0; i < batch.size(); ++i)
        if (!claim(batch[i].key_->identity)) return refused(Errc::foreign_key, i);
    if (const auto i = find_duplicate(batch.size(), [batch](std::size_t i) -> bool& { return batch[i].key_->branch.in_batch; }))
        return refused(Errc::duplicate_in_batch, *i);
    for (std::size_t i = 0; i < batch.size(); ++i) {
        const OwnedList* list = list_of(*batch[i].key_);
        if (list != nullptr && std::any_of(list->begin, list->end,
                                           [&](const Callback& callback) { return is_same(callback, *batch[i].callback_); }))
            return refused(Errc::already_attached, i);
    }
    return {};
}

// Every element has a list that is large enough.
Result<void> Registry::attach_prepared(std::span<Attachment> batch) noexcept {
    for (const Attachment& element : batch) {
        prepare_sites(element.key_->outer);
        prepare_sites(element.key_->inner);
    }
    update_.begin();
    Result<void> done;
    std::size_t ready = 0;
    for (; done && ready < batch.size(); ++ready) {
        AttachedCallback& callback = *batch[ready].callback_;
        OwnedList* list = callback.replacement;
        fill(*list, list_of(*batch[ready].key_), &callback, nullptr);
        callback.key = batch[ready].key_;
        callback.replaced = list_of(*batch[ready].key_);
        if (!set_list(*batch[ready].key_, list, list->chain, ready))
            done = std::unexpected(
                Error{.code = Errc::out_of_memory, .address = Address::of(batch[ready].key_), .element = ready});
    }
    if (done) done = update_.apply();
    for (std::size_t i = 0; i < ready; ++i) {
        AttachedCallback& callback = *batch[i].callback_;
        if (done) {
            retire_list(callback.replaced);
            callback.replacement = nullptr;
        } else {
            // Where the system refuses in the middle, threads were led here until everything was put back.
            callback.key = nullptr;
            callback.was_shown = true;
            retire_list(std::exchange(callback.replacement, nullptr));
        }
    }
    return done;
}

Result<void> Registry::attach(std::span<Attachment> batch, Subscription* attached) noexcept {
    if (batch.empty()) return std::unexpected(Error{.code = Errc::empty_batch});
    const auto refused = [batch](Errc code, std::size_t i) {
        return std::unexpected(Error{.code = code, .address = Address::of(batch[i].key_), .element = i});
    };
    for (std::size_t i = 0; i < batch.size(); ++i)
        if (batch[i].callback_ == nullptr) return refused(batch[i].refused_, i);
    for (;;) {
        {
            const Hold hold(*this);
            if (auto checked = check(batch); !checked) return checked;
            bool fits = true;
            for (const Attachment& element : batch) {
                element.callback_->wanted = live_callbacks(*element.key_) + 1;
                fits = fits && element.callback_->replacement != nullptr &&
                       element.callback_->replacement->capacity >= element.callback_->wanted;
            }
            if (fits) {
                if (auto done = attach_prepared(batch); !done) return done;
                break;
            }
        }
        for (std::size_t i = 0; i < batch.size(); ++i) {
            AttachedCallback& callback = *batch[i].callback_;
            if (callback.replacement != nullptr && callback.replacement->capacity >= callback.wanted) continue;
            OwnedList::free(callback.replacement);
            callback.replacement = OwnedList::make(callback.wanted);
            if (callback.replacement == nullptr) return refused(Errc::out_of_memory, i);
        }
    }
    for (std::size_t i = 0; i < batch.size(); ++i) attached[i] = Subscription(std::exchange(batch[i].callback_, nullptr));
    return {};
}

Result<void> Registry::detach_into(OwnedList* list, AttachedCallback& callback) noexcept {
    TracepointKey& key = *callback.key;
    OwnedList* const old = list_of(key);
    ChainBlock chain;
    if (list != nullptr) fill(*list, old, nullptr, &callback);
    update_.begin();
    if (!set_list(key, list, chain, 0))
        return std::unexpected(Error{.code = Errc::out_of_memory, .address = Address::of(&key)});
    auto done = update_.apply();
    if (list != nullptr) list->chain = chain;
    // Refused in the middle: threads may be on the new list.
    retire_list(done ? old : list);
    return done;
}

// Without memory for a list: the entry is emptied where it stands. A thread that walks the list meets it before or after.
Result<void> Registry::detach_in_place(AttachedCallback& callback) noexcept {
    TracepointKey& key = *callback.key;
    OwnedList* const list = list_of(key);
    Callback& entry = *std::find_if(list->entries(), list->entries() + (list->end - list->begin),
                                    [&](const Callback& each) { return each.attached == &callback; });
    __atomic_store_n(&entry.function, nullptr, __ATOMIC_RELAXED);
    ChainBlock chain;
    update_.begin();
    Result<void> done;
    if (!set_list(key, list, chain, 0))
        done = std::unexpected(Error{.code = Errc::out_of_memory, .address = Address::of(&key)});
    else
        done = update_.apply();
    if (!done) {
        // Refused in the middle: threads may be in the new code, so its room is lost.
        __atomic_store_n(&entry.function, callback.function, __ATOMIC_RELAXED);
        return done;
    }
    callback.chain = std::exchange(list->chain, chain);
    return done;
}

Result<void> Registry::detach(AttachedCallback& callback) noexcept {
    for (bool has_memory = true;;) {
        {
            const Hold hold(*this);
            if (callback.key == nullptr) return {};
            callback.wanted = live_callbacks(*callback.key) - 1;
            const bool fits = callback.replacement != nullptr && callback.replacement->capacity >= callback.wanted;
            if (callback.wanted == 0 || fits || !has_memory) {
                OwnedList* list = callback.wanted == 0 ? nullptr : callback.replacement;
                auto done = callback.wanted == 0 || fits ? detach_into(list, callback) : detach_in_place(callback);
                if (list != nullptr && fits) callback.replacement = nullptr;
                if (done) callback.key = nullptr;
                return done;
            }
        }
        OwnedList::free(callback.replacement);
        callback.replacement = OwnedList::make(callback.wanted);
        has_memory = callback.replacement != nullptr;
    }
}

bool Registry::orphan(AttachedCallback& callback) noexcept {
    const Hold hold(*this);
    if (callback.drop != AttachedCallback::Drop::waiting) return false;
    callback.drop = AttachedCallback::Drop::orphaned;
    return true;
}

bool Registry::is_attached(const AttachedCallback& callback) noexcept {
    const Hold hold(*this);
    return callback.key != nullptr;
}

// The callable is destroyed now, while its code is there; the rest when the handle goes, if it has not gone yet.
void Registry::reclaim_dropped(Retired& item) noexcept {
    AttachedCallback& callback = *static_cast<AttachedCallback::Dropped&>(item).callback;
    callback.destroy_object();
    const bool orphaned = [&] {
        const Hold hold(Registry::instance());
        return std::exchange(callback.drop, AttachedCallback::Drop::done) == AttachedCallback::Drop::orphaned;
    }();
    if (orphaned) AttachedCallback::free(&callback);
}

// Callbacks whose code is about to be unmapped. Handles to them stay valid, and empty.
void Registry::drop_callbacks_in(TracepointKey& key, AddressRange leaving) noexcept {
    using Drop = AttachedCallback::Drop;
    OwnedList* const list = list_of(key);
    if (list == nullptr) return;
    Retired* dropped = nullptr;
    for (Callback* entry = list->entries(); entry != list->end; ++entry) {
        if (!is_live(*entry)) continue;
        AttachedCallback& callback = *entry->attached;
        if (!leaving.contains(Address::of(callback.function)) && !leaving.contains(Address::of(callback.destroy))) continue;
        __atomic_store_n(&entry->function, nullptr, __ATOMIC_RELAXED);
        callback.key = nullptr;
        callback.drop = Drop::waiting;
        callback.dropped.callback = &callback;
        callback.dropped.reclaim = &reclaim_dropped;
        callback.dropped.next = std::exchange(dropped, &callback.dropped);
    }
    if (dropped == nullptr) return;
    ChainBlock chain;
    const bool done = update_for_good([&] {
        ChainArea::release(chain);  // of the first try, which led nobody there
        return set_list(key, list, chain, 0);
    });
    if (done) {
        static_cast<AttachedCallback::Dropped*>(dropped)->callback->chain = std::exchange(list->chain, chain);
        if (key.list == nullptr) retire_list(list);
    }
    while (dropped != nullptr) {
        Retired& item = *dropped;
        dropped = item.next;
        retire(item);
    }
}

// The tracepoint itself leaves.
void Registry::forget_callbacks(TracepointKey& key) noexcept {
    OwnedList* const list = list_of(key);
    if (list == nullptr) return;
    for (Callback* entry = list->entries(); entry != list->end; ++entry)
        if (is_live(*entry)) entry->attached->key = nullptr;
    key.list = nullptr;
    retire_list(list);
}

}  // namespace dynfunc
