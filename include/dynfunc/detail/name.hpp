// SPDX-License-Identifier: MIT
// The qualified name of a dynamic function, "codec::crc", read at compile time from the name of its tag type.
#pragma once

#include <array>
#include <string_view>

#include <dynfunc/detail/export.hpp>

namespace dynfunc::detail {

inline constexpr std::string_view tag_suffix = "_dynfunc_tag";

// gcc:   "... [with Tag = codec::crc_dynfunc_tag; ...]"      clang: "... [Tag = codec::crc_dynfunc_tag]"
template <class Tag>
consteval std::string_view qualified_name() {
    std::string_view text = __PRETTY_FUNCTION__;
    text.remove_prefix(text.find("Tag = ") + 6);
    return text.substr(0, text.find(tag_suffix));
}

// Two files may each have an unnamed namespace with a function or a type of the same name, but their trampolines would share
// one symbol.
template <class... T>
consteval bool mentions_unnamed_namespace() {
    const std::string_view text = __PRETTY_FUNCTION__;
    return text.find("{anonymous}") != std::string_view::npos || text.find("(anonymous namespace)") != std::string_view::npos;
}

template <class Tag>
struct DYNFUNC_HIDDEN Name {
    static constexpr auto text = [] {
        constexpr std::string_view name = qualified_name<Tag>();
        std::array<char, name.size() + 1> text{};
        name.copy(text.data(), name.size());
        return text;
    }();
};

}  // namespace dynfunc::detail
