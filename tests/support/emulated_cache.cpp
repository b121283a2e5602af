// SPDX-License-Identifier: MIT
// For tests under an emulator that does not see code written through another mapping (qemu-user before 8.1), and so refuses to
// be patched. It drops what it has translated of a page that becomes writable; so cache maintenance, by which a program says
// that it has written code, is made of that here. The linker leads calls of the compiler's function here (--wrap), in tests
// alone that may run emulated. On a processor, where the same program runs as well, it is the compiler's function, and no page
// is ever writable and executable.
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <iterator>

extern "C" {
void __real___clear_cache(void* begin, void* end);
void __wrap___clear_cache(void* begin, void* end);
}

// Neither getenv() nor mprotect() is called here: they may have probes. Nor is a variable asked: the library comes here before
// this file's are initialised.
static bool is_emulated() {
    constexpr char setting[] = "DYNFUNC_TEST_EMULATOR=user";
    for (char** each = environ; each != nullptr && *each != nullptr; ++each)
        if (std::equal(std::begin(setting), std::end(setting), *each)) return true;
    return false;
}

void __wrap___clear_cache(void* begin, void* end) {
    if (!is_emulated()) return __real___clear_cache(begin, end);
    const auto page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
    const std::uintptr_t first = reinterpret_cast<std::uintptr_t>(begin) & ~(page - 1);
    const std::uintptr_t behind = (reinterpret_cast<std::uintptr_t>(end) + page - 1) & ~(page - 1);
    syscall(SYS_mprotect, first, behind - first, long{PROT_READ | PROT_WRITE | PROT_EXEC});
    syscall(SYS_mprotect, first, behind - first, long{PROT_READ | PROT_EXEC});
}
