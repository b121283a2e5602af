// SPDX-License-Identifier: MIT
// What the benches found: rows for the table that people read and for the JSON from which report.py draws the page.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace bench {

struct Param {
    std::string name;
    std::variant<std::int64_t, std::string> value;
};
using Params = std::vector<Param>;  // in the order in which they are shown

// "sites=1024 layout=near"
std::string to_string(const Params&);

// One "to reach" of a row, with what came out.
struct Verdict {
    std::string kind;  // a Target::Kind by its name
    std::string text;  // "<= 1.05x direct"
    double value;      // in the unit of `limit`: ns, a ratio, or GiB/s
    double limit;
    bool reached;
};

// What a ratio compares with the baseline: time for one, or how many in a second.
enum class RatioOf : std::uint8_t { times, rates };

struct Row {
    std::string bench, group, id;  // `id` is the JSON's "case": other programs look rows up by it, so it stays
    Params params;
    std::string unit;   // "ns per call"
    std::string clock;  // "thread CPU time"
    std::string form;   // of a dynamic function, as introspection names it; else empty
    double ns, min;     // median and least of the rounds
    std::size_t rounds;
    std::string baseline;         // the id of a row of the same group
    std::optional<double> ratio;  // median over rounds of this row / the baseline in that round
    std::vector<Verdict> verdicts;
    Params figures = {};  // what else was counted in these rounds: "events_per_s"
    RatioOf ratio_of = RatioOf::times;
};

// A case that this machine or this process does not have, and why.
struct LeftOut {
    std::string bench, group, id;
    Params params;
    std::string reason;
};

// What one group of rows is about, for the page.
struct GroupText {
    std::string bench, title, text;
};

// Figures side by side that are no rows, as they are to be read.
struct Table {
    std::string bench, title, text;
    std::vector<std::string> head;
    std::vector<std::vector<std::string>> lines;  // each as long as the head; the first cell is a name, the others are numbers
};

class Results {
public:
    void add(Row row) { rows_.push_back(std::move(row)); }
    void add(LeftOut left_out) { left_out_.push_back(std::move(left_out)); }
    void add(GroupText text) { groups_.push_back(std::move(text)); }
    void add(Table table) { tables_.push_back(std::move(table)); }

    void print_table(const std::string& bench, std::ostream&) const;
    // The whole JSON document. Throws: std::runtime_error if the file cannot be written.
    void write_json(const std::string& path, const std::vector<Param>& machine) const;

private:
    std::vector<Row> rows_;
    std::vector<LeftOut> left_out_;
    std::vector<GroupText> groups_;
    std::vector<Table> tables_;
};

}  // namespace bench
