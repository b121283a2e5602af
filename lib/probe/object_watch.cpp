// SPDX-License-Identifier: MIT
#include "object_watch.hpp"

#include <dlfcn.h>
#include <errno.h>
#include <sys/auxv.h>

#include <new>

namespace dynfunc {
namespace {

// Of the dynamic linker, for debuggers. By the program's own entry: a symbol of that name may be a copy that nobody keeps.
const r_debug* debug_interface() noexcept {
    const auto* const headers = reinterpret_cast<const ElfW(Phdr)*>(getauxval(AT_PHDR));
    const std::size_t count = getauxval(AT_PHNUM);
    Address base{};
    for (std::size_t i = 0; i < count; ++i)
        if (headers[i].p_type == PT_PHDR) base = Address::of(headers) - static_cast<std::ptrdiff_t>(headers[i].p_vaddr);
    for (std::size_t i = 0; i < count; ++i) {
        if (headers[i].p_type != PT_DYNAMIC) continue;
        const auto* entry = (base + static_cast<std::ptrdiff_t>(headers[i].p_vaddr)).as<const ElfW(Dyn)*>();
        for (; entry->d_tag != DT_NULL; ++entry)
            if (entry->d_tag == DT_DEBUG) return reinterpret_cast<const r_debug*>(entry->d_un.d_ptr);
    }
    return nullptr;
}

}  // namespace

bool ObjectWatch::is_listed(const LoadedObject& object) const noexcept {
    for (const link_map* map = debug->r_map; map != nullptr; map = map->l_next)
        if (object.base.value == map->l_addr && object.dynamic == map->l_ld) return true;
    return false;
}

Result<ObjectWatch> watch_objects(void (*on_change)() noexcept) {
    const r_debug* const debug = debug_interface();
    if (debug == nullptr || debug->r_brk == 0) return ObjectWatch{};
    auto probe = Probe::attach(Address{debug->r_brk}, {.on_hit =
                                                           [](ProbeHit& hit) {
                                                               reinterpret_cast<void (*)()>(hit.data)();
                                                               return AfterHit::keep;
                                                           },
                                                       .data = reinterpret_cast<void*>(on_change)});
    if (!probe) return std::unexpected(probe.error());
    return ObjectWatch{debug, std::move(*probe)};
}

Result<void> detail::visit_loaded_objects(void (*visit)(void* data, LoadedObject& object), void* data) {
    struct Visiting {
        void (*visit)(void* data, LoadedObject& object);
        void* data;
        bool is_first = true, is_out_of_memory = false;
    } visiting{visit, data};
    dl_iterate_phdr(
        [](dl_phdr_info* info, std::size_t, void* data) {
            auto& visiting = *static_cast<Visiting*>(data);
            try {
                const bool is_program = std::exchange(visiting.is_first, false);
                LoadedObject object{Address{info->dlpi_addr}, nullptr, is_program ? program_invocation_name : info->dlpi_name,
                                    is_program};
                for (std::size_t i = 0; i < info->dlpi_phnum; ++i)
                    if (info->dlpi_phdr[i].p_type == PT_DYNAMIC)
                        object.dynamic =
                            (object.base + static_cast<std::ptrdiff_t>(info->dlpi_phdr[i].p_vaddr)).as<const ElfW(Dyn)*>();
                if (object.dynamic != nullptr) visiting.visit(visiting.data, object);
            } catch (const std::bad_alloc&) {
                visiting.is_out_of_memory = true;
            }
            return 0;
        },
        &visiting);
    if (visiting.is_out_of_memory) return std::unexpected(Error{.code = Errc::out_of_memory});
    return {};
}

KeepLoaded::KeepLoaded(const LoadedObject& object) noexcept
    : handle_(dlopen(object.is_program ? nullptr : object.path.c_str(), RTLD_LAZY | RTLD_NOLOAD)) {
    const auto* const map = static_cast<const link_map*>(handle_);
    is_loaded_ = map != nullptr && map->l_addr == object.base.value && map->l_ld == object.dynamic;
}
KeepLoaded::~KeepLoaded() {
    if (handle_ != nullptr) dlclose(handle_);
}

}  // namespace dynfunc
