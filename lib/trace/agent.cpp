// SPDX-License-Identifier: MIT
// Preloaded by `dynfunc trace`: before main(), and whenever an object is loaded, asks which of its functions are wanted, puts
// probes on them, and counts in memory that the tool reads (recording.hpp). It prints nothing, and where anything fails the
// program runs on untraced.
#include <dynfunc/return_probe.hpp>

#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

#include "object_watch.hpp"
#include "os.hpp"
#include "probes.hpp"
#include "recording.hpp"
#include "return_probes.hpp"
#include "ticks.hpp"

// What runs at every hit: no vector registers, no call of anything that may itself be probed.
#define DYNFUNC_AT_HIT [[gnu::target("general-regs-only")]]

namespace dynfunc::trace {
namespace {

// ---- Recording ----

constinit RecordingHeader* header = nullptr;
constinit std::byte* records = nullptr;  // of all slots, or of the shared one alone
constinit std::size_t usable_slots = 0;
pthread_key_t thread_end;

// This thread's records; null: it has not been seen yet.
[[gnu::tls_model("initial-exec")]] constinit thread_local std::byte* mine = nullptr;

// What this thread does for us is not the program's: it is not counted.
[[gnu::tls_model("initial-exec")]] constinit thread_local bool is_own_work = false;
class OwnWork {
public:
    OwnWork() noexcept : before_(std::exchange(is_own_work, true)) {}
    ~OwnWork() { is_own_work = before_; }
    OwnWork(const OwnWork&) = delete;

private:
    bool before_;
};

void claim_slot() noexcept {
    const OwnWork own;
    const os::KeepErrno keep;
    const std::int32_t process = getpid();
    for (std::size_t slot = shared_slot + 1; slot < usable_slots; ++slot) {
        std::int32_t nobody = 0;
        if (header->owner[slot].load(std::memory_order_relaxed) != 0 ||
            !header->owner[slot].compare_exchange_strong(nobody, process, std::memory_order_acquire))
            continue;
        mine = records + slot * header->slot_bytes();
        pthread_setspecific(thread_end, reinterpret_cast<void*>(slot));
        return;
    }
    mine = records;
}

void release_slot(void* slot) noexcept {
    mine = records;  // destructors that come later
    header->owner[reinterpret_cast<std::size_t>(slot)].store(0, std::memory_order_release);
}

template <class Value>
DYNFUNC_AT_HIT void add(Value& to, Value value, bool is_shared) noexcept {
    if (is_shared)
        __atomic_fetch_add(&to, value, __ATOMIC_RELAXED);
    else
        __atomic_store_n(&to, to + value, __ATOMIC_RELAXED);
}

template <class Record>
DYNFUNC_AT_HIT Record& record(std::uint32_t number) noexcept {
    return reinterpret_cast<Record*>(mine)[number];
}

DYNFUNC_AT_HIT AfterHit on_hit(ProbeHit& hit) {
    if (is_own_work) return AfterHit::keep;
    if (mine == nullptr) claim_slot();
    add(record<CountRecord>(static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(hit.data))).calls, std::uint64_t{1},
        mine == records);
    return AfterHit::keep;
}

// ---- Which function is at an address: a table with open addressing, half full at most ----

struct NumberTable {
    struct Entry {
        std::uintptr_t at;  // 0: free; written last
        std::uint32_t number;
    };
    std::size_t size, used;

    static constexpr std::size_t smallest = 1024;
    DYNFUNC_AT_HIT Entry* entries() const noexcept { return reinterpret_cast<Entry*>(const_cast<NumberTable*>(this) + 1); }
    DYNFUNC_AT_HIT static std::size_t hash(std::uintptr_t at, std::size_t size) noexcept {
        return ((at * 0x9e37'79b9'7f4a'7c15) >> 20) & (size - 1);  // Knuth, The Art of Computer Programming, 6.4
    }
    void put(std::uintptr_t at, std::uint32_t number) noexcept {
        std::size_t i = hash(at, size);
        while (entries()[i].at != 0 && entries()[i].at != at) i = (i + 1) & (size - 1);
        __atomic_store_n(&entries()[i].number, number, __ATOMIC_RELAXED);
        if (entries()[i].at == at) return;
        __atomic_store_n(&entries()[i].at, at, __ATOMIC_RELEASE);
        ++used;
    }
};
constinit NumberTable* numbers = nullptr;  // atomic; those before it stay, for handlers that are in them

void put_number(std::uintptr_t at, std::uint32_t number) {
    if (numbers == nullptr || 2 * numbers->used >= numbers->size) {
        const std::size_t size = numbers == nullptr ? NumberTable::smallest : 4 * numbers->size;
        void* const memory = std::calloc(1, sizeof(NumberTable) + size * sizeof(NumberTable::Entry));
        if (memory == nullptr) throw std::bad_alloc();
        auto* const larger = static_cast<NumberTable*>(memory);
        larger->size = size;
        for (std::size_t i = 0; numbers != nullptr && i < numbers->size; ++i)
            if (numbers->entries()[i].at != 0) larger->put(numbers->entries()[i].at, numbers->entries()[i].number);
        __atomic_store_n(&numbers, larger, __ATOMIC_RELEASE);
    }
    numbers->put(at, number);
}

constexpr std::uint32_t no_number = ~std::uint32_t{0};

DYNFUNC_AT_HIT std::uint32_t number_of(std::uintptr_t at) noexcept {
    const NumberTable* const table = __atomic_load_n(&numbers, __ATOMIC_ACQUIRE);
    for (std::size_t i = NumberTable::hash(at, table->size);; i = (i + 1) & (table->size - 1)) {
        const std::uintptr_t there = __atomic_load_n(&table->entries()[i].at, __ATOMIC_ACQUIRE);
        if (there == at) return __atomic_load_n(&table->entries()[i].number, __ATOMIC_RELAXED);
        if (there == 0) return no_number;
    }
}

// ---- Calls with their times ----

struct Call {
    std::uint64_t began = 0;
    std::uint32_t number = 0;
};

DYNFUNC_AT_HIT Track on_entry(Call& call, Registers& registers) {
    if (is_own_work) return Track::skip;
    if (mine == nullptr) claim_slot();
    // Another handler may have sent the call elsewhere: the library's own, for sigaction() and its like.
    call.number = number_of(registers.instruction_pointer());
    if (call.number == no_number) return Track::skip;
    add(record<TimeRecord>(call.number).calls, std::uint64_t{1}, mine == records);
    call.began = arch::ticks();
    return Track::track;
}

DYNFUNC_AT_HIT void end(const Call& call) noexcept {
    const std::uint64_t took = arch::ticks() - call.began;
    if (mine == nullptr) claim_slot();
    const bool is_shared = mine == records;
    auto& times = record<TimeRecord>(call.number);
    add(times.ended, std::uint64_t{1}, is_shared);
    add(times.total, took, is_shared);
    if (took > times.most) times.most = took;  // of the shared ones, perhaps one is lost to another that is as rare
    add(times.histogram[Histogram::bucket_of(took)], std::uint32_t{1}, is_shared);
}
DYNFUNC_AT_HIT void on_return(Call& call, Registers&) { end(call); }
void on_unwind(Call& call) { end(call); }

// ---- The connection ----

class Agent {
public:
    static Agent* start() {
        const char* const name = std::getenv(socket_variable);
        if (name == nullptr) return nullptr;
        static Agent& agent = *new Agent(name);  // for ever: threads run on while the process ends
        if (!agent.connect() || !agent.take_recording()) return nullptr;
        return &agent;
    }

    void attach_to_what_is_loaded() {
        const OwnWork own;
        auto watch = watch_objects([]() noexcept { instance->on_change(); });
        std::vector<LoadedObject> objects;
        static_cast<void>(for_each_loaded_object([&](LoadedObject& object) { objects.push_back(std::move(object)); }));
        std::vector<KeepLoaded> loaded;
        loaded.reserve(objects.size());
        for (const LoadedObject& object : objects) loaded.emplace_back(object);
        const std::lock_guard hold(lock_);
        if (watch) watch_ = std::move(*watch);
        for (std::size_t i = 0; i < objects.size(); ++i)
            if (loaded[i].is_loaded()) attach(objects[i]);
    }
    // In the only thread of a forked child.
    void connect_child() {
        const OwnWork own;
        if (is_connected()) close(connection_);
        new (&lock_) std::mutex;
        mine = nullptr;
        if (connect()) static_cast<void>(say(Word::hello, RecordingHeader::known_version));
    }
    // What only the library has counted.
    void end() {
        const OwnWork own;
        const std::lock_guard hold(lock_);
        for (Object& object : objects_) object.write_missed();
        static_cast<void>(say(Word::bye, 0));
    }

    static inline Agent* instance = nullptr;

private:
    struct Object {
        LoadedObject object;
        FunctionList* list = nullptr;
        std::vector<std::uint32_t> elements{};  // of the list, for each probe
        std::vector<Probe> probes{};
        detail::ReturnCore* returns = nullptr;

        void write_missed() noexcept {
            if (list == nullptr) return;
            const std::span<const Probe> all =
                returns != nullptr ? detail::probes_of(*returns) : std::span<const Probe>(probes);
            for (std::size_t i = 0; i < all.size(); ++i) list->functions()[elements[i]].missed = all[i].missed();
            if (returns != nullptr) list->untracked = detail::return_counts(*returns).missed;
        }
    };

    explicit Agent(const char* name) : name_(name) {}

    bool connect() noexcept {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        const std::size_t size = std::min(std::strlen(name_), sizeof address.sun_path - 1);
        std::memcpy(address.sun_path + 1, name_, size);
        const int file = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        if (file < 0) return false;
        // The numbers that the program's own files get are what they would be.
        constexpr int out_of_the_way = 1000;
        connection_ = fcntl(file, F_DUPFD_CLOEXEC, out_of_the_way);
        if (connection_ < 0) connection_ = fcntl(file, F_DUPFD_CLOEXEC, 0);
        close(file);
        const auto bytes = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + size);
        return connection_ >= 0 && fstat(connection_, &identity_) == 0 &&
               ::connect(connection_, reinterpret_cast<const sockaddr*>(&address), bytes) == 0;
    }
    // Programs close files that they have not opened, and then open others.
    bool is_connected() const noexcept {
        struct stat now {};
        return fstat(connection_, &now) == 0 && now.st_dev == identity_.st_dev && now.st_ino == identity_.st_ino;
    }
    bool say(Word word, std::uint32_t value, const std::string& path = {}) noexcept {
        Message message{word, value, {}};
        path.copy(message.path, sizeof message.path - 1);
        const std::size_t bytes = offsetof(Message, path) + (path.empty() ? 0 : path.size() + 1);
        return is_connected() && send(connection_, &message, bytes, MSG_NOSIGNAL) == static_cast<ssize_t>(bytes);
    }
    // `file`: what came with it, or -1.
    bool hear(Word expected, std::uint32_t& value, int& file) noexcept {
        Message message{};
        iovec part{&message, offsetof(Message, path)};
        alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int))> control{};
        msghdr got{};
        got.msg_iov = &part;
        got.msg_iovlen = 1;
        got.msg_control = control.data();
        got.msg_controllen = control.size();
        ssize_t bytes = 0;
        while ((bytes = recvmsg(connection_, &got, MSG_CMSG_CLOEXEC)) < 0 && errno == EINTR) {
        }
        file = -1;
        if (const cmsghdr* const first = CMSG_FIRSTHDR(&got); first != nullptr && first->cmsg_type == SCM_RIGHTS)
            std::memcpy(&file, CMSG_DATA(first), sizeof file);
        value = message.value;
        return bytes == static_cast<ssize_t>(part.iov_len) && message.word == expected;
    }
    bool take_recording() noexcept {
        std::uint32_t version = 0;
        int recording = -1;
        if (!say(Word::hello, RecordingHeader::known_version) || !hear(Word::settings, version, recording) || recording < 0 ||
            version != RecordingHeader::known_version)
            return false;
        const bool is_mapped = map_recording(recording);
        close(recording);
        return is_mapped && pthread_key_create(&thread_end, &release_slot) == 0;
    }
    // Everything at once: later the program may have closed our files, and have others of the same number.
    static bool map_recording(int recording) noexcept {
        RecordingHeader first{};
        if (pread(recording, &first, sizeof first, 0) != sizeof first) return false;
        for (const std::size_t count : {slots, shared_slot + 1}) {
            // Far from all code, whose neighbourhood is needed for stubs: programs lie at the ends of the 47 bits of x86-64.
            void* const far = reinterpret_cast<void*>(std::uintptr_t{1} << 45);
            const std::size_t bytes = header_bytes + count * first.slot_bytes();
            void* const memory = mmap(far, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, recording, 0);
            if (memory == MAP_FAILED) continue;
            madvise(memory, bytes, MADV_DONTDUMP);
            header = static_cast<RecordingHeader*>(memory);
            records = static_cast<std::byte*>(memory) + header_bytes;
            usable_slots = count;
            return true;
        }
        return false;
    }

    bool is_known(const LoadedObject& object) const noexcept {
        return std::ranges::any_of(objects_, [&](const Object& each) { return each.object.is(object); });
    }
    void on_change() noexcept {
        const OwnWork own;
        const os::KeepErrno keep;
        const std::lock_guard hold(lock_);
        if (watch_.debug == nullptr || !watch_.is_consistent()) return;
        std::erase_if(objects_, [this](Object& object) {
            if (watch_.is_listed(object.object)) return false;
            object.write_missed();
            if (object.list != nullptr) munmap(object.list, FunctionList::bytes(object.list->count));
            for (Probe& probe : object.probes) probe.detach_nosync();
            if (object.returns != nullptr) ReturnProbes::detach(*object.returns, false);
            return true;
        });
        watch_.for_each([this](const auto& object_of) noexcept {
            try {
                if (LoadedObject object = object_of(); !object.is_program) attach(object, object.base);
            } catch (const std::bad_alloc&) {
                // It runs untraced.
            }
        });
    }

    FunctionList* ask(const LoadedObject& object) {
        std::string path = object.path;
        if (object.is_program) {
            path.assign(PATH_MAX, '\0');
            path.resize(static_cast<std::size_t>(std::max<ssize_t>(0, readlink("/proc/self/exe", path.data(), path.size()))));
        }
        std::uint32_t count = 0;
        int file = -1;
        if (path.empty() || path.front() != '/' || !say(Word::object, 0, path) || !hear(Word::functions, count, file) ||
            file < 0)
            return nullptr;
        void* const memory = mmap(nullptr, FunctionList::bytes(count), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        close(file);
        return memory == MAP_FAILED ? nullptr : static_cast<FunctionList*>(memory);
    }

    // Takes what it can get.
    void attach(const LoadedObject& loaded, Address loading = {}) {
        if (is_known(loaded)) return;
        Object& object = objects_.emplace_back(Object{.object = loaded});
        object.list = ask(loaded);
        if (object.list == nullptr || object.list->count == 0) return;
        if (header->what == What::counts) attach_counting(object, loading);
        if (header->what == What::times) attach_timing(object, loading);
        static_cast<void>(say(Word::attached, 0));
    }
    // `all`: why none was attached, or null.
    static void note(Object& object, const std::vector<Error>& refused, const Error* all) {
        auto next = refused.begin();
        for (std::uint32_t element = 0; element < object.list->count; ++element) {
            ListedFunction& function = object.list->functions()[element];
            const bool is_refused = next != refused.end() && next->element == element;
            if (is_refused || all != nullptr) {
                function.refused = static_cast<std::uint32_t>(is_refused ? (next++)->code : all->code);
                function.is_refused = 1;
            } else {
                function.is_attached = 1;
                object.elements.push_back(element);
            }
        }
        __atomic_store_n(&object.list->done, object.list->count, __ATOMIC_RELEASE);
    }
    Address at(const Object& object, const ListedFunction& function) const noexcept {
        return object.object.base + static_cast<std::ptrdiff_t>(function.at);
    }
    AllowBreakpoint breakpoints() const noexcept {
        return header->with_breakpoints != 0 ? AllowBreakpoint::if_needed : AllowBreakpoint::never;
    }
    void attach_counting(Object& object, Address loading) {
        std::vector<ProbeRequest> requests;
        for (std::uint32_t i = 0; i < object.list->count; ++i) {
            const ListedFunction& function = object.list->functions()[i];
            requests.push_back({at(object, function),
                                {.on_hit = &on_hit,
                                 .data = reinterpret_cast<void*>(std::uintptr_t{function.number}),
                                 .needs = Needs::registers,
                                 .breakpoint = breakpoints()}});
        }
        Probes::Tolerance tolerance{.loading = loading};
        auto probes = Probes::instance().attach(requests, &tolerance);
        note(object, tolerance.refused, probes ? nullptr : &probes.error());
        if (!probes) return;
        for (Probe& probe : *probes) object.probes.push_back(std::move(probe));
    }
    void attach_timing(Object& object, Address loading) {
        std::vector<ProbeTarget> targets;
        for (std::uint32_t i = 0; i < object.list->count; ++i) {
            const ListedFunction& function = object.list->functions()[i];
            put_number(at(object, function).value, function.number);
            targets.emplace_back(at(object, function));
        }
        detail::ReturnPlan plan{.on_entry = reinterpret_cast<detail::ReturnPlan::Handler>(&on_entry),
                                .on_return = reinterpret_cast<detail::ReturnPlan::Handler>(&on_return),
                                .on_unwind = reinterpret_cast<detail::ReturnPlan::Handler>(&on_unwind),
                                .max_active = header->most_active,
                                .data_bytes = sizeof(Call),
                                .data_alignment = alignof(Call),
                                .context = nullptr,
                                .construct = [](const void*, void* data) { new (data) Call; },
                                .destroy = nullptr,
                                .needs = Needs::registers,
                                .priority = 0,
                                .is_enabled = true,
                                .breakpoint = breakpoints()};
        Probes::Tolerance tolerance{.loading = loading};
        auto returns = ReturnProbes::instance().attach(targets, plan, &tolerance);
        note(object, tolerance.refused, returns ? nullptr : &returns.error());
        if (returns) object.returns = *returns;
    }

    const char* name_;
    int connection_ = -1;
    struct stat identity_ {};  // of the connection
    std::mutex lock_;          // not held while anybody asks the dynamic linker; its own lock may be held by who takes it
    ObjectWatch watch_;
    std::deque<Object> objects_;
};

[[gnu::constructor]] void start() noexcept try {
    Agent::instance = Agent::start();
    if (Agent::instance == nullptr) return;
    pthread_atfork(nullptr, nullptr, [] { Agent::instance->connect_child(); });
    Agent::instance->attach_to_what_is_loaded();
} catch (const std::exception&) {
    // It runs untraced.
}

[[gnu::destructor]] void stop() noexcept {
    if (Agent::instance != nullptr) Agent::instance->end();
}

}  // namespace
}  // namespace dynfunc::trace
