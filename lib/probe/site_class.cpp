// SPDX-License-Identifier: MIT
#include <dynfunc/site_class.hpp>

namespace dynfunc {

const char* to_string(SiteClass site) noexcept {
    switch (site) {
        case SiteClass::whole:
            return "whole";
        case SiteClass::guarded:
            return "guarded";
        case SiteClass::punned:
            return "punned";
        case SiteClass::breakpoint:
            return "breakpoint";
        case SiteClass::refused:
            return "refused";
    }
    return "unknown";
}

}  // namespace dynfunc
