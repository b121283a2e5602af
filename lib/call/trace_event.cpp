// SPDX-License-Identifier: MIT
#include <dynfunc/trace_pattern.hpp>

#include <cinttypes>
#include <cstdio>

namespace dynfunc {
namespace {

using detail::Parameter;
using detail::ParameterKind;

// Not std::to_string(): its table is a unique symbol of the process, and a library that holds one is never unloaded.
template <class... Arguments>
void append(std::string& text, const char* format, Arguments... arguments) {
    char number[64];
    const int length = std::snprintf(number, sizeof number, format, arguments...);
    if (length > 0) text.append(number, std::min<std::size_t>(static_cast<std::size_t>(length), sizeof number - 1));
}

// The value of those types that has the parameter's size.
template <class... T, class Append>
void append_sized(const Parameter& parameter, const void* value, Append&& append_value) {
    static_cast<void>(((sizeof(T) == parameter.size && (append_value(*static_cast<const T*>(value)), true)) || ...));
}

void append_value(std::string& text, const Parameter& parameter, const void* value) {
    switch (parameter.kind) {
        case ParameterKind::boolean:
            text += *static_cast<const bool*>(value) ? "true" : "false";
            return;
        case ParameterKind::character:
            text += {'\'', *static_cast<const char*>(value), '\''};
            return;
        case ParameterKind::signed_integer:
            append_sized<std::int8_t, std::int16_t, std::int32_t, std::int64_t>(
                parameter, value, [&](std::int64_t number) { append(text, "%" PRId64, number); });
            return;
        case ParameterKind::unsigned_integer:
            append_sized<std::uint8_t, std::uint16_t, std::uint32_t, std::uint64_t>(
                parameter, value, [&](std::uint64_t number) { append(text, "%" PRIu64, number); });
            return;
        case ParameterKind::floating_point:
            append_sized<float, double, long double>(parameter, value,
                                                     [&](long double number) { append(text, "%Lg", number); });
            return;
        case ParameterKind::pointer:
            append(text, "%p", *static_cast<void* const*>(value));
            return;
        case ParameterKind::string_view:
            text.append("\"").append(*static_cast<const std::string_view*>(value)).append("\"");
            return;
        case ParameterKind::string:
            text.append("\"").append(*static_cast<const std::string*>(value)).append("\"");
            return;
        case ParameterKind::other:
            text += '?';
            return;
    }
}

}  // namespace

std::string TraceEvent::text() const {
    std::string text(name());
    text += '(';
    for (std::size_t i = 0; i < size(); ++i) {
        if (i != 0) text += ", ";
        append_value(text, event_.key->parameters[i], event_.values[i]);
    }
    return text += ')';
}

}  // namespace dynfunc
