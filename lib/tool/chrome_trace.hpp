// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "recorded.hpp"
#include "trace_report.hpp"

namespace dynfunc::tool {

// Every call, in the trace event format of Chrome's JSON: one complete event each, in microseconds since the program was
// started. A call that has not ended says so in its arguments. `lost` goes into its "otherData".
void write_chrome_trace(const TraceResult& result, std::span<const RecordedCall> calls, std::uint64_t lost,
                        const std::function<void(const std::string&)>& write);

}  // namespace dynfunc::tool
