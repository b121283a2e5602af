// SPDX-License-Identifier: MIT
#include "unwind_table.hpp"

#include <algorithm>
#include <cstring>

namespace dynfunc {
namespace {

// DW_EH_PE: how a pointer is written.
constexpr std::uint8_t relative_mask = 0x70, pc_relative = 0x10, is_signed = 0x08;
constexpr std::uint8_t size_mask = 0x07, signed_4 = 0x0b, data_relative = 0x30, absent = 0xff;

// Reads forward; past the end everything is zero and is_good() false.
class Reader {
public:
    Reader(Address at, AddressRange within) noexcept : at_(at), within_(within) {}

    template <class T>
    T take() noexcept {
        T value{};
        if (!within_.contains(at_) || static_cast<std::size_t>(within_.end - at_) < sizeof value) {
            good_ = false;
            return value;
        }
        std::memcpy(&value, at_.as<const void*>(), sizeof value);
        at_ = at_ + sizeof value;
        return value;
    }
    std::uint64_t take_uleb() noexcept {
        std::uint64_t value = 0;
        for (unsigned shift = 0; shift < 64; shift += 7) {
            const auto byte = take<std::uint8_t>();
            value |= std::uint64_t{byte & 0x7fU} << shift;
            if ((byte & 0x80) == 0) return value;
        }
        good_ = false;
        return 0;
    }
    // As many bytes as the encoding says, without its sign and what it is relative to.
    std::uint64_t take_encoded(std::uint8_t encoding) noexcept {
        switch (encoding & size_mask) {
            case 0:
            case 4:
                return take<std::uint64_t>();
            case 1:
                return take_uleb();
            case 2:
                return take<std::uint16_t>();
            case 3:
                return take<std::uint32_t>();
            default:
                good_ = false;
                return 0;
        }
    }
    // An address that is relative to its own place, or to nothing; null: there is none, or it is of another form.
    Address take_address(std::uint8_t encoding) noexcept {
        const Address field = at_;
        std::uint64_t value = take_encoded(encoding);
        if (value == 0 || !good_) return {};
        if ((encoding & size_mask) == 3 && (encoding & is_signed) != 0)
            value = static_cast<std::uint64_t>(std::int64_t{static_cast<std::int32_t>(value)});
        switch (encoding & relative_mask) {
            case 0:
                return Address{value};
            case pc_relative:
                return field + static_cast<std::ptrdiff_t>(value);
            default:
                return {};
        }
    }
    Address at() const noexcept { return at_; }
    bool is_good() const noexcept { return good_; }

private:
    Address at_;
    AddressRange within_;
    bool good_ = true;
};

// How pointers to functions, and to what their language says about them, are written.
struct Encodings {
    std::uint8_t function = absent;  // not known
    std::uint8_t language = absent;  // it says nothing
    bool has_size = false;           // the size of what is between the two and the instructions stands in front of it
};

// Of a common information entry.
Encodings pointer_encodings(Address common, AddressRange mapped) noexcept {
    Reader reader(common, mapped);
    if (reader.take<std::uint32_t>() == 0xffff'ffff) return {};
    if (reader.take<std::uint32_t>() != 0) return {};
    const auto version = reader.take<std::uint8_t>();
    if (version != 1 && version != 3) return {};
    char augmentation[8]{};
    std::size_t length = 0;
    for (char letter; (letter = reader.take<char>()) != '\0';) {
        if (length == sizeof augmentation) return {};
        augmentation[length++] = letter;
    }
    if (augmentation[0] != 'z') return length == 0 && reader.is_good() ? Encodings{.function = 0} : Encodings{};
    reader.take_uleb();                                               // code alignment
    reader.take_uleb();                                               // data alignment
    version == 1 ? reader.take<std::uint8_t>() : reader.take_uleb();  // return address register
    reader.take_uleb();                                               // size of what follows
    Encodings encodings{.function = 0, .has_size = true};
    for (std::size_t i = 1; i < length; ++i) {
        switch (augmentation[i]) {
            case 'R':
                encodings.function = reader.take<std::uint8_t>();
                break;
            case 'L':
                encodings.language = reader.take<std::uint8_t>();
                break;
            case 'P':
                reader.take_encoded(reader.take<std::uint8_t>());
                break;
            case 'S':
            case 'B':
                break;
            default:
                return {};
        }
    }
    return reader.is_good() ? encodings : Encodings{};
}

}  // namespace

std::optional<UnwindTable> UnwindTable::of(Address header, AddressRange mapped) noexcept {
    Reader reader(header, mapped);
    const auto version = reader.take<std::uint8_t>();
    const auto frame = reader.take<std::uint8_t>(), count_encoding = reader.take<std::uint8_t>(),
               table = reader.take<std::uint8_t>();
    if (!reader.is_good() || version != 1 || count_encoding == absent || table != (data_relative | signed_4))
        return std::nullopt;
    if (frame != absent) reader.take_encoded(frame);
    const std::uint64_t count = reader.take_encoded(count_encoding);
    const Address entries = reader.at();
    if (!reader.is_good() || entries.value % alignof(Entry) != 0 || count == 0 ||
        count > static_cast<std::size_t>(mapped.end - entries) / sizeof(Entry))
        return std::nullopt;
    return UnwindTable(header, mapped, entries.as<const Entry*>(), count);
}

AddressRange UnwindTable::function_at(Address at) const noexcept {
    const Entry* next = std::upper_bound(entries_, entries_ + count_, at, [this](Address place, const Entry& entry) {
        return place < header_ + entry.function;
    });
    if (next == entries_) return {};
    const AddressRange function = this->function(static_cast<std::size_t>(next - entries_) - 1);
    return function.contains(at) ? function : AddressRange{};
}

AddressRange UnwindTable::function(std::size_t i) const noexcept {
    const Entry& entry = entries_[i];
    const Address begin = header_ + entry.function;
    const AddressRange function{begin, begin + static_cast<std::ptrdiff_t>(size_of_function(header_ + entry.description))};
    return function.size() != 0 && mapped_.contains(begin) && mapped_.contains(function.end - 1) ? function : AddressRange{};
}

std::uint64_t UnwindTable::size_of_function(Address description) const noexcept {
    Reader reader(description, mapped_);
    if (reader.take<std::uint32_t>() == 0xffff'ffff) return 0;
    const Address field = reader.at();
    const Address common = field - static_cast<std::ptrdiff_t>(reader.take<std::uint32_t>());
    const Encodings encodings = pointer_encodings(common, mapped_);
    if (!reader.is_good() || encodings.function == absent) return 0;
    reader.take_encoded(encodings.function);
    const std::uint64_t size = reader.take_encoded(encodings.function);
    return reader.is_good() && size <= mapped_.size() ? size : 0;
}

void UnwindTable::find_landing_pads(std::size_t i, void* context, void (*found)(void*, Address)) const {
    const AddressRange function = this->function(i);
    if (function.size() == 0) return;
    Reader entry(header_ + entries_[i].description, mapped_);
    entry.take<std::uint32_t>();
    const Address field = entry.at();
    const Address common = field - static_cast<std::ptrdiff_t>(entry.take<std::uint32_t>());
    const Encodings encodings = pointer_encodings(common, mapped_);
    if (!encodings.has_size || encodings.language == absent) return;
    entry.take_encoded(encodings.function);
    entry.take_encoded(encodings.function);
    entry.take_uleb();
    const Address table = entry.take_address(encodings.language);
    if (!table) return;

    Reader reader(table, mapped_);
    Address from = function.begin;
    if (const auto encoding = reader.take<std::uint8_t>(); encoding != absent) from = reader.take_address(encoding);
    if (const auto encoding = reader.take<std::uint8_t>(); encoding != absent) reader.take_uleb();
    const auto encoding = reader.take<std::uint8_t>();
    const std::uint64_t size = reader.take_uleb();
    if (!reader.is_good() || size > mapped_.size()) return;
    const Address end = reader.at() + static_cast<std::ptrdiff_t>(size);
    while (reader.is_good() && reader.at() < end) {
        reader.take_encoded(encoding);  // where the calls begin
        reader.take_encoded(encoding);  // how many bytes they take
        const std::uint64_t pad = reader.take_encoded(encoding);
        reader.take_uleb();  // what to do there
        if (reader.is_good() && pad != 0) found(context, from + static_cast<std::ptrdiff_t>(pad));
    }
}

}  // namespace dynfunc
