// SPDX-License-Identifier: MIT
// Dynamic functions as class statics, private and public, called from inside the class and from a template.
#pragma once

#include <dynfunc/dynfunc.hpp>

class Codec {
public:
    static int run(int x) { return decode(x); }
    static bool choose(int (*target)(int)) { return decode.retarget(target).has_value(); }

    DYNFUNC_DECLARE_STATIC(encode, int(int));

private:
    DYNFUNC_DECLARE_STATIC(decode, int(int));
};

template <class Unit>
struct Meter {
    static int read(int x) { return Unit::sensor(x); }
};
struct Metre {
    DYNFUNC_DECLARE_STATIC(sensor, int(int));
};
