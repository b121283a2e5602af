// SPDX-License-Identifier: MIT
#include "report.hpp"

#include <fnmatch.h>

#include <algorithm>

#include "text.hpp"

namespace dynfunc::tool {
namespace {

struct ClassText {
    SiteClass site;
    const char* letter;
    const char* meaning;
};
constexpr ClassText classes[site_classes] = {
    {SiteClass::whole, "a", "a jump in the place of the first instruction"},
    {SiteClass::guarded, "b", "a jump over several instructions, a breakpoint between them"},
    {SiteClass::punned, "c", "a jump over one short instruction, which ends in the next"},
    {SiteClass::breakpoint, "d", "only a breakpoint: a signal for each hit"},
    {SiteClass::refused, "-", "none: it cannot be probed"},
};

std::size_t value(Address at) noexcept { return at.value; }

void add_function(std::string& text, const FunctionVerdict& function) {
    const ClassText& site = classes[static_cast<std::size_t>(function.site)];
    add(text, "  %s %#10zx %6zu  ", site.letter, value(function.begin), function.size);
    text += harmless(function.name);
    if (const auto& why = function.why_not_better) {
        text += ": " + Error{.code = why->code, .address = {}, .os_error = why->os_error}.message();
        if (why->address != function.begin) add(text, " (%#zx)", value(why->address));
    }
    text += '\n';
}

}  // namespace

std::string report(const Inspection& inspection, bool all) {
    std::string text = harmless(inspection.path);
    add(text, ": %zu functions\n\n", inspection.functions.size());
    for (const ClassText& line : classes)
        add(text, "  %s %-10s %8zu %7.2f %%   %s\n", line.letter, to_string(line.site), inspection.count(line.site),
            inspection.percent(line.site), line.meaning);
    const auto list = [&](const char* title, auto&& belongs) {
        if (std::ranges::none_of(inspection.functions, belongs)) return;
        add(text, "\n%s\n", title);
        for (const FunctionVerdict& function : inspection.functions)
            if (belongs(function)) add_function(text, function);
    };
    if (all) {
        list("Every function: class, address, bytes, name, and why it is not of a better class:",
             [](const FunctionVerdict&) { return true; });
    } else {
        list("Refused: address, bytes, name, and why:",
             [](const FunctionVerdict& function) { return function.site == SiteClass::refused; });
        list("Only a breakpoint: address, bytes, name, and why there is no room for a jump:",
             [](const FunctionVerdict& function) { return function.site == SiteClass::breakpoint; });
    }
    return text;
}

std::string listing(const Inspection& inspection, const std::vector<std::string>& patterns) {
    std::string lines;
    std::size_t count = 0;
    for (const FunctionVerdict& function : inspection.functions) {
        const auto matches = [&](const std::string& pattern) {
            return fnmatch(pattern.c_str(), function.name.c_str(), 0) == 0;
        };
        if (!patterns.empty() && std::ranges::none_of(patterns, matches)) continue;
        add_function(lines, function);
        ++count;
    }
    std::string text = harmless(inspection.path);
    add(text, ": %zu of %zu functions\n", count, inspection.functions.size());
    return text + lines;
}

}  // namespace dynfunc::tool
