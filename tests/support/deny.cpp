// SPDX-License-Identifier: MIT
// deny WHAT... -- PROGRAM ARGS...: runs a program to which the kernel refuses things (seccomp), to see what it makes of that.
//     membarrier      EPERM
//     memfd_create    EPERM
//     proc            opening anything both readable and writable: EACCES. Among what the tests do that is /proc/self/mem
//     alone.
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <vector>

namespace {

constexpr sock_filter load(std::size_t offset) { return BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<__u32>(offset)); }

void refuse_call(std::vector<sock_filter>& filter, int number, int error) {
    filter.push_back(load(offsetof(seccomp_data, nr)));
    filter.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<__u32>(number), 0, 1));
    filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<__u32>(error)));
}

void refuse_opening_for_both(std::vector<sock_filter>& filter) {
    filter.push_back(load(offsetof(seccomp_data, nr)));
    filter.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 0, 4));
    filter.push_back(load(offsetof(seccomp_data, args) + 2 * sizeof(__u64)));  // flags; little endian
    filter.push_back(BPF_STMT(BPF_ALU | BPF_AND | BPF_K, O_ACCMODE));
    filter.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, O_RDWR, 0, 1));
    filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EACCES));
}

}  // namespace

int main(int argc, char** argv) {
    std::vector<sock_filter> filter;
    int i = 1;
    for (; i < argc && std::strcmp(argv[i], "--") != 0; ++i) {
        if (std::strcmp(argv[i], "membarrier") == 0)
            refuse_call(filter, SYS_membarrier, EPERM);
        else if (std::strcmp(argv[i], "memfd_create") == 0)
            refuse_call(filter, SYS_memfd_create, EPERM);
        else if (std::strcmp(argv[i], "proc") == 0)
            refuse_opening_for_both(filter);
        else {
            std::fprintf(stderr, "deny: cannot deny '%s'\n", argv[i]);
            return 2;
        }
    }
    if (i + 1 >= argc) {
        std::fprintf(stderr, "usage: deny WHAT... -- PROGRAM ARGS...\n");
        return 2;
    }
    filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
    const sock_fprog program{static_cast<unsigned short>(filter.size()), filter.data()};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
        std::perror("deny: seccomp");
        return 77;  // skipped: nothing can be denied here
    }
    execvp(argv[i + 1], argv + i + 1);
    std::perror("deny: exec");
    return 2;
}
