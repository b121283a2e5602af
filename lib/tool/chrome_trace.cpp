// SPDX-License-Identifier: MIT
#include "chrome_trace.hpp"

#include <nlohmann/json.hpp>
#include <vector>

namespace dynfunc::tool {
namespace {

using nlohmann::json;

std::string text_of(const json& value) { return value.dump(-1, ' ', false, json::error_handler_t::replace); }

// Three digits behind the point: nanoseconds.
json microseconds(const TraceResult& result, std::uint64_t ticks) {
    return static_cast<double>(static_cast<std::uint64_t>(static_cast<double>(ticks) * result.ns_per_tick + 0.5)) / 1000;
}

}  // namespace

void write_chrome_trace(const TraceResult& result, std::span<const RecordedCall> calls, std::uint64_t lost,
                        const std::function<void(const std::string&)>& write) {
    // There may be millions: what they have in common is made once.
    std::vector<std::string> names(result.functions.size());
    write("{\"traceEvents\":[");
    const char* before = "\n";
    for (const auto& [process, name] : result.processes) {
        write(before + text_of({{"name", "process_name"}, {"ph", "M"}, {"pid", process}, {"args", {{"name", name}}}}));
        before = ",\n";
    }
    for (const RecordedCall& call : calls) {
        std::string& name = names[call.function];
        const FunctionResult& function = result.functions[call.function];
        if (name.empty())
            name =
                R"({"name":)" + text_of(name_of(function)) + R"(,"cat":)" + text_of(file_of(function.module)) + R"(,"ph":"X")";
        write(before + name + ",\"ts\":" + text_of(microseconds(result, call.began)) +
              ",\"dur\":" + text_of(microseconds(result, call.took)) + ",\"pid\":" + std::to_string(call.process) +
              ",\"tid\":" + std::to_string(call.thread) + (call.has_ended ? "}" : R"(,"args":{"ended":false}})"));
        before = ",\n";
    }
    std::string program;
    for (const std::string& word : result.program) program += (program.empty() ? "" : " ") + word;
    write("\n],\n\"displayTimeUnit\":\"ns\",\n\"otherData\":" + text_of({{"program", program}, {"lost", lost}}) + "}\n");
}

}  // namespace dynfunc::tool
