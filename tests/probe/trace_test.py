# SPDX-License-Identifier: MIT
"""dynfunc trace: what it counts, and that the program does what it does without.

    trace_test.py COMMAND PROGRAM PLUGIN STATIC
        PROGRAM: traced.cpp; PLUGIN: an object with plugin_function; STATIC: any program that is linked statically
"""
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import unittest

COMMAND, PROGRAM, PLUGIN, STATIC = map(os.path.abspath, sys.argv[1:5])
del sys.argv[1:5]


def run(*words, **more):
    return subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=100, **more)


class TraceTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def trace(self, *words, options=(), status=0):
        """What was recorded: functions by name."""
        file = os.path.join(self.folder.name, 'out.json')
        done = run(COMMAND, 'trace', *options, '-o', file, '--', PROGRAM, *words)
        self.assertEqual(done.returncode, status, done.stderr)
        with open(file, encoding='utf-8') as text:
            self.result = json.load(text)
        self.table = done.stderr
        return {function['name']: function for function in self.result['functions'] if function['attached']}

    def test_counts_every_call(self):
        found = self.trace('count')
        calls = {name: found[f'traced::{name}']['calls'] for name in
                 ('leaf(int)', 'middle(int)', 'recursive(int)', 'thrower(int)', 'sleeper()')}
        self.assertEqual(calls, {'leaf(int)': 208, 'middle(int)': 100, 'recursive(int)': 11, 'thrower(int)': 7, 'sleeper()': 3})
        self.assertEqual(found['main']['calls'], 1)
        self.assertEqual(found['main']['missed'], 0)
        self.assertRegex(self.table, r'(?m)^ +208  traced::leaf\(int\)  \(traced\)$')

    def test_what_attaching_calls_is_not_said_to_be_the_programs(self):
        for options in ([], ['-r']):
            self.trace('load', PLUGIN, options=['-m', '*', *options])
            # What handlers call is: where a call comes from is looked up once.
            self.assertLess(sum(function['missed'] for function in self.result['functions']), 10_000)

    def test_measures_every_call(self):
        found = self.trace('count', options=['-r'])
        for name, calls in (('leaf(int)', 208), ('recursive(int)', 11), ('thrower(int)', 7), ('sleeper()', 3)):
            one = found[f'traced::{name}']
            self.assertEqual(one['calls'], calls)
            self.assertLessEqual(one['ns']['p50'], one['ns']['max'] + 1)
            self.assertLessEqual(one['ns']['mean'], one['ns']['max'] + 1)
            self.assertAlmostEqual(one['ns']['mean'] * calls, one['ns']['total'], delta=calls)
        # It sleeps at least so long, and whoever calls it is inside as long.
        self.assertGreater(found['traced::sleeper()']['ns']['p50'], 15e6)
        self.assertGreaterEqual(found['main']['ns']['total'], found['traced::sleeper()']['ns']['total'])
        self.assertRegex(self.table, r'(?m)^ +3 +[0-9.]+ ms( +[0-9.]+ [mun]?s ?){4}  traced::sleeper\(\)  \(traced\)$')

    def chains(self, *words, options=()):
        """Calls by chain of callers, from main() on, without the folder of the names."""
        self.trace(*words, options=['--stacks', '-f', 'traced::*', '-f', 'main', *options])
        chains, calls = [], {}
        for node in self.result['tree']:
            above = () if node['parent'] is None else chains[node['parent']]
            chains.append((*above, re.sub(r'^traced::|\(.*', '', self.result['functions'][node['function']]['name'])))
            self.assertLessEqual(node['ns']['self'], node['ns']['total'])
            calls[' '.join(chains[-1])] = node['calls']
        self.assertEqual(self.result['unplaced'], 0)
        return calls

    def test_knows_which_function_called_which(self):
        self.assertEqual(self.chains('count'), {
            'main': 1, 'main count': 1, 'main count middle': 100, 'main count middle leaf': 200, 'main count thrower': 7,
            'main count thrower leaf': 7, 'main count sleeper': 3,
            **{'main count' + i * ' recursive': 1 for i in range(1, 12)}, 'main count' + 11 * ' recursive' + ' leaf': 1})
        self.assertRegex(self.table, r'(?m)^ +3 +[0-9.]+ ms +[0-9.]+ ms  │ │ traced::sleeper\(\)  \(traced\)$')

    def test_the_tree_goes_on_where_longjmp_and_jumps_lead(self):
        self.assertEqual(self.chains('leave'), {
            'main': 1, 'main left': 1, 'main left leaver': 2, 'main left leaver leaver': 2, 'main left leaver leaver leaver': 2,
            'main left middle': 2, 'main left middle leaf': 4, 'main tail': 1, 'main tail leaf': 1})

    def test_children_are_in_the_tree_where_they_were_forked(self):
        self.assertEqual(self.chains('children'), {'main': 1, 'main children': 1, 'main children leaf': 31})

    def test_threads_have_trees_that_are_one_in_the_end(self):
        calls = self.chains('threads')
        self.assertEqual(sum(count for chain, count in calls.items() if chain.endswith('leaf')), 40_000)
        self.assertEqual(calls['main threads'], 1)

    def test_deeper_calls_are_counted_and_said_to_have_no_place(self):
        file = os.path.join(self.folder.name, 'out.json')
        done = run(COMMAND, 'trace', '--stacks', '--max-active', '4000', '-o', file, '--', PROGRAM, 'deep', '2000')
        with open(file, encoding='utf-8') as text:
            result = json.load(text)
        calls = {function['name']: function['calls'] for function in result['functions']}
        self.assertEqual(calls['traced::recursive(int)'], 2001)
        self.assertEqual(sum(node['calls'] for node in result['tree']) + result['unplaced'] + result['untimed'], sum(calls.values()))
        self.assertGreater(result['unplaced'], 900)
        self.assertIn(f'{result["unplaced"]} calls that are too deep', done.stderr)

    def test_writes_folded_stacks(self):
        file = os.path.join(self.folder.name, 'folded')
        done = run(COMMAND, 'trace', '-o', file, '--format', 'folded', '--', PROGRAM, 'count')
        self.assertEqual(done.returncode, 0, done.stderr)
        with open(file, encoding='utf-8') as text:
            lines = [line.rstrip('\n').rsplit(' ', 1) for line in text]
        self_ns = {chain: int(ns) for chain, ns in lines}
        self.assertEqual(len(self_ns), len(lines))
        self.assertGreater(self_ns['main;traced::count();traced::sleeper()'], 3 * 15e6)
        self.assertLess(self_ns['main'], self_ns['main;traced::count();traced::sleeper()'])

    def time_line(self, *words, options=()):
        file = os.path.join(self.folder.name, 'events')
        run(COMMAND, 'trace', '-o', file, '--format', 'chrome', *options, '--', PROGRAM, *words)
        with open(file, encoding='utf-8') as text:
            line = json.load(text)
        names = {event['pid']: event['args']['name'] for event in line['traceEvents'] if event['ph'] == 'M'}
        line['traceEvents'] = [event for event in line['traceEvents'] if event['ph'] != 'M']
        for event in line['traceEvents']:
            self.assertEqual(names[event['pid']], os.path.basename(PROGRAM))
        return line

    def test_writes_every_call_in_the_format_of_chrome(self):
        events = self.time_line('count')['traceEvents']
        names = [event['name'] for event in events]
        self.assertEqual(names.count('traced::leaf(int)'), 208)
        self.assertEqual({(event['ph'], event['pid'], event['tid']) for event in events},
                         {('X', events[0]['pid'], events[0]['pid'])})
        # Each begins behind the one before it, and ends inside of those that are not over (but for what is rounded).
        open_until = []
        for event in events:
            while open_until and open_until[-1] <= event['ts']:
                open_until.pop()
            self.assertTrue(not open_until or event['ts'] + event['dur'] <= open_until[-1] + 0.01, event)
            open_until.append(event['ts'] + event['dur'])
        self.assertEqual([event['ts'] for event in events], sorted(event['ts'] for event in events))

    def test_threads_and_children_have_lines_of_their_own(self):
        events = self.time_line('threads', options=['-f', 'traced::leaf*'])['traceEvents']
        self.assertEqual(len(events), 40_000)
        self.assertEqual((len({event['pid'] for event in events}), len({event['tid'] for event in events})), (1, 4))
        events = self.time_line('children', options=['-f', 'traced::leaf*'])['traceEvents']
        self.assertEqual((len(events), len({event['pid'] for event in events})), (31, 4))

    def test_children_that_the_command_never_sees_have_names(self):
        events = self.time_line('unwatched', options=['-f', 'traced::leaf*'])['traceEvents']
        self.assertEqual((len(events), len({event['pid'] for event in events})), (31, 4))

    def test_a_time_line_has_calls_that_did_not_end_and_the_last_ones(self):
        events = {event['name']: event for event in self.time_line('leave')['traceEvents']}
        self.assertEqual(events['main']['args'], {'ended': False})
        self.assertNotIn('args', events['traced::tail(int)'])
        self.assertGreaterEqual(events['main']['ts'] + events['main']['dur'],
                                events['traced::tail(int)']['ts'] + events['traced::tail(int)']['dur'])
        line = self.time_line('threads', options=['-f', 'traced::leaf*', '--max-events', '100'])
        # Threads that run one after the other may have the same memory.
        self.assertIn(len(line['traceEvents']), [128, 256, 384, 512])
        self.assertEqual(len(line['traceEvents']) + line['otherData']['lost'], 40_000)

    def test_exceptions_pass_where_everything_is_timed(self):
        found = self.trace('count', options=['-r', '-m', '*'])
        self.assertEqual(found['traced::thrower(int)']['calls'], 7)
        self.assertNotIn('_start', found)

    def test_takes_functions_that_match(self):
        found = self.trace('count', options=['-f', 'traced::m*', '-f', 'main'])
        self.assertEqual(sorted(found), ['main', 'traced::middle(int)'])
        self.assertEqual(found['traced::middle(int)']['calls'], 100)

    def test_counts_in_threads(self):
        for options in ([], ['-r']):
            self.assertEqual(self.trace('threads', options=options)['traced::leaf(int)']['calls'], 40_000)

    def test_counts_in_children_and_what_they_execute(self):
        self.assertEqual(self.trace('children')['traced::leaf(int)']['calls'], 31)
        found = self.trace('execute')
        self.assertEqual(found['traced::leaf(int)']['calls'], 209)
        self.assertEqual(found['main']['calls'], 2)

    def test_counts_in_what_is_loaded_later(self):
        modules = ['-m', os.path.basename(PLUGIN)]
        if 'plugin_function' not in self.trace('load', PLUGIN, options=modules):  # where it is shorter than a jump
            self.assertEqual(self.result['refused'].get('there is no room for a jump'), 1)
            self.assertRegex(self.table, r'(?m)^ +1  there is no room for a jump \(--breakpoints\)$')
        for options in ([], ['-r']):
            found = self.trace('load', PLUGIN, options=['--breakpoints', *modules, *options])
            self.assertEqual(found['plugin_function']['calls'], 5)
            self.assertNotIn('main', found)

    def test_what_was_counted_outlives_a_program_that_is_killed(self):
        found = self.trace('kill', '9', status=-9)
        self.assertEqual(found['traced::leaf(int)']['calls'], 1)

    def test_ends_as_the_program_does(self):
        for words in (['exit', '0'], ['exit', '7'], ['kill', str(int(signal.SIGTERM))], ['kill', str(int(signal.SIGABRT))]):
            with self.subTest(words=words):
                self.assertEqual(run(COMMAND, 'trace', '--', PROGRAM, *words).returncode, run(PROGRAM, *words).returncode)

    def test_output_and_input_are_the_programs_own(self):
        bare = run(PROGRAM, 'print', input='one\ntwo\n')
        for options in ([], ['-r', '-m', '*']):
            traced = run(COMMAND, 'trace', *options, '--', PROGRAM, 'print', input='one\ntwo\n')
            self.assertEqual(traced.stdout, bare.stdout)
            self.assertTrue(traced.stderr.startswith(bare.stderr), traced.stderr)
            self.assertEqual(traced.returncode, bare.returncode)

    def test_files_of_the_program_are_left_alone(self):
        file = os.path.join(self.folder.name, 'data')
        for options in (['-m', '*'], ['-m', '*', '-r']):
            self.trace('close', file, PLUGIN, options=options)
            self.assertEqual(os.path.getsize(file), 0)

    def test_a_program_that_forbids_itself_system_calls(self):
        bare = run(PROGRAM, 'sandbox')
        self.assertEqual((bare.returncode, bare.stdout), (4, 'in a sandbox\n'))
        for options in ([], ['-r'], ['--stacks']):
            traced = run(COMMAND, 'trace', '-f', 'traced::middle*', *options, '--', PROGRAM, 'sandbox')
            self.assertEqual((traced.returncode, traced.stdout), (4, 'in a sandbox\n'), traced.stderr)
            self.assertRegex(traced.stderr, r'(?m)^ +11 .* traced::middle\(int\)  \(traced\)$')

    def test_a_script_is_run(self):
        script = os.path.join(self.folder.name, 'script')
        with open(script, 'w', encoding='utf-8') as text:
            text.write(f'#!/bin/sh\nexec {PROGRAM} exit 5\n')
        os.chmod(script, 0o755)
        self.assertEqual(run(COMMAND, 'trace', '-m', '*', '--', script).returncode, 5)

    def test_prints_a_table_when_it_is_told_to(self):
        traced = subprocess.Popen([COMMAND, 'trace', '--', PROGRAM, 'wait'], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, text=True)
        self.assertEqual(traced.stdout.readline(), 'waits\n')
        traced.send_signal(signal.SIGUSR1)
        while 'traced::leaf(int)' not in traced.stderr.readline():
            pass
        traced.stdin.close()
        self.assertEqual(traced.wait(60), 0)
        self.assertIn('traced::leaf(int)', traced.stderr.read())
        traced.stdout.close()
        traced.stderr.close()

    def test_says_what_cannot_be_traced(self):
        set_user_id = os.path.join(self.folder.name, 'set_user_id')
        shutil.copy(PROGRAM, set_user_id)
        os.chmod(set_user_id, stat.S_ISUID | 0o755)
        for program, why in ((STATIC, 'linked statically'), (set_user_id, 'set-user-ID'), ('/nowhere', 'No such file')):
            done = run(COMMAND, 'trace', '--', program)
            self.assertEqual((done.returncode, done.stdout), (1, ''))
            self.assertRegex(done.stderr, rf'^dynfunc: {program}: .*{why}.*\n$')
        self.assertEqual(run(COMMAND, 'trace').returncode, 2)
        for wrong in (['--format', 'folded'], ['-o', '/nowhere', '--format', 'gif'], ['--max-events', '0']):
            done = run(COMMAND, 'trace', *wrong, '--', PROGRAM, 'exit', '0')
            self.assertEqual((done.returncode, done.stdout), (2, ''))
            self.assertIn(wrong[-2], done.stderr)
        done = run(COMMAND, 'trace', '-o', '/nowhere/file', '--', PROGRAM, 'exit', '0')
        self.assertEqual(done.returncode, 1)
        self.assertTrue(done.stderr.endswith('dynfunc: /nowhere/file: No such file or directory\n'))

    def test_help_teaches(self):
        done = run(COMMAND, 'trace', '--help')
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        self.assertRegex(done.stdout, r'(?m)^  dynfunc trace -r ')


if __name__ == '__main__':
    unittest.main(verbosity=2)
