// SPDX-License-Identifier: MIT
// Hot-swaps a plug-in under load: four threads keep calling it while version 1 and 2 take turns, and each time the old one is
// unloaded for good. Then shows what happens to a plug-in that leaves while it is still the target.
//
//     $ plugin_switch 100
//     100 swaps under 4 threads: version 1 served 8270513 calls, version 2 served 8301246, the host 1544
//     the old plug-in was gone after 100 of 100 swaps
//     closed version 1 while it was the target: now the host answers
//
// Host and plug-ins link the shared library: all must use one copy. The plug-ins lie beside the program.
#include <dlfcn.h>

#include <array>
#include <atomic>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include <dynfunc/dynfunc.hpp>
#include <dynfunc/grace_period.hpp>

#include "plugin.hpp"

Answer answer_without_plugin(long) { return {.version = 0, .value = 0}; }

DYNFUNC(answer, Answers, &answer_without_plugin);

[[noreturn]] void die(const char* what, const char* why) {
    std::fprintf(stderr, "plugin_switch: %s: %s\n", what, why);
    std::_Exit(1);
}

std::string path_of(int version) {
    return std::filesystem::read_symlink("/proc/self/exe").replace_filename("plugin_v" + std::to_string(version) + ".so");
}

// Loads the plug-in and makes it the target.
void* load(int version) {
    const std::string path = path_of(version);
    void* plugin = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (plugin == nullptr) die("dlopen", dlerror());
    auto* target = reinterpret_cast<Answers*>(dlsym(plugin, entry_point));
    if (target == nullptr) die("dlsym", dlerror());
    if (auto done = answer.retarget(target); !done) die("retarget", done.error().message().c_str());
    return plugin;
}

// Whether it really left the process.
bool is_loaded(int version) {
    void* plugin = dlopen(path_of(version).c_str(), RTLD_NOW | RTLD_NOLOAD);
    if (plugin != nullptr) dlclose(plugin);
    return plugin != nullptr;
}

std::array<std::atomic<unsigned long>, 3> served{};  // by version

void keep_calling(std::stop_token stop) {
    for (long question = 1; !stop.stop_requested(); ++question) {
        const dynfunc::ReadSection inside;  // the plug-in that answers stays until the end of this scope
        const Answer a = answer(question);
        if (a.value != question * a.version) die("answer", "a mix of two plug-ins");
        ++served[static_cast<std::size_t>(a.version)];
    }
}

void wait_until_serving(int version) {
    const auto& calls = served[static_cast<std::size_t>(version)];
    for (const unsigned long before = calls; calls == before;) std::this_thread::yield();
}

int main(int argc, char** argv) {
    unsigned swaps = 100;
    if (argc > 1) {
        const char* end = argv[1] + std::strlen(argv[1]);
        if (const auto [at, error] = std::from_chars(argv[1], end, swaps); argc > 2 || at != end || error != std::errc()) {
            std::fputs("usage: plugin_switch [SWAPS]\n", stderr);
            return 2;
        }
    }

    std::vector<std::jthread> callers;
    for (int n = 0; n < 4; ++n) callers.emplace_back(keep_calling);
    wait_until_serving(0);

    int version = 1;
    void* plugin = load(version);
    wait_until_serving(version);
    unsigned gone = 0;
    for (unsigned n = 0; n < swaps; ++n) {
        void* const old_plugin = plugin;
        const int old_version = version;
        version = 3 - version;
        plugin = load(version);  // from here on no new call enters the old plug-in ...
        dynfunc::synchronize();  // ... and from here on no thread is inside it
        dlclose(old_plugin);
        if (!is_loaded(old_version)) ++gone;
        wait_until_serving(version);
    }
    callers.clear();  // stops and joins them
    std::printf("%u swaps under 4 threads: version 1 served %lu calls, version 2 served %lu, the host %lu\n", swaps,
                served[1].load(), served[2].load(), served[0].load());
    std::printf("the old plug-in was gone after %u of %u swaps\n", gone, swaps);

    // The safety net for a plug-in that is closed too early. It redirects calls to come; it cannot help a thread that is
    // inside, so that a program should retarget and synchronize() as above.
    dlclose(plugin);
    const bool host_answers = !is_loaded(version) && answer.target() == &answer_without_plugin && answer(7).version == 0;
    std::printf("closed version %d while it was the target: %s\n", version,
                host_answers ? "now the host answers" : "it is still there");
    return gone == swaps && host_answers ? 0 : 1;
}
