// SPDX-License-Identifier: MIT
// The qualified name of a key, "codec::crc", read at compile time from the name of its tag type; and names of types.
#pragma once

#include <algorithm>
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

// Any type, as the compiler spells it.
template <class Type>
consteval std::string_view spelled() {
    std::string_view text = __PRETTY_FUNCTION__;
    text.remove_prefix(text.find("Type = ") + 7);
    return text.substr(0, std::min(text.rfind(']'), text.find("; std::string_view")));
}

// Two files may each have an unnamed namespace with a function or a type of the same name, but their trampolines would share
// one symbol.
template <class... T>
consteval bool mentions_unnamed_namespace() {
    const std::string_view text = __PRETTY_FUNCTION__;
    return text.find("{anonymous}") != std::string_view::npos || text.find("(anonymous namespace)") != std::string_view::npos;
}

// Ends in a null.
template <std::size_t size>
consteval auto characters_of(std::string_view name) {
    std::array<char, size + 1> characters{};
    name.copy(characters.data(), size);
    return characters;
}

template <class Tag>
struct DYNFUNC_HIDDEN Name {
    static constexpr auto text = characters_of<qualified_name<Tag>().size()>(qualified_name<Tag>());
};

template <class Type>
struct DYNFUNC_HIDDEN TypeName {
    static constexpr auto text = characters_of<spelled<Type>().size()>(spelled<Type>());
};

}  // namespace dynfunc::detail
