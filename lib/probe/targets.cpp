// SPDX-License-Identifier: MIT
// From names to addresses, by the dynamic linker.
#include <dynfunc/probe.hpp>

#include <dlfcn.h>
#include <link.h>

#include <string_view>
#include <utility>

#include "find_call_sites.hpp"

namespace dynfunc {
namespace {

struct Search {
    std::string_view wanted;
    const char* path = nullptr;
    bool is_first = true, is_program = false;
};

bool has_name(std::string_view path, std::string_view wanted) noexcept {
    if (wanted.find('/') != wanted.npos) return path == wanted;
    const std::size_t slash = path.rfind('/');
    return (slash == path.npos ? path : path.substr(slash + 1)) == wanted;
}

// The program itself has the empty name, and comes first.
int find_module(dl_phdr_info* info, std::size_t, void* data) {
    auto& search = *static_cast<Search*>(data);
    const bool is_program = std::exchange(search.is_first, false);
    if (is_program ? !search.wanted.empty() && !has_name(program_invocation_name, search.wanted)
                   : !has_name(info->dlpi_name, search.wanted))
        return 0;
    search.path = info->dlpi_name;
    search.is_program = is_program;
    return 1;
}

class Handle {
public:
    explicit Handle(const char* path) noexcept : handle_(dlopen(path, RTLD_LAZY | RTLD_NOLOAD)) {}
    ~Handle() {
        if (handle_ != nullptr) dlclose(handle_);
    }
    Handle(const Handle&) = delete;
    void* symbol(const char* name) const noexcept { return handle_ != nullptr ? dlsym(handle_, name) : nullptr; }

private:
    void* handle_;
};

}  // namespace

Result<Address> ProbeTarget::resolve() const noexcept {
    if (symbol_ == nullptr) return at_;
    const std::unexpected none(Error{.code = Errc::no_symbol});
    if (module_ == nullptr) {
        const Address found = Address::of(dlsym(RTLD_DEFAULT, symbol_));
        if (!found) return none;
        return found + offset_;
    }
    Search search{.wanted = module_};
    if (dl_iterate_phdr(find_module, &search) == 0) return none;
    const Handle module(search.is_program ? nullptr : search.path);
    const Address found = Address::of(module.symbol(symbol_));
    if (!found) return none;
    // The objects that it needs are searched too.
    link_map* map = nullptr;
    Dl_info info;
    if (dladdr1(found.as<const void*>(), &info, reinterpret_cast<void**>(&map), RTLD_DL_LINKMAP) == 0 || map == nullptr ||
        std::string_view(map->l_name) != search.path)
        return none;
    return found + offset_;
}

}  // namespace dynfunc
