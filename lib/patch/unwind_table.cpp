// SPDX-License-Identifier: MIT
#include "unwind_table.hpp"

#include <algorithm>
#include <cstring>

#include "arch.hpp"

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
    std::int64_t take_sleb() noexcept {
        std::uint64_t value = 0;
        for (unsigned shift = 0; shift < 63;) {
            const auto byte = take<std::uint8_t>();
            value |= std::uint64_t{byte & 0x7fU} << shift;
            shift += 7;
            if ((byte & 0x80) != 0) continue;
            if ((byte & 0x40) != 0) value |= ~std::uint64_t{0} << shift;
            return static_cast<std::int64_t>(value);
        }
        good_ = false;
        return 0;
    }
    void skip(std::uint64_t bytes) noexcept {
        if (bytes > within_.size())
            good_ = false;
        else
            at_ = at_ + static_cast<std::ptrdiff_t>(bytes);
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
    std::int64_t data_alignment = 0;
    std::uint64_t rules = 0;  // where the rules begin, from the entry's begin
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
    reader.take_uleb();  // code alignment
    const std::int64_t data_alignment = reader.take_sleb();
    version == 1 ? reader.take<std::uint8_t>() : reader.take_uleb();  // return address register
    const std::uint64_t size = reader.take_uleb();                    // of what follows
    if (size > mapped.size()) return {};
    Encodings encodings{.function = 0,
                        .has_size = true,
                        .data_alignment = data_alignment,
                        .rules = static_cast<std::uint64_t>(reader.at() - common) + size};
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

// The rules that hold at a function's first instruction: those of the entries, up to where the first of them ends (DWARF 5,
// 6.4.2).
struct FrameRules {
    std::int64_t data_alignment;
    std::uint64_t cfa_register = 0, cfa_offset = 0;
    bool is_cfa_known = false, is_return_saved = false, is_return_unusual = false;
    std::int64_t return_at = 0;  // from the CFA

    // False: an instruction that is not known here.
    bool read(Reader& reader, Address end) noexcept {
        const std::uint64_t return_address = arch::entry_frame().return_address;
        while (reader.is_good() && reader.at() < end) {
            const auto code = reader.take<std::uint8_t>();
            if (code >> 6 == 1) return read_behind_landing_pad(reader, end);  // advance_loc
            if (code >> 6 == 2) {                                             // offset
                save(code & 0x3f, reader.take_uleb());
                continue;
            }
            if (code >> 6 == 3) continue;  // restore
            switch (code) {
                case 0x00:  // nop
                    break;
                case 0x02:  // advance_loc1, 2, 4
                case 0x03:
                case 0x04:
                    reader.skip(std::size_t{1} << (code - 2));
                    return read_behind_landing_pad(reader, end);
                case 0x05: {  // offset_extended
                    const std::uint64_t which = reader.take_uleb();
                    save(which, reader.take_uleb());
                    break;
                }
                case 0x07:  // undefined, same_value
                case 0x08:
                    is_return_unusual = reader.take_uleb() == return_address || is_return_unusual;
                    break;
                case 0x0c:  // def_cfa
                    cfa_register = reader.take_uleb();
                    cfa_offset = reader.take_uleb();
                    is_cfa_known = true;
                    break;
                case 0x0d:  // def_cfa_register
                    cfa_register = reader.take_uleb();
                    break;
                case 0x0e:  // def_cfa_offset
                    cfa_offset = reader.take_uleb();
                    break;
                case 0x0f:  // def_cfa_expression
                    is_cfa_known = false;
                    reader.skip(reader.take_uleb());
                    break;
                case 0x10:  // expression, val_expression
                case 0x16:
                    is_return_unusual = reader.take_uleb() == return_address || is_return_unusual;
                    reader.skip(reader.take_uleb());
                    break;
                case 0x2d:  // window_save: on arm64, that return addresses are signed from here on
                    break;
                case 0x2e:  // args_size
                    reader.take_uleb();
                    break;
                default:
                    return false;
            }
        }
        return reader.is_good();
    }

    bool is_as_called() const noexcept {
        const arch::EntryFrame expected = arch::entry_frame();
        if (!is_cfa_known || is_return_unusual || cfa_register != expected.stack_pointer || cfa_offset != expected.bytes)
            return false;
        if (!expected.is_return_on_stack) return !is_return_saved;
        return is_return_saved && return_at == -static_cast<std::int64_t>(expected.bytes);
    }

private:
    // A function that nobody has called says so at its first instruction of its own, behind a landing pad for indirect
    // branches: the return address is undefined (_start), or in the caller's frame (offset_extended_sf; the dynamic linker's
    // resolver, to which a stub jumps with arguments of its own).
    bool read_behind_landing_pad(Reader& reader, Address end) noexcept {
        if (!reader.is_good() || reader.at() >= end) return true;
        const auto code = reader.take<std::uint8_t>();
        if ((code == 0x07 || code == 0x11) && reader.take_uleb() == arch::entry_frame().return_address)
            is_return_unusual = true;
        return true;
    }
    void save(std::uint64_t which, std::uint64_t factor) noexcept {
        if (which != arch::entry_frame().return_address) return;
        is_return_saved = true;
        return_at = static_cast<std::int64_t>(factor) * data_alignment;
    }
};

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

bool UnwindTable::is_called(std::size_t i) const noexcept {
    if (function(i).size() == 0) return false;
    const Address description = header_ + entries_[i].description;
    Reader entry(description, mapped_);
    const auto length = entry.take<std::uint32_t>();
    const Address end = entry.at() + static_cast<std::ptrdiff_t>(length);
    const Address field = entry.at();
    const Address common = field - static_cast<std::ptrdiff_t>(entry.take<std::uint32_t>());
    const Encodings encodings = pointer_encodings(common, mapped_);
    if (!entry.is_good() || encodings.function == absent) return false;
    entry.take_encoded(encodings.function);
    entry.take_encoded(encodings.function);
    if (encodings.has_size) {
        const std::uint64_t size = entry.take_uleb();
        if (size > mapped_.size()) return false;
        entry.skip(size);
    }
    Reader rules(common, mapped_);
    const auto common_length = rules.take<std::uint32_t>();
    const Address common_end = rules.at() + static_cast<std::ptrdiff_t>(common_length);
    rules.skip(encodings.rules - rules.at().value + common.value);
    FrameRules frame{.data_alignment = encodings.data_alignment};
    return frame.read(rules, common_end) && frame.read(entry, end) && frame.is_as_called();
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
