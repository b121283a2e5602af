// SPDX-License-Identifier: MIT
// Preloaded by `dynfunc trace`: before main(), and whenever an object is loaded, asks which of its functions are wanted, puts
// probes on them, whose handlers count (recorder.hpp). It prints nothing, and where anything fails the
// program runs on untraced.
#include <dynfunc/return_probe.hpp>

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstdlib>
#include <deque>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

#include "callers.hpp"
#include "connection.hpp"
#include "function_numbers.hpp"
#include "object_watch.hpp"
#include "os.hpp"
#include "probes.hpp"
#include "recorder.hpp"
#include "return_probes.hpp"

namespace dynfunc::trace {
namespace {

using OwnWork = Recorder::OwnWork;

class Agent {
public:
    static Agent* start() {
        const char* const name = std::getenv(socket_variable);
        if (name == nullptr) return nullptr;
        static Agent& agent = *new Agent(name);  // for ever: threads run on while the process ends
        if (!agent.connection_.open()) return nullptr;
        const int recording = agent.connection_.ask_for_recording();
        const bool is_open = recording >= 0 && Recorder::open(recording);
        close(recording);
        return is_open ? &agent : nullptr;
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
        for (Object& object : objects_) object.end_ours();
    }
    // In the only thread of a forked child.
    void connect_child() {
        const OwnWork own;
        connection_.close();
        new (&lock_) std::mutex;
        Recorder::in_child();
        if (connection_.open()) connection_.say_hello();
    }
    // What only the library has counted. No system call, as the program may have forbidden them.
    void end() {
        const OwnWork own;
        const std::lock_guard hold(lock_);
        for (Object& object : objects_) object.write_missed();
    }

    static inline Agent* instance = nullptr;

private:
    struct Object {
        LoadedObject object;
        FunctionList* list = nullptr;
        std::vector<std::uint32_t> elements{};  // of the list, for each probe
        std::vector<Probe> probes{};
        detail::ReturnCore* returns = nullptr;
        std::vector<std::uint64_t> missed_of_ours{};  // for each probe, by attaching

        std::span<const Probe> all() const noexcept {
            return returns != nullptr ? detail::probes_of(*returns) : std::span(probes);
        }
        void begin_ours() noexcept {
            for (std::size_t i = 0; i < elements.size(); ++i) missed_of_ours[i] -= all()[i].missed();
        }
        void end_ours() noexcept {
            for (std::size_t i = 0; i < elements.size(); ++i) missed_of_ours[i] += all()[i].missed();
        }
        void write_missed() noexcept {
            if (list == nullptr) return;
            for (std::size_t i = 0; i < elements.size(); ++i)
                list->functions()[elements[i]].missed = all()[i].missed() - missed_of_ours[i];
            if (returns != nullptr) list->untracked = __atomic_load_n(&returns->missed, __ATOMIC_RELAXED);
        }
    };

    explicit Agent(const char* name) noexcept : connection_(name) {}

    bool is_known(const LoadedObject& object) const noexcept {
        return std::ranges::any_of(objects_, [&](const Object& each) { return each.object.is(object); });
    }
    void on_change() noexcept {
        const OwnWork own;
        const os::KeepErrno keep;
        const std::lock_guard hold(lock_);
        if (watch_.debug == nullptr || !watch_.is_consistent()) return;
        Callers::forget();
        std::erase_if(objects_, [this](Object& object) {
            if (watch_.is_listed(object.object)) return false;
            object.write_missed();
            if (object.list != nullptr) munmap(object.list, FunctionList::bytes(object.list->count));
            for (Probe& probe : object.probes) probe.detach_nosync();
            if (object.returns != nullptr) ReturnProbes::detach(*object.returns, false);
            return true;
        });
        for (Object& object : objects_) object.begin_ours();
        watch_.for_each([this](const auto& object_of) noexcept {
            try {
                if (LoadedObject object = object_of(); !object.is_program) attach(object, object.base);
            } catch (const std::bad_alloc&) {
                // It runs untraced.
            }
        });
        for (Object& object : objects_) object.end_ours();
    }

    FunctionList* ask(const LoadedObject& object) {
        std::string path = object.path;
        if (object.is_program) {
            path.assign(PATH_MAX, '\0');
            path.resize(static_cast<std::size_t>(std::max<ssize_t>(0, readlink("/proc/self/exe", path.data(), path.size()))));
        }
        return path.empty() || path.front() != '/' ? nullptr : connection_.ask_for_functions(path);
    }

    // Takes what it can get.
    void attach(const LoadedObject& loaded, Address loading = {}) {
        if (is_known(loaded)) return;
        Object& object = objects_.emplace_back(Object{.object = loaded});
        object.list = ask(loaded);
        if (object.list == nullptr || object.list->count == 0) return;
        if (Recorder::header().with_times != 0)
            attach_timing(object, loading);
        else
            attach_counting(object, loading);
        connection_.say_attached();
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
        object.missed_of_ours.resize(object.elements.size());
        __atomic_store_n(&object.list->done, object.list->count, __ATOMIC_RELEASE);
    }
    Address at(const Object& object, const ListedFunction& function) const noexcept {
        return object.object.base + static_cast<std::ptrdiff_t>(function.at);
    }
    AllowBreakpoint breakpoints() const noexcept {
        return Recorder::header().with_breakpoints != 0 ? AllowBreakpoint::if_needed : AllowBreakpoint::never;
    }
    void attach_counting(Object& object, Address loading) {
        std::vector<ProbeRequest> requests;
        for (std::uint32_t i = 0; i < object.list->count; ++i) {
            const ListedFunction& function = object.list->functions()[i];
            requests.push_back({at(object, function),
                                {.on_hit = Recorder::counting(),
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
            FunctionNumbers::set(at(object, function).value, function.number);
            targets.emplace_back(at(object, function));
        }
        detail::ReturnPlan plan{};
        plan.max_active = Recorder::header().most_active;
        plan.needs = Needs::registers;
        plan.is_enabled = true;
        plan.breakpoint = breakpoints();
        Recorder::set_timing(plan);
        Probes::Tolerance tolerance{.loading = loading};
        auto returns = ReturnProbes::instance().attach(targets, plan, &tolerance);
        note(object, tolerance.refused, returns ? nullptr : &returns.error());
        if (returns) object.returns = *returns;
    }

    Connection connection_;
    std::mutex lock_;  // not held while anybody asks the dynamic linker; its own lock may be held by who takes it
    ObjectWatch watch_;
    std::deque<Object> objects_;
};

[[gnu::constructor]] void start() noexcept try {
    Agent::instance = Agent::start();
    if (Agent::instance == nullptr) return;
    pthread_atfork(&Recorder::before_fork, nullptr, [] { Agent::instance->connect_child(); });
    Agent::instance->attach_to_what_is_loaded();
} catch (const std::exception&) {
    // It runs untraced.
}

[[gnu::destructor]] void stop() noexcept {
    if (Agent::instance != nullptr) Agent::instance->end();
}

}  // namespace
}  // namespace dynfunc::trace
