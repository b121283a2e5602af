// SPDX-License-Identifier: MIT
#include "module.hpp"

#include <dlfcn.h>

#include <filesystem>

#include "child.hpp"

namespace bench {

Module::Module(const std::string& name) {
    const std::filesystem::path path = program_folder() / name;
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
