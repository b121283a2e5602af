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
        # It is shorter than a jump.
        self.assertNotIn('plugin_function', self.trace('load', PLUGIN, options=modules))
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

    def test_help_teaches(self):
        done = run(COMMAND, 'trace', '--help')
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        self.assertRegex(done.stdout, r'(?m)^  dynfunc trace -r ')


if __name__ == '__main__':
    unittest.main(verbosity=2)
