# SPDX-License-Identifier: MIT
"""The command dynfunc: what it prints, where, and its exit status.

    tool_test.py COMMAND FILE       FILE: a program with symbols
"""
import json
import os
import re
import subprocess
import sys
import unittest

COMMAND, FILE = sys.argv[1:3]
del sys.argv[1:3]
CLASSES = ['whole', 'guarded', 'punned', 'breakpoint', 'refused']


def run(*words, stdout=subprocess.PIPE):
    return subprocess.run([COMMAND, *words], stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=100)


class ToolTest(unittest.TestCase):
    def check(self, *words):
        done = run('check', *words)
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        return done.stdout

    def test_table_and_json_agree(self):
        table, found = self.check(FILE), json.loads(self.check('--json', FILE))
        self.assertTrue(table.startswith(f'{FILE}: {found["functions"]} functions\n'), table)
        rows = re.findall(r'^  [abcd-] (\w+) +(\d+) +([0-9.]+) %   ', table, re.M)
        self.assertEqual([row[0] for row in rows], CLASSES)
        for name, count, percent in rows:
            self.assertEqual(int(count), found['classes'][name]['functions'])
            self.assertAlmostEqual(float(percent), found['classes'][name]['percent'], delta=0.006)
        self.assertEqual(sum(int(row[1]) for row in rows), found['functions'])
        self.assertEqual(len(found['verdicts']), found['functions'])
        self.assertIn('main', [verdict['name'] for verdict in found['verdicts']])

    def test_lists_what_takes_no_jump_and_why(self):
        found = [verdict for verdict in json.loads(self.check('--json', FILE))['verdicts']
                 if verdict['site'] in ('breakpoint', 'refused')]
        self.assertTrue(found)  # start-up code has no unwind information
        lines = re.findall(r'^  [d-] +(0x[0-9a-f]+) +\d+  (.*)$', self.check(FILE), re.M)
        self.assertEqual(len(lines), len(found))
        said = dict(lines)
        for verdict in found:
            self.assertIn(verdict['why_not_better']['reason'], said[verdict['begin']])
            self.assertIn(verdict['name'], said[verdict['begin']])

    def test_all_lists_every_function(self):
        found = json.loads(self.check('--json', FILE))
        lines = re.findall(r'^  [abcd-] +(0x[0-9a-f]+) +\d+  .', self.check('--all', FILE), re.M)
        self.assertEqual(lines, [verdict['begin'] for verdict in found['verdicts']])

    def test_what_cannot_be_checked_is_said_on_stderr(self):
        for file, why in ((FILE + '.no', 'No such file'), (os.path.dirname(FILE), 'Is a directory'), (__file__, 'no ELF'),
                          ('/dev/null', 'no ELF')):
            for form in ([], ['--json'], ['--all']):
                with self.subTest(file=file, form=form):
                    done = run('check', *form, file)
                    self.assertEqual((done.returncode, done.stdout), (1, ''))
                    self.assertRegex(done.stderr, rf'^dynfunc: {re.escape(file)}: .*{why}.*\n$')

    def test_output_that_cannot_be_written_is_an_error(self):
        with open('/dev/full', 'w', encoding='ascii') as full:
            done = run('check', '--json', FILE, stdout=full)
        self.assertEqual(done.returncode, 1)
        self.assertIn('No space left', done.stderr)

    def test_wrong_usage(self):
        for words in ([], ['check'], ['chekc', FILE], ['check', FILE, FILE], ['check', '--jsn', FILE], ['--json']):
            with self.subTest(words=words):
                done = run(*words)
                self.assertEqual((done.returncode, done.stdout), (2, ''))
                self.assertIn('--help', done.stderr)

    def test_help_teaches_by_example(self):
        for words in (['--help'], ['check', '--help']):
            with self.subTest(words=words):
                done = run(*words)
                self.assertEqual((done.returncode, done.stderr), (0, ''))
                self.assertIn('dynfunc check --json', done.stdout)
        for name in CLASSES:
            self.assertIn(name, done.stdout)


unittest.main()
