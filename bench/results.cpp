// SPDX-License-Identifier: MIT
#include "results.hpp"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <ostream>
#include <stdexcept>
#include <utility>

namespace bench {
namespace {

using Json = nlohmann::ordered_json;

Json to_json(const Params& params) {
    Json json = Json::object();
    for (const Param& param : params) std::visit([&](const auto& value) { json[param.name] = value; }, param.value);
    return json;
}

Json to_json(const Verdict& verdict) {
    return {{"kind", verdict.kind},
            {"text", verdict.text},
            {"value", verdict.value},
            {"limit", verdict.limit},
            {"reached", verdict.reached}};
}

std::string target_text(const Row& row) {
    std::string text;
    for (const Verdict& verdict : row.verdicts) text += (text.empty() ? "" : "; ") + verdict.text;
    return text;
}

bool all_reached(const Row& row) { return std::ranges::all_of(row.verdicts, &Verdict::reached); }

Json to_json(const Row& row) {
    Json json = {{"bench", row.bench}, {"case", row.id},       {"params", to_json(row.params)}, {"ns", row.ns},
                 {"min", row.min},     {"rounds", row.rounds}, {"baseline", row.baseline}};
    json["ratio"] = row.ratio ? Json(*row.ratio) : Json(nullptr);
    json["group"] = row.group;
    json["unit"] = row.unit;
    json["clock"] = row.clock;
    if (row.ratio_of == RatioOf::rates) json["ratio_of"] = "rates";
    if (!row.form.empty()) json["form"] = row.form;
    if (!row.figures.empty()) json["figures"] = to_json(row.figures);
    if (!row.verdicts.empty()) {
        json["target"] = target_text(row);
        json["reached"] = all_reached(row);
        json["targets"] = Json::array();
        for (const Verdict& verdict : row.verdicts) json["targets"].push_back(to_json(verdict));
    }
    return json;
}

std::string number(const char* format, double value) {
    char text[48];
    std::snprintf(text, sizeof text, format, value);
    return text;
}

std::string nanoseconds(double ns) { return number(ns < 100 ? "%.3f" : ns < 10000 ? "%.1f" : "%.0f", ns); }

std::string measured_text(const Verdict& verdict) {
    if (verdict.kind == "ns_at_most" || verdict.kind == "ns_above_at_most") return nanoseconds(verdict.value) + " ns";
    return number(verdict.kind == "gib_per_s_at_least" ? "%.3f GiB/s" : "%.3fx", verdict.value);
}

// "restartable; cpu_percent=98"
std::string form_and_figures(const Row& row) {
    return row.form + (row.form.empty() || row.figures.empty() ? "" : "; ") + to_string(row.figures);
}

using Line = std::vector<std::string>;

// Columns as wide as their widest cell; numbers stand right, words left.
void print_lines(const std::vector<Line>& lines, const std::vector<bool>& right, std::ostream& out) {
    std::vector<std::size_t> widths(right.size(), 0);
    for (const Line& line : lines)
        for (std::size_t i = 0; i < line.size(); ++i) widths[i] = std::max(widths[i], line[i].size());
    for (const Line& line : lines) {
        std::string text = " ";
        for (std::size_t i = 0; i < line.size(); ++i) {
            const std::string pad(widths[i] - line[i].size(), ' ');
            text += ' ' + (right[i] ? pad + line[i] : line[i] + pad) + ' ';
        }
        out << text.substr(0, text.find_last_not_of(' ') + 1) << '\n';
    }
}

}  // namespace

std::string to_string(const Params& params) {
    std::string text;
    for (const Param& param : params) {
        text += (text.empty() ? "" : " ") + param.name + '=';
        if (const auto* word = std::get_if<std::string>(&param.value))
            text += *word;
        else
            text += std::to_string(std::get<std::int64_t>(param.value));
    }
    return text;
}

void Results::print_table(const std::string& bench, std::ostream& out) const {
    for (const GroupText& group : groups_) {
        if (group.bench != bench) continue;
        std::vector<Line> lines;
        std::string heading;
        for (const Row& row : rows_) {
            if (row.bench != bench || row.group != group.title) continue;
            const bool rates = row.ratio_of == RatioOf::rates;
            if (lines.empty())
                lines.push_back({"case", "params", "median ns", rates ? "M per s" : "min ns", "ratio", "baseline",
                                 rates ? "form, figures" : "form", "to reach", "reached", "measured"});
            heading = row.unit + ", " + row.clock;
            Line line = {row.id,
                         to_string(row.params),
                         nanoseconds(row.ns),
                         rates ? number("%.2f", 1e3 / row.ns) : nanoseconds(row.min),
                         row.ratio ? number("%.3f", *row.ratio) : "-",
                         row.baseline,
                         rates ? form_and_figures(row) : row.form};
            for (const Verdict& verdict : row.verdicts) {
                line.insert(line.end(), {verdict.text, verdict.reached ? "reached" : "NOT REACHED", measured_text(verdict)});
                lines.push_back(std::exchange(line, Line(7)));  // a line for each thing to reach; the figures on the first only
            }
            if (row.verdicts.empty()) lines.push_back(std::move(line));
        }
        out << '\n' << bench << ": " << group.title;
        if (!heading.empty()) out << " (" << heading << ')';
        out << '\n';
        if (!lines.empty()) print_lines(lines, {false, false, true, true, true, false, false, false, false, true}, out);
        for (const LeftOut& left_out : left_out_)
            if (left_out.bench == bench && left_out.group == group.title)
                out << "  left out: " << left_out.id << ' ' << to_string(left_out.params) << ": " << left_out.reason << '\n';
    }
    for (const Table& table : tables_) {
        if (table.bench != bench) continue;
        out << '\n' << bench << ": " << table.title << '\n';
        std::vector<bool> right(table.head.size(), true);
        right[0] = false;
        std::vector<Line> lines = {table.head};
        lines.insert(lines.end(), table.lines.begin(), table.lines.end());
        print_lines(lines, right, out);
    }
    out.flush();
}

void Results::write_json(const std::string& path, const std::vector<Param>& machine) const {
    Json document = {{"machine", to_json(machine)},
                     {"results", Json::array()},
                     {"left_out", Json::array()},
                     {"groups", Json::array()},
                     {"tables", Json::array()}};
    for (const Row& row : rows_) document["results"].push_back(to_json(row));
    for (const LeftOut& left_out : left_out_)
        document["left_out"].push_back({{"bench", left_out.bench},
                                        {"group", left_out.group},
                                        {"case", left_out.id},
                                        {"params", to_json(left_out.params)},
                                        {"reason", left_out.reason}});
    for (const GroupText& group : groups_)
        document["groups"].push_back({{"bench", group.bench}, {"title", group.title}, {"text", group.text}});
    for (const Table& table : tables_)
        document["tables"].push_back({{"bench", table.bench},
                                      {"title", table.title},
                                      {"text", table.text},
                                      {"head", table.head},
                                      {"lines", table.lines}});
    std::ofstream file(path);
    file << document.dump(1) << '\n';
    file.close();
    if (!file) throw std::runtime_error("cannot write " + path);
}

}  // namespace bench
