// SPDX-License-Identifier: MIT
#include "trace_report.hpp"

#include <algorithm>
#include <cinttypes>
#include <map>
#include <nlohmann/json.hpp>

#include "text.hpp"

namespace dynfunc::tool {
namespace {

using trace::Histogram;

// Three digits and a unit that people read.
std::string duration(double ns) {
    static constexpr std::pair<double, const char*> units[] = {{1e9, "s "}, {1e6, "ms"}, {1e3, "us"}, {1, "ns"}};
    std::string text;
    for (const auto& [unit, name] : units) {
        if (ns < unit && unit != 1) continue;
        const double value = ns / unit;
        add(text, value < 10 ? "%.2f %s" : value < 100 ? "%.1f %s" : "%.0f %s", value, name);
        break;
    }
    return text;
}

std::uint64_t untimed_of(const TraceResult& result) {
    std::uint64_t all = 0;
    for (const FunctionResult& each : result.functions) all += each.untimed;
    return all;
}

std::map<std::string, std::size_t> refusals(const TraceResult& result) {
    std::map<std::string, std::size_t> reasons;
    for (const FunctionResult& each : result.functions)
        if (each.refused && !each.is_attached) ++reasons[Error{.code = *each.refused}.message()];
    return reasons;
}

// Whose calls take most time comes first. What took less than a hundredth of all is left out, and where there are more lines
// than are wanted.
class TreeText {
public:
    TreeText(const TraceResult& result, std::size_t most) : result_(result), most_(most), times_(result.tree.times()) {}

    std::string text() {
        std::string text;
        if (times_.front().total == 0) return text;
        text += "\n       calls     total      self  function, under what called it\n";
        add_children(text, 0, 0);
        if (left_out_ != 0) add(text, "             … %zu more chains of callers (-o FILE has all)\n", left_out_);
        if (result_.tree.unplaced() != 0)
            add(text, "             … %" PRIu64 " calls that are too deep, or in too many chains, to be shown\n",
                result_.tree.unplaced());
        return text;
    }

private:
    void add_children(std::string& text, std::size_t parent, std::size_t depth) {
        const auto& nodes = result_.tree.nodes();
        std::vector<std::size_t> children = nodes[parent].children;
        std::ranges::sort(children, [&](std::size_t one, std::size_t other) {
            return times_[one].total != times_[other].total ? times_[one].total > times_[other].total : one < other;
        });
        for (const std::size_t child : children) {
            const bool is_small = 100 * times_[child].total < times_.front().total;
            if (is_small || (most_ != 0 && lines_ == most_)) {
                leave_out(child);
                continue;
            }
            ++lines_;
            const FunctionResult& function = result_.functions[nodes[child].function];
            add(text, "%12" PRIu64, nodes[child].calls);
            for (const std::uint64_t ticks : {times_[child].total, times_[child].self})
                add(text, " %9s", duration(static_cast<double>(ticks) * result_.ns_per_tick).c_str());
            text += "  ";
            for (std::size_t i = 0; i < depth; ++i) text += "│ ";
            text += name_of(function) + "  (" + harmless(file_of(function.module)) + ")\n";
            add_children(text, child, depth + 1);
        }
    }
    void leave_out(std::size_t node) {
        ++left_out_;
        for (const std::size_t child : result_.tree.nodes()[node].children) leave_out(child);
    }

    const TraceResult& result_;
    const std::size_t most_;
    const std::vector<CallTree::Times> times_;
    std::size_t lines_ = 0, left_out_ = 0;
};

}  // namespace

std::string file_of(const std::string& path) { return path.substr(path.rfind('/') + 1); }

std::string name_of(const FunctionResult& function) {
    if (!function.function.name.empty()) return harmless(function.function.name);
    std::string text;
    add(text, "(no name) %#" PRIx64, function.function.at);
    return text;
}

void FunctionResult::add(const trace::TimeRecord& record) {
    calls += record.calls;
    untimed += record.untimed;
    if (record.ended == 0) return;
    ended += record.ended;
    total += record.total;
    most = std::max(most, record.most);
    histogram.resize(Histogram::buckets);
    for (std::size_t i = 0; i < Histogram::buckets; ++i) histogram[i] += record.histogram[i];
}

double FunctionResult::quantile(double part) const noexcept {
    std::uint64_t all = 0, before = 0;
    for (const std::uint64_t count : histogram) all += count;
    for (std::size_t i = 0; i < histogram.size(); ++i) {
        before += histogram[i];
        if (histogram[i] == 0 || static_cast<double>(before) < part * static_cast<double>(all)) continue;
        const double middle = static_cast<double>(Histogram::begin_of(i) + Histogram::end_of(i) - 1) / 2;
        return std::min(middle, static_cast<double>(most));
    }
    return 0;
}

std::string table(const TraceResult& result, std::size_t top, bool is_end) {
    std::vector<const FunctionResult*> called;
    std::size_t attached = 0;
    std::uint64_t calls = 0;
    for (const FunctionResult& each : result.functions) {
        attached += each.is_attached;
        calls += each.calls;
        if (each.calls + each.missed != 0) called.push_back(&each);
    }
    const auto rank = [&](const FunctionResult* each) { return std::pair(result.with_times ? each->total : 0, each->calls); };
    // Of equals the one that comes first.
    std::ranges::sort(called, [&](const FunctionResult* one, const FunctionResult* other) {
        return rank(one) != rank(other) ? rank(one) > rank(other) : one < other;
    });
    std::string text;
    add(text, "\ndynfunc trace: %zu of %zu functions called, %" PRIu64 " calls, %.3f s", called.size(), attached, calls,
        result.seconds);
    if (result.processes.size() > 1) add(text, ", %zu programs", result.processes.size());
    text += '\n';
    const std::size_t lines = top == 0 ? called.size() : std::min(top, called.size());
    if (lines != 0)
        text += result.with_times ? "\n       calls     total      mean       p50       p99       max  function\n"
                                  : "\n       calls  function\n";
    for (std::size_t i = 0; i < lines; ++i) {
        const FunctionResult& each = *called[i];
        add(text, "%12" PRIu64, each.calls);
        if (result.with_times) {
            const auto column = [&](double ticks) { add(text, " %9s", duration(ticks * result.ns_per_tick).c_str()); };
            if (each.ended == 0) {
                text += "         -         -         -         -         -";
            } else {
                column(static_cast<double>(each.total));
                column(static_cast<double>(each.total) / static_cast<double>(each.ended));
                column(each.quantile(0.5));
                column(each.quantile(0.99));
                column(static_cast<double>(each.most));
            }
        }
        text += "  " + name_of(each) + "  (" + harmless(file_of(each.module)) + ")";
        if (each.missed != 0) add(text, ", %" PRIu64 " more inside of handlers", each.missed);
        text += '\n';
    }
    if (lines < called.size()) add(text, "             … %zu more functions (--top 0 lists all)\n", called.size() - lines);
    if (result.with_tree) text += TreeText(result, top).text();
    if (!is_end) return text;
    if (result.untracked != 0)
        add(text, "\n%" PRIu64 " calls without a time: more at once than --max-active\n", result.untracked);
    if (const std::uint64_t untimed = untimed_of(result); untimed != 0)
        add(text, "\n%" PRIu64 " calls without a time: from code without unwind information\n", untimed);
    const auto reasons = refusals(result);
    std::size_t refused = 0;
    for (const auto& [reason, count] : reasons) refused += count;
    if (refused != 0) add(text, "\n%zu functions refused:\n", refused);
    const std::string no_room = Error{.code = Errc::too_short}.message();
    for (const auto& [reason, count] : reasons)
        add(text, "%12zu  %s%s\n", count, reason.c_str(), reason == no_room ? " (--breakpoints)" : "");
    for (const auto& [path, reason] : result.refused_objects) text += "  " + harmless(path) + ": " + reason + "\n";
    return text;
}

std::string to_json(const TraceResult& result) {
    using nlohmann::json;
    const auto ns = [&](double ticks) { return static_cast<std::uint64_t>(ticks * result.ns_per_tick + 0.5); };
    json functions = json::array();
    for (const FunctionResult& each : result.functions) {
        std::string at;
        add(at, "%#" PRIx64, each.function.at);
        json one{{"module", each.module},
                 {"name", each.function.name},
                 {"at", at},
                 {"site", to_string(each.function.site)},
                 {"attached", each.is_attached},
                 {"calls", each.calls},
                 {"missed", each.missed}};
        if (each.refused && !each.is_attached) one["refused"] = Error{.code = *each.refused}.message();
        if (result.with_times && each.ended != 0)
            one["ns"] = {{"total", ns(static_cast<double>(each.total))},
                         {"mean", ns(static_cast<double>(each.total) / static_cast<double>(each.ended))},
                         {"p50", ns(each.quantile(0.5))},
                         {"p99", ns(each.quantile(0.99))},
                         {"max", ns(static_cast<double>(each.most))}};
        functions.push_back(std::move(one));
    }
    json refused_objects = json::object();
    for (const auto& [path, reason] : result.refused_objects) refused_objects[path] = reason;
    json all{{"program", result.program},
             {"seconds", result.seconds},
             {"processes", result.processes.size()},
             {"untracked", result.untracked},
             {"untimed", untimed_of(result)},
             {"functions", std::move(functions)},
             {"refused", refusals(result)},
             {"refused_objects", std::move(refused_objects)}};
    if (result.with_tree) {
        const auto& nodes = result.tree.nodes();
        const auto times = result.tree.times();
        json tree = json::array();
        for (std::size_t i = 1; i < nodes.size(); ++i)
            tree.push_back(
                {{"function", nodes[i].function},
                 {"parent", nodes[i].parent == 0 ? json() : json(nodes[i].parent - 1)},
                 {"calls", nodes[i].calls},
                 {"ns",
                  {{"total", ns(static_cast<double>(times[i].total))}, {"self", ns(static_cast<double>(times[i].self))}}}});
        all["tree"] = std::move(tree);
        all["unplaced"] = result.tree.unplaced();
    }
    return all.dump(2, ' ', false, json::error_handler_t::replace) + '\n';
}

std::string to_folded(const TraceResult& result) {
    const auto& nodes = result.tree.nodes();
    const auto times = result.tree.times();
    std::vector<std::string> chains(nodes.size());
    std::string text;
    for (std::size_t i = 1; i < nodes.size(); ++i) {
        std::string name = name_of(result.functions[nodes[i].function]);
        std::ranges::replace(name, ';', ':');
        const std::string& above = chains[nodes[i].parent];
        chains[i] = above.empty() ? name : above + ';' + name;
        const double self = static_cast<double>(times[i].self) * result.ns_per_tick;
        if (self >= 0.5) text += chains[i] + ' ' + std::to_string(static_cast<std::uint64_t>(self + 0.5)) + '\n';
    }
    return text;
}

}  // namespace dynfunc::tool
