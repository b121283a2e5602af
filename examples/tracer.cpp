// SPDX-License-Identifier: MIT
// A service that is watched while it works: two workers answer requests from a cache, and lines on standard input switch the
// callbacks of its five tracepoints.
//
//     $ (echo 'on cache_*'; sleep 2; echo show request_end) | tracer
//     cache_evict is on
//     cache_evict      185583 hits/s
//     ...
//     request_end(1408013, 496, true)
//
// "help" shows all words; a line that makes no sense is answered on standard error and changes nothing.
//
// Worth copying: an event is one line in the code that it is about, and a nop while nobody listens (Cache::get, serve). A
// callback attached by pattern need not know the types (show). What it refers to may go when detach() has returned, and a
// subscription ends with its owner: at the end of the program there is nothing to tidy up.
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <iostream>
#include <list>
#include <map>
#include <mutex>
#include <random>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include <dynfunc/introspect.hpp>
#include <dynfunc/static_key.hpp>
#include <dynfunc/trace_pattern.hpp>
#include <dynfunc/tracepoint.hpp>

DYNFUNC_TRACEPOINT(request_begin, void(std::uint64_t id, std::string_view path));
DYNFUNC_TRACEPOINT(request_end, void(std::uint64_t id, std::size_t bytes, bool was_cached));
DYNFUNC_TRACEPOINT(cache_hit, void(unsigned key));
DYNFUNC_TRACEPOINT(cache_miss, void(unsigned key, std::size_t bytes));
DYNFUNC_TRACEPOINT(cache_evict, void(unsigned key));

DYNFUNC_STATIC_KEY_FALSE(verbose);

// The page that was not used for the longest time makes room for a new one.
class Cache {
public:
    // How large it is, and whether it was there.
    std::pair<std::size_t, bool> get(unsigned key) {
        const std::lock_guard hold(lock_);  // callbacks run where the event is: with this lock held
        if (const auto found = index_.find(key); found != index_.end()) {
            DYNFUNC_TRACE(cache_hit, key);
            pages_.splice(pages_.begin(), pages_, found->second);
            return {pages_.front().second.size(), true};
        }
        if (pages_.size() == 100) {
            DYNFUNC_TRACE(cache_evict, pages_.back().first);
            index_.erase(pages_.back().first);
            pages_.pop_back();
        }
        pages_.emplace_front(key, std::string(key, '.'));
        index_[key] = pages_.begin();
        DYNFUNC_TRACE(cache_miss, key, pages_.front().second.size());
        return {pages_.front().second.size(), false};
    }

private:
    using Page = std::pair<const unsigned, std::string>;
    std::mutex lock_;
    std::list<Page> pages_;  // the one used last comes first
    std::unordered_map<unsigned, std::list<Page>::iterator> index_;
};

void serve(std::stop_token stop, unsigned worker, Cache& cache) {
    std::minstd_rand random(worker + 1);
    std::geometric_distribution<unsigned> popular(0.01);  // low keys are asked for more often
    for (std::uint64_t id = worker; !stop.stop_requested(); id += 2) {
        DYNFUNC_TRACE(request_begin, id, id % 3 == 0 ? "/image" : "/page");
        const auto [bytes, was_cached] = cache.get(popular(random));
        DYNFUNC_TRACE(request_end, id, bytes, was_cached);
        if (id / 2 % 1000 != 999) continue;
        if (static_branch_unlikely(verbose)) std::printf("worker %u: request %ju\n", worker, std::uintmax_t{id});
        std::this_thread::sleep_for(std::chrono::milliseconds(1));  // leaves some of the machine to others
    }
}

void complain(const std::string& command, const std::string& why) {
    std::fprintf(stderr, "%s: %s\n", command.c_str(), why.c_str());
}

// Complains if there are none.
std::vector<dynfunc::TracepointInfo> matching(const std::string& command, const std::string& glob) {
    auto found = dynfunc::tracepoints(glob);
    if (found.empty()) complain(command, "no tracepoint matches '" + glob + "', try 'list'");
    return found;
}

// The tracepoints that are on. Each has a subscription of its own, so that it can be switched off alone; one subscribe(glob,
// ...) would attach to all that match, and to those of libraries that are loaded later.
class Switchboard {
public:
    void on(const std::string& glob) {
        const std::lock_guard hold(lock_);
        for (const auto& info : matching("on", glob)) {
            if (!on_.contains(info.name)) {
                auto attached = dynfunc::subscribe(info.name, [](const dynfunc::TraceEvent&) {}, {.count_hits = true});
                if (!attached) return complain("on " + info.name, attached.error().message());
                on_.emplace(info.name, Listener{.subscription = std::move(*attached)});
            }
            std::printf("%s is on\n", info.name.c_str());
        }
    }
    void off(const std::string& glob) {
        const std::lock_guard hold(lock_);
        for (const auto& info : matching("off", glob)) {
            on_.erase(info.name);
            std::printf("%s is off\n", info.name.c_str());
        }
    }
    void report_every_second(std::stop_token stop) {
        std::unique_lock hold(lock_);
        while (!ended_.wait_for(hold, stop, std::chrono::seconds(1), [&] { return stop.stop_requested(); })) {
            for (const auto& info : dynfunc::tracepoints()) {
                const auto found = on_.find(info.name);
                if (found == on_.end()) continue;
                const std::uintmax_t new_hits = info.hits - std::exchange(found->second.hits, info.hits);
                std::printf("%-14s%9ju hits/s\n", info.name.c_str(), new_hits);
            }
        }
    }

private:
    struct Listener {
        dynfunc::PatternSubscription subscription;
        std::uint64_t hits = 0;  // at the last report
    };

    std::mutex lock_;  // of on_. No callback takes it, so that it may be held while one is detached
    std::condition_variable_any ended_;
    std::map<std::string, Listener> on_;
};

// The next five events, or what comes within a second.
void show(const std::string& glob) {
    if (matching("show", glob).empty()) return;
    std::atomic<int> seen = 0;  // outlives the callback: detach() waits until no thread is inside it
    auto attached = dynfunc::subscribe(glob, [&seen](const dynfunc::TraceEvent& event) {
        if (seen.load() < 5 && seen.fetch_add(1) < 5) std::puts(event.text().c_str());
    });
    if (!attached) return complain("show", attached.error().message());
    for (int waited = 0; seen.load() < 5 && waited < 1000; ++waited) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    if (auto done = attached->detach(); !done) complain("show", done.error().message());
}

// False: the end.
bool obey(Switchboard& board, const std::string& line) {
    std::istringstream in(line);
    std::string command, glob, rest;
    if (!(in >> command)) return true;
    const bool has_glob = command == "on" || command == "off" || command == "show";
    if (!has_glob && command != "list" && command != "verbose" && command != "help" && command != "quit") {
        complain(command, "unknown command, try 'help'");
    } else if (has_glob && !(in >> glob)) {
        complain(command, "of which tracepoints? " + command + " cache_*");
    } else if (in >> rest) {
        complain(command, "unexpected '" + rest + "' at the end of the line");
    } else if (command == "on") {
        board.on(glob);
    } else if (command == "off") {
        board.off(glob);
    } else if (command == "show") {
        show(glob);
    } else if (command == "list") {
        for (const auto& info : dynfunc::tracepoints())
            std::printf("%-14s%-60s %s\n", info.name.c_str(), info.signature.c_str(), info.callbacks.empty() ? "off" : "on");
    } else if (command == "verbose") {
        auto done = verbose.is_enabled() ? verbose.disable() : verbose.enable();
        if (!done) complain(command, done.error().message());
    } else if (command == "help") {
        std::puts(
            "on GLOB      count the events of all tracepoints whose name matches, such as cache_*\n"
            "off GLOB     no more\n"
            "show GLOB    print the next five events, or what comes within a second\n"
            "verbose      workers tell what they do, or no more\n"
            "list, help, quit");
    }
    return command != "quit" || !rest.empty();
}

int main() {
    std::setvbuf(stdout, nullptr, _IOLBF, BUFSIZ);  // whole lines, from whichever thread
    Cache cache;
    Switchboard board;
    const std::jthread reporter([&](std::stop_token stop) { board.report_every_second(stop); });
    const std::jthread first([&](std::stop_token stop) { serve(stop, 0, cache); });
    const std::jthread second([&](std::stop_token stop) { serve(stop, 1, cache); });
    for (std::string line; std::getline(std::cin, line) && obey(board, line);) continue;
}
