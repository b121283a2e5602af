// SPDX-License-Identifier: MIT
// Shared objects that a bench loads: assembly that sites.py generates, too large to sit in the program itself.
#pragma once

#include <string>

namespace bench {

class Module {
public:
    // `name` lies beside the program. A module that does not load leaves error() behind.
    explicit Module(const std::string& name);
    ~Module();
    Module(const Module&) = delete;
    Module& operator=(const Module&) = delete;

    const std::string& error() const { return error_; }
    template <class T>
    T* symbol(const char* name) const {
        return static_cast<T*>(find(name));
    }

private:
    void* find(const char* name) const;

    void* handle_;
    std::string error_;
};

}  // namespace bench
