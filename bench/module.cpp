// SPDX-License-Identifier: MIT
#include "module.hpp"

#include <dlfcn.h>

#include <filesystem>

namespace bench {

Module::Module(const std::string& name) {
    static const std::filesystem::path folder = std::filesystem::read_symlink("/proc/self/exe").parent_path();
    const std::filesystem::path path = folder / name;
    handle_ = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle_ != nullptr) return;
    error_ = std::filesystem::exists(path) ? dlerror()
                                           : name + " is not there: it is x86-64 assembly and built for no other machine";
}

Module::~Module() {
    if (handle_ != nullptr) dlclose(handle_);
}

void* Module::find(const char* name) const { return handle_ == nullptr ? nullptr : dlsym(handle_, name); }

}  // namespace bench
