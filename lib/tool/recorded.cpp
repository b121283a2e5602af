// SPDX-License-Identifier: MIT
// Most of the file is a hole, and stays one: it is read by pread(), because whoever looks at a hole through memory fills it.
#include "recorded.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <new>
#include <tuple>
#include <utility>

#include "ticks.hpp"

namespace dynfunc::tool {

using namespace trace;

namespace {

RecordingSettings settings_of(const Trace& trace) {
    return {.with_times = trace.with_times,
            .with_tree = trace.with_tree,
            .most_events = trace.format == Format::chrome ? trace.most_events : 0,
            .with_breakpoints = trace.with_breakpoints,
            .most_active = trace.most_active};
}

}  // namespace

Recording::Recording(const Trace& trace)
    : memory_("dynfunc trace", header_bytes + slots * settings_of(trace).slot_bytes()),
      header_(*new (memory_.data()) RecordingHeader{settings_of(trace)}) {}

template <class Value>
bool Recording::read_at(std::size_t at, Value* values, std::size_t count) const noexcept {
    const std::size_t bytes = count * sizeof(Value);
    return pread(memory_.file(), values, bytes, static_cast<off_t>(at)) == static_cast<ssize_t>(bytes);
}

void Recording::release(pid_t process) {
    for (std::size_t slot = 0; slot < slots; ++slot) {
        std::int32_t owner = process;
        if (header_.owner[slot].load() != owner) continue;
        if (header_.most_events != 0) add_open(slot, arch::ticks(), left_open_);
        header_.owner[slot].compare_exchange_strong(owner, 0);
    }
}

void Recording::read(std::span<FunctionResult* const> functions) const {
    for (std::size_t slot = 0; slot < slots; ++slot) read_slot(slot, functions);
}

void Recording::read_slot(std::size_t slot, std::span<FunctionResult* const> functions) const {
    const std::size_t each = header_.record_bytes();
    const auto begin = static_cast<off_t>(slot_at(slot));
    const off_t end = begin + static_cast<off_t>(functions.size() * each);
    std::vector<std::byte> records;
    for (off_t data = begin; data < end;) {
        data = lseek(memory_.file(), data, SEEK_DATA);
        if (data < 0 || data >= end) return;
        const off_t hole = std::min(end, lseek(memory_.file(), data, SEEK_HOLE));
        const std::size_t first = static_cast<std::size_t>(data - begin) / each;
        const std::size_t last = (static_cast<std::size_t>(hole - begin) + each - 1) / each;
        records.assign((last - first) * each, std::byte{});
        if (!read_at(slot_at(slot) + first * each, records.data(), records.size())) return;
        for (std::size_t i = first; i < last; ++i) {
            const std::byte* const record = records.data() + (i - first) * each;
            if (header_.with_times != 0)
                functions[i]->add(*reinterpret_cast<const TimeRecord*>(record));
            else
                functions[i]->calls += reinterpret_cast<const CountRecord*>(record)->calls;
        }
        data = begin + static_cast<off_t>(last * each);
    }
}

CallTree Recording::tree() const {
    CallTree merged;
    std::vector<CallNode> nodes;
    for (std::size_t slot = 0; slot < slots; ++slot) {
        const std::size_t at = slot_at(slot) + header_.tree_at();
        std::uint32_t used = 0;
        std::uint64_t unplaced = 0;
        if (!read_at(at + offsetof(trace::CallTree, unplaced), &unplaced)) continue;
        merged.add_unplaced(unplaced);
        if (!read_at(at + offsetof(trace::CallTree, nodes_used), &used) || used == 0) continue;
        nodes.resize(used + std::size_t{1});
        if (read_at(at + offsetof(trace::CallTree, nodes), nodes.data(), nodes.size())) merged.add(nodes);
    }
    return merged;
}

void Recording::add_ended(std::size_t slot, std::uint64_t start, std::vector<RecordedCall>& calls, std::uint64_t& lost) const {
    const std::size_t at = slot_at(slot) + header_.ring_at();
    std::uint64_t written = 0;
    if (!read_at(at, &written) || written == 0) return;
    std::vector<CallEvent> events(static_cast<std::size_t>(std::min<std::uint64_t>(written, header_.most_events)));
    if (!read_at(at + sizeof(EventRing), events.data(), events.size())) return;
    lost += written - events.size();
    for (const CallEvent& event : events)
        if (event.function != 0)
            calls.push_back({.function = event.function - std::size_t{1},
                             .began = event.began - start,
                             .took = event.took,
                             .process = event.process,
                             .thread = event.thread,
                             .has_ended = true});
}

void Recording::add_open(std::size_t slot, std::uint64_t now, std::vector<RecordedCall>& calls) const {
    const std::size_t at = slot_at(slot) + header_.tree_at();
    std::uint32_t place = 0;
    if (!read_at(at + offsetof(trace::CallTree, current), &place) || place == 0) return;
    pid_t who[2];
    if (!read_at(at + offsetof(trace::CallTree, process), who, 2)) return;
    while (place != 0 && place < trace::CallTree::most_nodes) {
        CallNode node;
        trace::CallTree::Frame frame;
        if (!read_at(at + offsetof(trace::CallTree, nodes) + place * sizeof node, &node) ||
            node.depth >= trace::CallTree::most_depth ||
            !read_at(at + offsetof(trace::CallTree, frames) + node.depth * sizeof frame, &frame))
            return;
        // 0: begun elsewhere, by another thread or before a fork.
        if (frame.began != 0)
            calls.push_back({.function = node.function,
                             .began = frame.began,
                             .took = now - frame.began,
                             .process = who[0],
                             .thread = who[1],
                             .has_ended = false});
        place = node.parent;
    }
}

std::vector<RecordedCall> Recording::calls(std::uint64_t start, std::uint64_t& lost) const {
    std::vector<RecordedCall> open = left_open_;
    for (std::size_t slot = 0; slot < slots; ++slot)
        if (header_.owner[slot].load() != 0) add_open(slot, arch::ticks(), open);
    for (RecordedCall& call : open) call.began -= start;
    std::vector<RecordedCall> calls = std::move(open);
    for (std::size_t slot = 0; slot < slots; ++slot) add_ended(slot, start, calls, lost);
    // Of those that begin at once the one that ends later is outside.
    std::ranges::sort(calls, [](const RecordedCall& one, const RecordedCall& other) {
        return std::tuple(one.process, one.thread, one.began, other.took) <
               std::tuple(other.process, other.thread, other.began, one.took);
    });
    return calls;
}

}  // namespace dynfunc::tool
