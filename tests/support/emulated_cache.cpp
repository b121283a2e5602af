// SPDX-License-Identifier: MIT
// For tests under an emulator that does not see code written through another mapping (qemu-user before 8.1), and so refuses to
// be patched. It drops what it has translated of a page that becomes writable; so cache maintenance, by which a program says
// that it has written code, is made of that here. On a processor no page is ever writable and executable: this is linked into
// tests alone that run emulated, where it takes the place of the compiler's function of this name.
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

extern "C" void __clear_cache(void* begin, void* end) {
    const auto page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
    const std::uintptr_t first = reinterpret_cast<std::uintptr_t>(begin) & ~(page - 1);
    const std::uintptr_t behind = (reinterpret_cast<std::uintptr_t>(end) + page - 1) & ~(page - 1);
    // Not through libc, whose functions may have probes.
    syscall(SYS_mprotect, first, behind - first, long{PROT_READ | PROT_WRITE | PROT_EXEC});
    syscall(SYS_mprotect, first, behind - first, long{PROT_READ | PROT_EXEC});
}
