// SPDX-License-Identifier: MIT
#include "int3_peer.hpp"

#include <sys/mman.h>
#include <ucontext.h>

#include <cstdint>
#include <cstring>

#include "refused.hpp"
#include "write_code.hpp"

namespace bench::probes {
namespace {

constexpr std::size_t page = 4096;
constexpr std::byte int3{0xcc};

// What the handler reads. Written while nobody runs the site.
constinit std::uintptr_t probed = 0, continued = 0;

void on_trap(int, siginfo_t*, void* context) {
    greg_t& ip = static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP];
    if (static_cast<std::uintptr_t>(ip) - 1 == probed) {
        ip = static_cast<greg_t>(continued);
        return;
    }
    signal(SIGTRAP, SIG_DFL);  // somebody else's
    raise(SIGTRAP);
}

}  // namespace

std::expected<std::shared_ptr<Int3Peer>, std::string> Int3Peer::arm(const Site& site) {
    const std::shared_ptr<Int3Peer> peer(new Int3Peer(site));
    std::string refusal = peer->make_copy();
    if (refusal.empty()) refusal = peer->take_signal();
    if (refusal.empty()) refusal = peer->write_first(int3);
    if (!refusal.empty()) return std::unexpected(refusal);
    peer->written_ = true;
    return peer;
}

Int3Peer::~Int3Peer() {
    if (written_) static_cast<void>(write_first(before_));
    if (signal_taken_) sigaction(SIGTRAP, &former_, nullptr);
    if (copy_ != nullptr) munmap(copy_, page);
}

std::string Int3Peer::make_copy() {
    void* const mapped = mmap(nullptr, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) return refused("mmap");
    copy_ = static_cast<std::byte*>(mapped);
    const auto* const code = reinterpret_cast<const std::byte*>(site_.address());
    before_ = *code;
    constexpr std::byte jump_to_what_follows[] = {std::byte{0xff}, std::byte{0x25}, {}, {}, {}, {}};
    const std::uintptr_t next = site_.address() + site_.first_size;
    std::byte* at = copy_;
    std::memcpy(at, code, site_.first_size);
    std::memcpy(at += site_.first_size, jump_to_what_follows, sizeof jump_to_what_follows);
    std::memcpy(at += sizeof jump_to_what_follows, &next, sizeof next);
    if (mprotect(copy_, page, PROT_READ | PROT_EXEC) != 0) return refused("mprotect to executable");
    return {};
}

std::string Int3Peer::take_signal() {
    probed = site_.address();
    continued = reinterpret_cast<std::uintptr_t>(copy_);
    struct sigaction action {};
    action.sa_sigaction = &on_trap;
    action.sa_flags = SA_SIGINFO | SA_RESTART;
    if (sigaction(SIGTRAP, &action, &former_) != 0) return refused("sigaction of SIGTRAP");
    signal_taken_ = true;
    return {};
}

std::string Int3Peer::write_first(std::byte value) const { return write_code(site_.address(), {&value, 1}); }

}  // namespace bench::probes
