# SPDX-License-Identifier: MIT
"""Five tracepoints in two busy threads, switched by lines on standard input."""
import os
import re
import subprocess
import threading
import unittest

import example

SIGNATURES = {
    "cache_evict": "void(unsigned key)",
    "cache_hit": "void(unsigned key)",
    "cache_miss": "void(unsigned key, std::size_t bytes)",
    "request_begin": "void(std::uint64_t id, std::string_view path)",
    "request_end": "void(std::uint64_t id, std::size_t bytes, bool was_cached)",
}
NAMES = sorted(SIGNATURES)
CACHE = [name for name in NAMES if name.startswith("cache_")]
RATE = re.compile(r"(\w+) +(\d+) hits/s")
STATE = re.compile(r"(\w+) +(void\(.*\)) +(on|off)")
EVENTS = {
    "cache_evict": r"cache_evict\(\d+\)",
    "cache_hit": r"cache_hit\(\d+\)",
    "cache_miss": r"cache_miss\(\d+, \d+\)",
    "request_begin": r'request_begin\(\d+, "/(image|page)"\)',
    "request_end": r"request_end\(\d+, \d+, (true|false)\)",
}


class Tracer:
    """The program while it runs. Every wait is for a line of its; one that never comes fails the test by the time-out."""

    def __init__(self, form):
        env = {k: v for k, v in os.environ.items() if k != "DYNFUNC_BACKEND"}
        if form is not None:
            env["DYNFUNC_BACKEND"] = form
        self.process = subprocess.Popen([example.PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, env=env, text=True)
        self.deadline = threading.Timer(60, self.process.kill)
        self.deadline.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.deadline.cancel()
        self.process.kill()
        self.process.communicate()

    def say(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def line(self):
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError("it ended: " + self.process.stderr.read())
        return line.rstrip("\n")

    def other_line(self):
        """The next one that is no report."""
        while RATE.fullmatch(line := self.line()):
            pass
        return line

    def lines_after(self, command, count):
        self.say(command)
        return [self.other_line() for _ in range(count)]

    def states(self):
        found = [STATE.fullmatch(line).groups() for line in self.lines_after("list", len(NAMES))]
        return sorted((name, signature.strip(), state) for name, signature, state in found)

    def reported(self, rounds):
        """The names in the reports, when each of them has come so many times."""
        seen = []
        while not seen or min(map(seen.count, seen)) < rounds:
            rate = RATE.fullmatch(self.line())
            if rate:
                seen.append(rate[1])
        return sorted(set(seen))

    def end(self):
        out, err = self.process.communicate()
        return self.process.returncode, out.splitlines(), err.splitlines()


def states(on):
    return [(name, SIGNATURES[name], "on" if name in on else "off") for name in NAMES]


class TracerTest(unittest.TestCase):
    def test_list_shows_what_is_on(self):
        for form in example.FORMS:
            with self.subTest(form=form), Tracer(form) as tracer:
                self.assertEqual(tracer.states(), states(on=[]))
                self.assertEqual(sorted(tracer.lines_after("on cache_*", 3)), [f"{name} is on" for name in CACHE])
                self.assertEqual(tracer.states(), states(on=CACHE))
                self.assertEqual(tracer.lines_after("off cache_hit", 1), ["cache_hit is off"])
                self.assertEqual(tracer.states(), states(on=["cache_evict", "cache_miss"]))
                self.assertEqual(len(tracer.lines_after("off *", 5)), 5)
                self.assertEqual(tracer.states(), states(on=[]))
                tracer.say("quit")
                self.assertEqual(tracer.end(), (0, [], []))

    def test_reports_what_is_on_and_nothing_else(self):
        for form in example.FORMS:
            with self.subTest(form=form), Tracer(form) as tracer:
                tracer.lines_after("on cache_*", 3)
                self.assertEqual(tracer.reported(rounds=2), CACHE)
                tracer.lines_after("off cache_*", 3)
                tracer.lines_after("on request_end", 1)
                self.assertEqual(tracer.reported(rounds=2), ["request_end"])

    def test_counts_hits(self):
        with Tracer(None) as tracer:
            tracer.lines_after("on *", 5)
            rates = []
            while len(rates) < 10:
                rates.append(RATE.fullmatch(tracer.line()))
            self.assertTrue(any(int(rate[2]) > 0 for rate in rates if rate))

    def test_shows_events_with_their_arguments(self):
        for form in example.FORMS:
            with self.subTest(form=form), Tracer(form) as tracer:
                tracer.lines_after("on cache_*", 3)
                for name, text in EVENTS.items():
                    for line in tracer.lines_after(f"show {name}", 5):
                        self.assertRegex(line, f"^{text}$")
                self.assertEqual(tracer.states(), states(on=CACHE))
                either = "|".join(EVENTS[name] for name in NAMES if name not in CACHE)
                for line in tracer.lines_after("show request_*", 5):
                    self.assertRegex(line, f"^({either})$")

    def test_verbose_lets_the_workers_speak(self):
        for form in example.FORMS:
            with self.subTest(form=form), Tracer(form) as tracer:
                self.assertRegex(tracer.lines_after("verbose", 1)[0], r"^worker [01]: request \d+$")
                tracer.say("verbose")
                tracer.say("nonsense")  # answered when the workers are silent
                self.assertEqual(tracer.process.stderr.readline(), "nonsense: unknown command, try 'help'\n")
                tracer.say("quit")
                for line in tracer.end()[1]:
                    self.assertRegex(line, r"^worker [01]: request \d+$")

    def test_what_is_on_already_stays_on_and_off_off(self):
        done = example.run(stdin="on cache_hit\non cache_hit\noff cache_hit\noff cache_hit\nlist\n")
        self.assertEqual((done.returncode, done.err), (0, []))
        answers = [line for line in done.out if not RATE.fullmatch(line)]
        self.assertEqual(answers[:4], ["cache_hit is on"] * 2 + ["cache_hit is off"] * 2)
        self.assertEqual([line.split()[-1] for line in answers[4:]], ["off"] * 5)

    def test_help_names_every_command(self):
        text = "\n".join(example.run(stdin="help\n").out)
        for word in ("on GLOB", "off GLOB", "show GLOB", "list", "verbose", "help", "quit"):
            self.assertIn(word, text)

    def test_bad_lines_are_answered_and_change_nothing(self):
        cases = {
            "frobnicate": "frobnicate: unknown command, try 'help'",
            "ON cache_hit": "ON: unknown command, try 'help'",
            "cache_hit": "cache_hit: unknown command, try 'help'",
            "on": "on: of which tracepoints? on cache_*",
            "off": "off: of which tracepoints? off cache_*",
            "show": "show: of which tracepoints? show cache_*",
            "on cache": "on: no tracepoint matches 'cache', try 'list'",
            "off nothing*": "off: no tracepoint matches 'nothing*', try 'list'",
            "show [": "show: no tracepoint matches '[', try 'list'",
            "on cache_* cache_hit": "on: unexpected 'cache_hit' at the end of the line",
            "list all": "list: unexpected 'all' at the end of the line",
            "quit now": "quit: unexpected 'now' at the end of the line",
        }
        for line, answer in cases.items():
            with self.subTest(line=line):
                done = example.run(stdin=f"{line}\nlist\n")
                self.assertEqual((done.returncode, done.err), (0, [answer]))
                self.assertEqual([line.split()[-1] for line in done.out], ["off"] * 5)

    def test_ends_at_the_end_of_input_whatever_is_on(self):
        for form in example.FORMS:
            for text in ("", "\n\n \t\n", "on *", "on *\nverbose\n", "on *\nquit\n", "show cache_*"):
                with self.subTest(form=form, text=text):
                    done = example.run(form=form, stdin=text)
                    self.assertEqual((done.returncode, done.err), (0, []))

    def test_odd_input_does_no_harm(self):
        for text in (b"\0\xff\x80\nlist\n", b"on \xff*\nlist\n", b"x" * 1000000 + b"\nlist\n",
                     b"on " + b"*" * 1000 + b"\nlist\r\n"):
            with self.subTest(text=text[:20]):
                done = example.run(stdin=text)
                self.assertEqual(done.returncode, 0)
                self.assertEqual(sum(STATE.fullmatch(line) is not None for line in done.out), 5)


example.main()
