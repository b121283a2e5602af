// SPDX-License-Identifier: MIT
// A program that knows nothing of the library loads a plug-in with a static copy in it (argument 1), lets a thread use it, and
// unloads it before the thread ends: nothing of the copy may be called any more, neither by the thread's end nor by fork().
#include <dlfcn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <thread>

int main(int, char** argv) {
    void* plugin = dlopen(argv[1], RTLD_NOW);
    if (plugin == nullptr) {
        std::fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    const auto use = reinterpret_cast<int (*)(int)>(dlsym(plugin, "call_and_retarget"));
    std::atomic<int> step{0};
    int first = 0, second = 0;
    std::thread user([&] {
        first = use(4);
        second = use(4);
        step = 1;
        while (step != 2) std::this_thread::yield();
    });
    while (step != 1) std::this_thread::yield();
    dlclose(plugin);
    const bool unloaded = dlopen(argv[1], RTLD_NOW | RTLD_NOLOAD) == nullptr;
    step = 2;
    user.join();
    int status = 0;
    const pid_t child = fork();
    if (child == 0) _exit(0);
    waitpid(child, &status, 0);
    std::printf("calls %d %d, unloaded %d, child's status %d\n", first, second, unloaded, status);
    return first == 5 && second == 6 && unloaded && status == 0 ? 0 : 1;
}
