// SPDX-License-Identifier: MIT
#include <dynfunc/inspect.hpp>

#include <cstdio>
#include <nlohmann/json.hpp>

namespace dynfunc {
namespace {

using Json = nlohmann::ordered_json;

// As text: not every reader of JSON has numbers of 64 bits.
std::string hexadecimal(Address at) {
    char text[24];
    std::snprintf(text, sizeof text, "%#zx", static_cast<std::size_t>(at.value));
    return at ? text : "0x0";
}

Json json_of(const Error& error) {
    const Error reason{.code = error.code, .address = {}, .os_error = error.os_error};
    return {{"reason", reason.message()}, {"address", hexadecimal(error.address)}};
}

}  // namespace

std::string to_json(const Inspection& inspection) {
    Json json{{"path", inspection.path}, {"base", hexadecimal(inspection.base)}, {"functions", inspection.functions.size()}};
    if (inspection.no_names) json["no_names"] = inspection.no_names->message();
    Json& classes = json["classes"] = Json::object();
    for (std::size_t i = 0; i < site_classes; ++i) {
        const auto site = static_cast<SiteClass>(i);
        classes[to_string(site)] = {{"functions", inspection.count(site)}, {"percent", inspection.percent(site)}};
    }
    Json& verdicts = json["verdicts"] = Json::array();
    for (const FunctionVerdict& function : inspection.functions) {
        Json verdict{{"begin", hexadecimal(function.begin)},
                     {"size", function.size},
                     {"name", function.name},
                     {"site", to_string(function.site)}};
        if (function.why_not_better) verdict["why_not_better"] = json_of(*function.why_not_better);
        verdicts.push_back(std::move(verdict));
    }
    return json.dump(2, ' ', false, Json::error_handler_t::replace);
}

}  // namespace dynfunc
