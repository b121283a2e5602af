# SPDX-License-Identifier: MIT
"""Runs the tests of a build for arm64 on an arm64 kernel, in qemu-system-aarch64: one boot for all of them.

    arm64_kernel.py --kernel VMLINUZ --busybox BUSYBOX [--only REGEX] [--log FILE] BUILD

The kernel and a static busybox are Debian's for arm64, unpacked. The guest is a throw-away initramfs: the programs, at the paths
that they have here, and the libraries that they need. Its results are printed as Meson prints its own. Exit status: 0 if no test
failed.

One thread of the host runs all processors of the guest. With several, qemu 7.2 runs stale code by itself: it drops what it has
translated of a page before the page is written, and another processor translates the old bytes once more. What it cannot show
with one either: caches that need maintenance, weak memory order, two threads at the same instant.
"""
import argparse
import collections
import json
import os
import queue
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

LIBRARIES = ['/lib/aarch64-linux-gnu', '/usr/lib/aarch64-linux-gnu', '/usr/aarch64-linux-gnu/lib']
IN_GUEST = '/lib/aarch64-linux-gnu'  # where Debian's loader looks without being told
LOADED_LATER = ['libgcc_s.so.1', 'libz.so.1']  # which no program names: glibc, when a thread ends; tests of dlopen()
BOOT_SECONDS = 180
SAME_ANYWHERE = '^arch / (encode|relocate)'
INIT = '''#!/bin/busybox sh
/bin/busybox --install -s /bin
mkdir -p /proc /sys /dev /tmp
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/shm
mount -t tmpfs shm /dev/shm
export PATH=/bin HOME=/tmp TMPDIR=/tmp DYNFUNC_TEST_EMULATOR=system
ulimit -c 0
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


def is_of_arm64(path):
    with open(path, 'rb') as file:
        head = file.read(20)
    return head[:4] == b'\x7fELF' and head[18] == 183


class Guest:
    """The files of the guest, below a folder."""

    def __init__(self, folder):
        self.folder = folder

    def put(self, path, source):
        """Whether it was not there yet."""
        at = self.folder + path
        if os.path.exists(at):
            return False
        os.makedirs(os.path.dirname(at), exist_ok=True)
        shutil.copyfile(source, at)
        os.chmod(at, 0o755)
        return True

    def put_file(self, path):
        self.put(path, path)

    def write(self, path, text):
        with open(self.folder + path, 'w', encoding='utf-8') as file:
            file.write(text)
        os.chmod(self.folder + path, 0o755)

    def put_program(self, path, at=None):
        """With the libraries that it needs: those of the build at their paths, the others where the loader looks."""
        if not self.put(at or path, path):
            return
        said = subprocess.run(['readelf', '-dlW', path], stdout=subprocess.PIPE, text=True, check=True).stdout
        own = [place.replace('$ORIGIN', os.path.dirname(path)) for found in re.findall(r'R(?:UN)?PATH.*\[(.*)\]', said)
               for place in found.split(':')]
        for name in re.findall(r'NEEDED.*\[(.*)\]', said):
            for folder in own:
                if os.path.exists(os.path.join(folder, name)):
                    self.put_program(os.path.normpath(os.path.join(folder, name)))
                    break
            else:
                self.put_library(name)
        for loader in re.findall(r'interpreter: (.*)\]', said):
            self.put(loader, library(os.path.basename(loader)))

    def put_library(self, name):
        self.put_program(library(name), f'{IN_GUEST}/{name}')


def library(name):
    for folder in LIBRARIES:
        if os.path.exists(f'{folder}/{name}'):
            return f'{folder}/{name}'
    sys.exit(f'arm64_kernel.py: there is no {name} for arm64')


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
        if not is_of_arm64(test['cmd'][0]):
            others.append(f'{test["name"]}: it is no program for arm64')
        elif re.search(SAME_ANYWHERE, test['name']):
            others.append(f'{test["name"]}: it asks nothing of a kernel, qemu-user and the host run it')
        else:
            chosen.append(test)
    return chosen, others


def image_of(folder, arguments, tests):
    guest = Guest(os.path.join(folder, 'root'))
    guest.put('/bin/busybox', arguments.busybox)
    for test in tests:
        for word in test['cmd']:
            if os.path.isabs(word) and os.path.isfile(word):
                (guest.put_program if is_of_arm64(word) else guest.put_file)(word)
        os.makedirs(guest.folder + test['workdir'], exist_ok=True)
    for at, _, names in os.walk(os.path.abspath(arguments.build)):  # and what programs load by themselves
        for path in [os.path.join(at, name) for name in names if name.endswith('.so')]:
            if is_of_arm64(path):
                guest.put_program(path)
    for name in LOADED_LATER:
        guest.put_library(name)
    guest.write('/init', INIT)
    guest.write('/tests.sh', ''.join(
        ONE.format(number=number, folder=shlex.quote(test['workdir']), seconds=test['timeout'] * arguments.slower,
                   environment=' '.join(shlex.quote(f'{name}={value}') for name, value in test['env'].items()),
                   command=' '.join(map(shlex.quote, test['cmd'])))
        for number, test in enumerate(tests)))
    image = os.path.join(folder, 'image')
    names = subprocess.run(['find', '.'], cwd=guest.folder, stdout=subprocess.PIPE, check=True).stdout
    with open(image, 'wb') as file:
        subprocess.run(['cpio', '-o', '-H', 'newc', '-R', '0:0', '--quiet'], cwd=guest.folder, input=names, stdout=file, check=True)
    shutil.rmtree(guest.folder)
    return image


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
    words = ['qemu-system-aarch64', '-M', 'virt,gic-version=3', '-cpu', arguments.cpu, '-accel', 'tcg,thread=single', '-smp', '2',
             '-m', '3G', '-nodefaults', '-no-reboot', '-display', 'none', '-serial', 'stdio', '-kernel', arguments.kernel, '-initrd',
             image, '-append', 'console=ttyAMA0 panic=-1 rdinit=/init quiet loglevel=1']
    lines = queue.SimpleQueue()

    def read(pipe):
        for line in pipe:
            lines.put(line.decode(errors='replace').replace('\r', '').rstrip('\n'))
        lines.put(None)

    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as qemu, \
            open(arguments.log, 'w', encoding='utf-8') as log:
        threading.Thread(target=read, args=[qemu.stdout], daemon=True).start()
        test, output, began, limit = None, [], time.monotonic(), BOOT_SECONDS
        try:
            while True:
                line = lines.get(timeout=max(0, began + limit - time.monotonic()))
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
        finally:
            qemu.kill()
        if results.reached < len(tests):  # the kernel, or qemu, has ended, and said why
            print(f'the guest has ended in {test["name"] if test else "no test"}:')
            for line in output[-60:]:
                print('      ' + line)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--kernel', required=True)
    parser.add_argument('--busybox', required=True)
    parser.add_argument('--cpu', default='max,pauth-impdef=on', help='as qemu names them; its own pointer authentication takes long')
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
