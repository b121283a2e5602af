// SPDX-License-Identifier: MIT
// What runs at every hit of a traced program: counts and times, written where the tool reads them (recording.hpp).
#pragma once

#include <dynfunc/return_probe.hpp>

#include <cstdint>
#include <utility>

#include "recording.hpp"

namespace dynfunc::trace {

class Recorder {
public:
    // Maps the file, all of it: later the program may have closed our files, and have others of the same number.
    // False: that cannot be done.
    static bool open(int recording) noexcept;
    static const RecordingHeader& header() noexcept { return *header_; }

    // Of a probe that counts; its data are the function's number.
    static AfterHit (*counting() noexcept)(ProbeHit&);
    // Of functions that FunctionNumbers knows. `plan` gets its handlers and its data.
    static void set_timing(detail::ReturnPlan& plan) noexcept;

    // Around fork(), in the thread that forks.
    static void before_fork() noexcept;
    static void in_child() noexcept;

    // What this thread does for us is not the program's: it is not counted.
    class OwnWork {
    public:
        OwnWork() noexcept;
        ~OwnWork();
        OwnWork(const OwnWork&) = delete;

    private:
        bool before_;
    };

private:
    static RecordingHeader* header_;
};

}  // namespace dynfunc::trace
