// SPDX-License-Identifier: MIT
// Probes on a function of this program and on one of the C library: who calls it and with what, another argument, another
// result, and what is refused.
//
//     $ COLOUR=red probe_calls
//     price at 0x55bdcc4c7ed0: class guarded, no better one because there is no room for a jump at 0x55bdcc4c7ed0
//     bytes replaced: 89 f8 0f af c6; consumers: 1
//       price(1, 250)
//     1 at 250 each: 250
//     ...
//       getenv("COLOUR") would have been red
//     COLOUR is green, PATH is as it was
//
// Worth copying: attach() gives a value or says why not, in words (main, show_refusals). A handler without captures gets what
// it works on through ProbeOptions::data (print_calls, replace_result); with the signature at hand, a lambda with captures gets
// the arguments themselves (change_argument). What a handler refers to may go when detach() has returned, or the Probe has
// ended.
//
// A build or a machine without probes is told by the first attach; then the program says so and has nothing else to do.
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <dynfunc/probe.hpp>
#include <dynfunc/typed_probe.hpp>

// Of its own code a compiler may inline calls, and those have no function to probe. Code of another file or library needs no
// attribute. (noipa: a handler changes an argument, whose register the caller might take for unchanged.)
#if __has_cpp_attribute(gnu::noipa)
[[gnu::noipa]]
#else
[[gnu::noinline]]
#endif
int price(int pieces, int cents) {
    asm volatile("");  // or calls with the same arguments are made once
    return pieces * cents;
}

void buy(int pieces, int cents) { std::printf("%d at %d each: %d\n", pieces, cents, price(pieces, cents)); }

void report(const char* what, const dynfunc::Probe& probe) {
    std::printf("%s: %ju hits, %ju missed\n", what, std::uintmax_t{probe.hits()}, std::uintmax_t{probe.missed()});
}

// How the library has got in: as a jump or, where there is no room for one, as a breakpoint, which costs 200 times as much.
void describe(const dynfunc::Probe& probe) {
    const dynfunc::ProbeInfo info = probe.info();
    std::printf("price at %#zx: class %s%s%s\n", static_cast<std::size_t>(info.at.value), to_string(info.site_class),
                info.reason.empty() ? "" : ", no better one because ", info.reason.c_str());
    std::printf("bytes replaced:");
    for (const std::byte byte : info.before) std::printf(" %02x", std::to_integer<unsigned>(byte));
    std::printf("; consumers: %zu\n", info.consumers);
}

// By registers, at an address: the arguments as the calling convention passes them. It removes itself after three hits; the
// Probe stays, for its counts.
dynfunc::AfterHit print_call(dynfunc::ProbeHit& hit) {
    auto& left = *static_cast<std::atomic<int>*>(hit.data);  // handlers run in any number of threads at once
    std::printf("  price(%d, %d)\n", static_cast<int>(hit.registers.integer(0)), static_cast<int>(hit.registers.integer(1)));
    return left.fetch_sub(1) > 1 ? dynfunc::AfterHit::keep : dynfunc::AfterHit::disable;
}

dynfunc::Result<void> print_calls() {
    std::atomic<int> left = 3;  // before the probe, so that it goes after it
    auto probe = dynfunc::Probe::attach(&price, {.on_hit = &print_call, .data = &left});
    if (!probe) return std::unexpected(probe.error());
    describe(*probe);
    for (int pieces = 1; pieces <= 5; ++pieces) buy(pieces, 250);
    report("print_call", *probe);
    return {};
}

// By signature: the arguments by reference, and what is assigned is what the function gets.
dynfunc::Result<void> change_argument() {
    int cheapest = 1000;
    auto probe = dynfunc::probe_typed(&price, [&cheapest](int&, int& cents) {
        if (cents < cheapest) cheapest = cents;
        if (cents > 200) cents = 200;
    });
    if (!probe) return std::unexpected(probe.error());
    buy(2, 250);
    buy(2, 150);
    probe->detach();  // nobody is inside of the lambda any more
    std::printf("cheapest: %d; from now on at any price\n", cheapest);
    buy(2, 250);
    return {};
}

// By name, in the C library: for one variable the function does not run, and its caller gets what the handler says.
dynfunc::AfterHit answer_for_colour(dynfunc::ProbeHit& hit) {
    const auto* name = reinterpret_cast<const char*>(hit.registers.integer(0));
    if (std::strcmp(name, "COLOUR") != 0) return dynfunc::AfterHit::keep;
    const char* const real = std::getenv(name);  // inside of a handler it is not probed: a missed hit, and no recursion
    std::printf("  getenv(\"%s\") would have been %s\n", name, real != nullptr ? real : "nothing");
    hit.registers.return_now(reinterpret_cast<std::uintptr_t>(hit.data));
    return dynfunc::AfterHit::keep;
}

dynfunc::Result<void> replace_result() {
    static char green[] = "green";
    auto probe = dynfunc::Probe::attach("getenv", {.on_hit = &answer_for_colour, .data = green});
    if (!probe) return std::unexpected(probe.error());
    const char *colour = std::getenv("COLOUR"), *path = std::getenv("PATH");
    std::printf("COLOUR is %s, PATH is %s\n", colour != nullptr ? colour : "not set",
                path != nullptr ? "as it was" : "not set");
    report("answer_for_colour", *probe);
    return {};
}

// Nothing has changed after a refusal; its code is for the program, its message for people.
void show_refusals() {
    static int data = 0;
    const dynfunc::ProbeOptions options{.on_hit = &answer_for_colour};
    for (const dynfunc::ProbeTarget& target :
         {dynfunc::ProbeTarget("libc.so.6", "no_such_function"), dynfunc::ProbeTarget(dynfunc::Address::of(&data)),
          dynfunc::ProbeTarget("_Unwind_RaiseException")})
        if (const auto refused = dynfunc::Probe::attach(target, options); !refused)
            std::printf("refused: %s\n", refused.error().message().c_str());
}

int main() {
    std::setvbuf(stdout, nullptr, _IOLBF, BUFSIZ);
    if (const auto done = print_calls(); !done) {
        std::printf("no probes here: %s\n", done.error().message().c_str());
        return 0;
    }
    for (const auto step : {&change_argument, &replace_result}) {
        if (const auto done = step(); !done) {
            std::fprintf(stderr, "probe_calls: %s\n", done.error().message().c_str());
            return 1;
        }
    }
    show_refusals();
}
