// SPDX-License-Identifier: MIT
// The forms of a jump, and what a place with one is called: best first, which is the order in which they are tried.
#pragma once

#include <dynfunc/site_class.hpp>

#include "jump_plan.hpp"

namespace dynfunc {

struct SiteForm {
    arch::JumpForm form;
    SiteClass site_class;
};
inline constexpr SiteForm site_forms[] = {{arch::JumpForm::whole, SiteClass::whole},
                                          {arch::JumpForm::guarded, SiteClass::guarded},
                                          {arch::JumpForm::punned, SiteClass::punned}};

}  // namespace dynfunc
