// SPDX-License-Identifier: MIT
#include "kernel_uprobe.hpp"

#include <link.h>
#include <linux/bpf.h>
#include <linux/perf_event.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <optional>
#include <vector>

#include "refused.hpp"

namespace bench {
namespace {

// What headers older than the running kernel do not have.
constexpr std::uint32_t attach_type_uprobe_multi = 48, flag_return = 1;
struct CreateUprobeMulti {
    std::uint32_t program, target, attach_type, flags;
    std::uint64_t path, offsets, reference_counts, cookies;
    std::uint32_t count, multi_flags, process, padding;
};

template <class Value>
std::uint64_t as_word(const Value* pointer) {
    return reinterpret_cast<std::uintptr_t>(pointer);
}

// Where an address of a mapped object stands in its file.
struct FilePlace {
    std::string path;
    std::uint64_t offset;
};

struct Search {
    std::uintptr_t address;
    std::optional<FilePlace> found;
};

int look_into(dl_phdr_info* object, std::size_t, void* context) {
    Search& search = *static_cast<Search*>(context);
    for (ElfW(Half) i = 0; i < object->dlpi_phnum; ++i) {
        const ElfW(Phdr)& segment = object->dlpi_phdr[i];
        const std::uintptr_t begin = object->dlpi_addr + segment.p_vaddr;
        if (segment.p_type != PT_LOAD || search.address < begin || search.address - begin >= segment.p_filesz) continue;
        const bool is_program = object->dlpi_name == nullptr || *object->dlpi_name == '\0';
        search.found = {is_program ? "/proc/self/exe" : object->dlpi_name, search.address - begin + segment.p_offset};
        return 1;
    }
    return 0;
}

std::expected<FilePlace, std::string> place_of(std::uintptr_t address) {
    Search search{address, {}};
    dl_iterate_phdr(&look_into, &search);
    if (!search.found) return std::unexpected("the function lies in no mapped object");
    return *search.found;
}

constexpr const char* pmu = "/sys/bus/event_source/devices/uprobe/";

std::expected<std::string, std::string> read_line(const std::string& path) {
    std::ifstream file(path);
    std::string line;
    if (!std::getline(file, line)) return std::unexpected(refused(path));
    return line;
}

// The dynamic numbers that this kernel gave its probes.
struct Pmu {
    std::uint32_t type;
    std::uint64_t return_bit;
};

std::expected<Pmu, std::string> find_pmu() {
    const auto type = read_line(std::string(pmu) + "type");
    if (!type) return std::unexpected(type.error());
    const auto format = read_line(std::string(pmu) + "format/retprobe");  // "config:0"
    if (!format) return std::unexpected(format.error());
    unsigned number = 0, bit = 0;
    if (std::sscanf(type->c_str(), "%u", &number) != 1 || std::sscanf(format->c_str(), "config:%u", &bit) != 1 || bit > 63)
        return std::unexpected(std::string(pmu) + " is written in a way that is not known");
    return Pmu{number, std::uint64_t{1} << bit};
}

// `r0 = 0; exit`: nothing is done, and the event behind it is not counted.
std::expected<OwnFile, std::string> load_no_op(std::uint32_t attach_type) {
    bpf_insn program[2]{};
    program[0].code = BPF_ALU64 | BPF_MOV | BPF_K;
    program[1].code = BPF_JMP | BPF_EXIT;
    bpf_attr load;
    std::memset(&load, 0, sizeof load);  // all of the union, as the kernel asks
    load.prog_type = BPF_PROG_TYPE_KPROBE;
    load.insns = as_word(program);
    load.insn_cnt = 2;
    load.license = as_word("Dual MIT/GPL");
    load.expected_attach_type = attach_type;
    OwnFile loaded(static_cast<int>(syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof load)));
    if (!loaded) return std::unexpected(refused("bpf, loading a program"));
    return loaded;
}

const std::expected<OwnFile, std::string>& no_op() {
    static const std::expected<OwnFile, std::string> loaded = load_no_op(0);
    return loaded;
}

// Empty, or why not.
std::string set_program(int event) {
    if (!no_op()) return no_op().error();
    if (ioctl(event, PERF_EVENT_IOC_SET_BPF, no_op()->number()) != 0) return refused("PERF_EVENT_IOC_SET_BPF");
    return {};
}

std::expected<OwnFile, std::string> open_event(const Pmu& kind, const FilePlace& place, KernelUprobe::At at) {
    perf_event_attr event{};
    event.size = sizeof event;
    event.type = kind.type;
    event.config = at == KernelUprobe::At::return_ ? kind.return_bit : 0;
    event.uprobe_path = as_word(place.path.c_str());
    event.probe_offset = place.offset;
    OwnFile opened(static_cast<int>(syscall(SYS_perf_event_open, &event, getpid(), -1, -1, PERF_FLAG_FD_CLOEXEC)));
    if (opened) return opened;
    std::string why = refused("perf_event_open of a uprobe");
    if (const auto paranoid = read_line("/proc/sys/kernel/perf_event_paranoid")) why += "; perf_event_paranoid is " + *paranoid;
    return std::unexpected(why);
}

}  // namespace

OwnFile::~OwnFile() {
    if (file_ >= 0) close(file_);
}

std::expected<KernelUprobe, std::string> KernelUprobe::attach(std::uintptr_t address, At at) {
    static const std::expected<Pmu, std::string> kind = find_pmu();
    if (!kind) return std::unexpected(kind.error());
    const auto place = place_of(address);
    if (!place) return std::unexpected(place.error());
    auto event = open_event(*kind, *place, at);
    if (!event) return std::unexpected(event.error());
    const std::string refusal = set_program(event->number());
    return KernelUprobe(*std::move(event), refusal.empty() ? "no-op BPF program" : "the trap alone, without BPF: " + refusal);
}

std::expected<KernelUprobes, std::string> KernelUprobes::attach(std::span<const std::uintptr_t> addresses,
                                                                KernelUprobe::At at) {
    static const std::expected<OwnFile, std::string> program = load_no_op(attach_type_uprobe_multi);
    if (!program) return std::unexpected(program.error());
    std::string path;
    std::vector<std::uint64_t> offsets;
    for (const std::uintptr_t address : addresses) {
        const auto place = place_of(address);
        if (!place) return std::unexpected(place.error());
        if (!path.empty() && path != place->path) return std::unexpected("the functions lie in several objects");
        path = place->path;
        offsets.push_back(place->offset);
    }
    CreateUprobeMulti create{};
    create.program = static_cast<std::uint32_t>(program->number());
    create.attach_type = attach_type_uprobe_multi;
    create.path = as_word(path.c_str());
    create.offsets = as_word(offsets.data());
    create.count = static_cast<std::uint32_t>(offsets.size());
    create.multi_flags = at == KernelUprobe::At::return_ ? flag_return : 0;
    create.process = static_cast<std::uint32_t>(getpid());
    OwnFile link(static_cast<int>(syscall(SYS_bpf, BPF_LINK_CREATE, &create, sizeof create)));
    if (!link) return std::unexpected(refused("bpf, creating a link of the kind uprobe_multi"));
    return KernelUprobes(std::move(link));
}

}  // namespace bench
