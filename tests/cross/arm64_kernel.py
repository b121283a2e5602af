# SPDX-License-Identifier: MIT
"""Runs the tests of a build for arm64 on an arm64 kernel, in qemu-system-aarch64: one boot for all of them.

    arm64_kernel.py --packages FOLDER [--only REGEX] [--log FILE] BUILD

The packages are Debian's for arm64, unpacked into a folder: a kernel, a static busybox, Python, programs that tests look at; what
else is in the guest: guest.py. Its results are printed as Meson prints its own. Exit status: 0 if no test failed.

What one thread of the host cannot show: caches that need maintenance, weak memory order, two threads at the same instant.
"""
import argparse
import collections
import glob
import json
import os
import queue
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time

import guest

LOADED_LATER = ['libgcc_s.so.1', 'libz.so.1']  # which no program names: glibc, when a thread ends; tests of dlopen()
BOOT_SECONDS = 180
PYTHON = '/usr/bin/python3'  # in the guest
LOOKED_AT = ['/usr/bin/sqlite3']
ARM64 = guest.MACHINES['arm64']
SAME_ANYWHERE = '^arch / (encode|relocate|references)'
MADE_APART = '^call_sites /'  # by ./run test-arm64 call-sites
TOO_LONG = '^examples / crc_dispatch'  # switches thousands of times, and each update waits for both processors to have had a turn
INIT = guest.SETUP + '''
export DYNFUNC_TEST_EMULATOR=system
. /tests.sh
echo "@@all"
poweroff -f
'''
ONE = '''
echo "@@begin {number}"
cd {folder}
env {environment} timeout -s KILL {seconds} {command} > /output 2>&1 < /dev/null
status=$?
tail -n 3000 /output
echo "@@end $status"
rm -f /output
'''


def files_of(word):
    """The file of this name; of a folder the programs, and what the disassembler shows of them, that tests have made there."""
    if os.path.isfile(word):
        return [word]
    inside = [os.path.join(at, name) for at, _, names in os.walk(word) for name in names]
    return [path for path in inside if path.endswith('.objdump') or os.path.isfile(path + '.objdump')]


def tests_of(build, only):
    """Those that run there, and why the others do not."""
    said = subprocess.run(['meson', 'introspect', '--tests', build], stdout=subprocess.PIPE, text=True, check=True).stdout
    chosen, others = [], []
    for test in json.loads(said):
        # Where Meson runs it. To arguments that are programs it gives paths from there.
        test['workdir'] = test['workdir'] or os.path.abspath(build)
        test['cmd'] = [os.path.normpath(os.path.join(test['workdir'], word))
                       if os.path.isfile(os.path.join(test['workdir'], word)) else word for word in test['cmd']]
        test['name'] = f'{test["suite"][0]} / {test["name"]}'.replace('dynfunc:', '')
        if only and not re.search(only, test['name']):
            continue
        programs = [file for word in test['cmd'] for file in files_of(word) if guest.is_elf(file)]
        first = test['cmd'][0]
        starts_programs = os.path.basename(first).startswith('python') and any(map(ARM64.owns, programs))
        if starts_programs:
            test['cmd'][0] = PYTHON
            programs = [file for file in programs if file not in files_of(first)]
        if re.search(MADE_APART, test['name']) and not only:
            others.append(f'{test["name"]}: minutes; ./run test-arm64 call-sites makes its programs and runs them')
        elif not programs or not (starts_programs or ARM64.owns(test['cmd'][0])):
            others.append(f'{test["name"]}: it is no program for arm64')
        elif foreign := [word for word in programs if not ARM64.owns(word)]:
            others.append(f'{test["name"]}: it needs a program of this machine, {foreign[0]}')
        elif re.search(SAME_ANYWHERE, test['name']):
            others.append(f'{test["name"]}: it asks nothing of a machine, the host runs it')
        elif re.search(TOO_LONG, test['name']):
            others.append(f'{test["name"]}: minutes, because of the emulator\'s turns: 5 ms for each update')
        else:
            chosen.append(test)
    return chosen, others


def image_of(folder, arguments, tests):
    files = guest.Files(ARM64, os.path.join(folder, 'root'), arguments.packages)
    if any(test['cmd'][0] == PYTHON for test in tests):
        files.put_program(files.packages + '/usr/bin/python3.11', PYTHON)
        files.put_folder('/usr/lib/python3.11')
        for program in LOOKED_AT:
            files.put_program(files.packages + program, program)
    for test in tests:
        for place in [word for word in test['cmd'] if word.endswith('.py')] + test['env'].get('PYTHONPATH', '').split(':'):
            for name in glob.glob((os.path.dirname(place) if place.endswith('.py') else place) + '/*.py') if place else []:
                files.put_file(name)
        for file in [file for word in test['cmd'] if os.path.isabs(word) for file in files_of(word)]:
            (files.put_program if ARM64.owns(file) else files.put_file)(file)
        os.makedirs(files.folder + test['workdir'], exist_ok=True)
    for at, _, names in os.walk(os.path.abspath(arguments.build)):  # and what programs load by themselves
        for path in [os.path.join(at, name) for name in names if name.endswith('.so') or name == 'deny']:
            if ARM64.owns(path):
                files.put_program(path)
    for name in LOADED_LATER:
        files.put_library(name)
    files.write('/init', INIT)
    files.write('/tests.sh', ''.join(
        ONE.format(number=number, folder=shlex.quote(test['workdir']), seconds=test['timeout'] * arguments.slower,
                   environment=' '.join(shlex.quote(f'{name}={value}') for name, value in test['env'].items()),
                   command=' '.join(map(shlex.quote, test['cmd'])))
        for number, test in enumerate(tests)))
    return files.pack(os.path.join(folder, 'image'))


class Results:
    def __init__(self, tests, slower):
        self.tests = tests
        self.slower = slower
        self.counts = collections.Counter()
        self.skipped = collections.Counter()
        self.reached = 0

    def add(self, test, status, seconds, output):
        self.reached += 1
        verdict = {0: 'OK', 77: 'SKIP', 137: 'TIMEOUT' if seconds >= test['timeout'] * self.slower else 'FAIL'}.get(status, 'FAIL')
        self.counts[verdict] += 1
        more = f'killed by signal {status - 128}' if status > 128 else f'exit status {status}' if verdict == 'FAIL' else ''
        print(f'{self.reached:4}/{len(self.tests)} {test["name"]:70} {verdict:8}{seconds:8.2f}s   {more}', flush=True)
        if verdict != 'OK':
            for line in output[-200:]:
                print('      ' + line, flush=True)
        # A reason stands in the lines between the place where a test was left and its verdict.
        reason = None
        for line in output:
            if line.endswith(': Skipped'):
                reason = ''
            elif line.startswith('[  SKIPPED ]'):
                if reason is not None:
                    self.skipped[reason] += 1
                reason = None
            elif reason is not None:
                reason = (reason + ' ' + line).strip()

    def say(self, others):
        for reason, cases in self.skipped.most_common():
            print(f'{cases:6} skipped: {reason or "no reason was given"}')
        for name in others:
            print(f'       not run: {name}')
        for test in self.tests[self.reached:]:
            print(f'       not reached: {test["name"]}')
        for verdict, name in (('OK', 'Ok'), ('FAIL', 'Fail'), ('SKIP', 'Skipped'), ('TIMEOUT', 'Timeout')):
            print(f'{name + ":":20}{self.counts[verdict]}')


def run(arguments, tests, image, results):
    words = ['-smp', '2', '-m', '3G']
    if arguments.cpu:
        words += ['-cpu', arguments.cpu]
    with guest.Guest(ARM64, arguments.packages + '/vmlinuz', image, words) as running, open(arguments.log, 'w', encoding='utf-8') as log:
        test, output, began, limit = None, [], time.monotonic(), BOOT_SECONDS
        try:
            while True:
                line = running.line(began + limit)
                if line is None or line == '@@all':
                    break
                print(line, file=log, flush=True)
                if found := re.match(r'@@begin (\d+)', line):
                    test, output, began = tests[int(found[1])], [], time.monotonic()
                    limit = test['timeout'] * arguments.slower + BOOT_SECONDS
                elif (found := re.search(r'@@end (\d+)$', line)) and test is not None:
                    results.add(test, int(found[1]), time.monotonic() - began, output)
                    test, output, began, limit = None, [], time.monotonic(), BOOT_SECONDS
                else:
                    output.append(line)
        except queue.Empty:
            print(f'the guest has said nothing for {limit} seconds', flush=True)
        if results.reached < len(tests):  # the kernel, or qemu, has ended, and said why
            print(f'the guest has ended in {test["name"] if test else "no test"}:')
            for line in output[-60:]:
                print('      ' + line)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--packages', required=True)
    parser.add_argument('--cpu', help='another than the one of guest.py, as qemu names them')
    parser.add_argument('--log', default=os.devnull, help='all that the guest prints')
    parser.add_argument('--only', help='tests whose name matches')
    parser.add_argument('--slower', type=int, default=10, help='than the machine that the time limits of the tests are for')
    parser.add_argument('build')
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # not without an end of qemu
    tests, others = tests_of(arguments.build, arguments.only)
    results = Results(tests, arguments.slower)
    with tempfile.TemporaryDirectory() as folder:
        run(arguments, tests, image_of(folder, arguments, tests), results)
    results.say(others)
    return 0 if tests and results.reached == len(tests) == results.counts['OK'] + results.counts['SKIP'] else 1


if __name__ == '__main__':
    sys.exit(main())
