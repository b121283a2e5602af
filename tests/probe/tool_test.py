# SPDX-License-Identifier: MIT
"""The command dynfunc: what it prints, where, and its exit status.

    tool_test.py COMMAND FILE       FILE: a program with symbols
"""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
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

    def test_names_come_from_a_separate_debug_file(self):
        """Of the same build alone; next to the file, or in .debug."""
        if shutil.which('g++') is None:
            self.skipTest('no compiler is here')
        with tempfile.TemporaryDirectory() as folder:
            def path(name):
                return os.path.join(folder, name)

            def make(*words):
                subprocess.run(words, check=True, cwd=folder, stdout=subprocess.DEVNULL)

            def names():
                return {verdict['name'] for verdict in json.loads(self.check('--json', path('program')))['verdicts']}

            def build(name, more):
                with open(path('source.cpp'), 'w', encoding='utf-8') as source:
                    source.write(f'namespace n {{ int own(int x) {{ return x + {more}; }} }}\n'
                                 'int main(int argc, char**) { return n::own(argc); }\n')
                make('g++', '-O0', '-Wl,--build-id', 'source.cpp', '-o', name)
                make('objcopy', '--only-keep-debug', name, name + '.debug')

            build('program', 1)
            make('strip', 'program')
            self.assertNotIn('n::own(int)', names())
            make('objcopy', '--add-gnu-debuglink=program.debug', 'program')
            self.assertIn('n::own(int)', names())
            os.mkdir(path('.debug'))
            os.rename(path('program.debug'), path('.debug/program.debug'))
            self.assertIn('n::own(int)', names())
            build('other', 2)
            os.replace(path('other.debug'), path('.debug/program.debug'))
            self.assertNotIn('n::own(int)', names())

    def test_all_lists_every_function(self):
        found = json.loads(self.check('--json', FILE))
        lines = re.findall(r'^  [abcd-] +(0x[0-9a-f]+) +\d+  .', self.check('--all', FILE), re.M)
        self.assertEqual(lines, [verdict['begin'] for verdict in found['verdicts']])

    def list(self, *words):
        done = run('list', *words)
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        return done.stdout

    def test_list_of_the_program_is_that_of_check(self):
        functions = re.findall(r'^  [abcd-] .*$', self.list(FILE), re.M)
        self.assertEqual(functions, re.findall(r'^  [abcd-] +0x.*$', self.check('--all', FILE), re.M))
        self.assertEqual(len(functions), json.loads(self.check('--json', FILE))['functions'])

    def test_list_takes_functions_that_match(self):
        lines = self.list('-f', 'main', '-f', '_star?', FILE).splitlines()
        self.assertRegex(lines[0], rf'^{re.escape(FILE)}: 2 of \d+ functions$')
        self.assertEqual({re.match(r'  [abcd-] +0x[0-9a-f]+ +\d+  ([^ :]+)', line)[1] for line in lines[1:]}, {'main', '_start'})
        self.assertRegex(self.list('-f', 'no such function', FILE), r'^\S+: 0 of \d+ functions\n$')

    def test_list_takes_objects_that_match(self):
        objects = re.findall(r'^(\S+): \d+ of \d+ functions$', self.list('-m', '*', '-f', '', FILE), re.M)
        self.assertEqual(objects[0], FILE)
        self.assertEqual(len([path for path in objects if os.path.basename(path).startswith('libc.so')]), 1)
        self.assertTrue(any(os.path.basename(path).startswith('ld-') for path in objects))
        for pattern in ('libc.so*', '*/libc.so*'):
            with self.subTest(pattern=pattern):
                found = self.list('-m', pattern, '-f', 'malloc', FILE)
                self.assertRegex(found, r'^/\S+/libc.so.6: 1 of \d+ functions\n  [abc] +0x[0-9a-f]+ +\d+  malloc(: .*)?\n$')
        self.assertEqual(self.list('-m', 'libc', FILE), '')

    def test_list_finds_programs_as_a_shell_does(self):
        path = self.list('python3').partition(':')[0]
        self.assertTrue(os.path.samefile(path, shutil.which('python3')), path)

    def test_what_cannot_be_listed_is_said_on_stderr(self):
        for program, why in (('no-such-program', 'PATH'), (FILE + '.no', 'No such file'), (__file__, 'no ELF|script'), ('/dev/null', 'no ELF')):
            with self.subTest(program=program):
                done = run('list', '-m', '*', program)
                self.assertEqual((done.returncode, done.stdout), (1, ''))
                self.assertRegex(done.stderr, rf'^dynfunc: {re.escape(program)}: .*({why}).*\n$')

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
        for words in ([], ['check'], ['list'], ['list', '-m', FILE], ['chekc', FILE], ['check', FILE, FILE], ['check', '--jsn', FILE], ['--json']):
            with self.subTest(words=words):
                done = run(*words)
                self.assertEqual((done.returncode, done.stdout), (2, ''))
                self.assertIn('--help', done.stderr)

    def test_help_teaches_by_example(self):
        for words in (['--help'], ['list', '--help'], ['check', '--help']):
            with self.subTest(words=words):
                done = run(*words)
                self.assertEqual((done.returncode, done.stderr), (0, ''))
                self.assertIn('dynfunc list -f' if 'list' in words else 'dynfunc check --json', done.stdout)
        for name in CLASSES:
            self.assertIn(name, done.stdout)


unittest.main()
