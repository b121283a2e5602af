// SPDX-License-Identifier: MIT
// The code of one object, loaded or a mapped file, as far as who wants to put jumps into it has to know it: where functions
// begin and end, and where branches lead.
//
//     auto code = ModuleCode::of(&some_function);
//     auto plan = arch::plan_jump(arch::JumpForm::guarded, code->site(at));
//
// Functions are what the unwind table lists: also parts that the compiler has moved away, and not what has no unwind
// information. An indirect jump (of a switch) may lead to any instruction of its function but those that a jump over the
// function's begin replaces: compilers give a switch no case there. An exception may lead to every landing pad.
#pragma once

#include <dynfunc/result.hpp>

#include <cstdint>
#include <span>
#include <vector>

#include "jump_plan.hpp"
#include "unwind_table.hpp"

namespace dynfunc {

class ModuleCode {
public:
    // Reads all instructions of the object around `inside`: some 30 ns for each (measured). The object stays loaded while this
    // is used.
    // Errors: no_unwind_table (address = inside).  Throws: std::bad_alloc.
    static Result<ModuleCode> of(const void* inside);
    // The same of a shared object that is being loaded, by its base.
    static Result<ModuleCode> of_loading(Address base);
    // The same of an image of one, whose bytes may be anything, that stays mapped. `text`: all of it can be read.
    static ModuleCode of_image(std::span<const AddressRange> text, const UnwindTable& table);

    // Ascending, and none overlaps the next.
    const std::vector<AddressRange>& functions() const noexcept { return functions_; }
    bool is_text(Address at) const noexcept;
    // Empty: none.
    AddressRange function_around(Address at) const noexcept;
    // Whether a function begins there that is entered by a call, as the unwind table says: not a part of one that was moved
    // away, not an entry of a procedure linkage table.
    bool is_called(Address at) const noexcept;
    // What is known of a place; `code` is empty where that is in no function. `function` is the code of the function around it
    // as it was linked, for whoever has changed it since; it stays while the site is used.
    arch::JumpSite site(Address at, std::span<const std::byte> function) const noexcept;
    arch::JumpSite site(Address at) const noexcept;

private:
    std::vector<AddressRange>::const_iterator find_function(Address at) const noexcept;

    std::vector<AddressRange> functions_, text_;
    std::vector<Address> branches_to_;       // ascending
    std::vector<Address> called_;            // begins of functions; ascending
    std::vector<Address> jumps_indirectly_;  // begins of functions that do; ascending
};

}  // namespace dynfunc
