# SPDX-License-Identifier: MIT
"""Builds and runs the program next to this file with every compiler and option that the library promises to work with.

Each build makes three things: the program, a shared library that it is linked with, and a shared object that it loads. The
program checks itself and prints OK. Then the linker's work is checked: in each of the three, sections dynfunc_records and
dynfunc_slots hold as many entries as section dynfunc_text holds trampolines.

    matrix.py --include DIR... --shared-library FILE --static-library FILE [--gcc CMD] [--clang CMD] [--only TEXT] [--keep DIR]

Prints a line per build and, for one that fails, the commands to repeat it. Exit status: 0 all good, 1 something failed, 77
nothing could be built here.
"""
import argparse
import concurrent.futures
import dataclasses
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

SOURCES = pathlib.Path(__file__).resolve().parent / 'program'
RECORD_BYTES = 56      # sizeof(TrampolineRecord)
TRAMPOLINE_BYTES = 16
SLOT_BYTES = 8
LEAST_TRAMPOLINES = {'program': 37, 'liblinked.so': 1, 'plugin.so': 2}

GC = '-ffunction-sections -fdata-sections -Wl,--gc-sections'
NO_PIE = '-fno-pie -no-pie'
CET = '-fcf-protection=full'

# compiler, how the library is linked, options. Every option stands with each compiler that has it, every pair of options that
# the linker sees together (form of the code, optimiser, linker, garbage collection) stands somewhere.
BUILDS = [
    ('gcc', 'shared', '-O0'),
    ('gcc', 'shared', '-O1'),
    ('gcc', 'shared', '-O2'),
    ('gcc', 'shared', '-O3'),
    ('gcc', 'shared', f'-O0 {NO_PIE}'),
    ('gcc', 'shared', f'-O2 {NO_PIE}'),
    ('gcc', 'shared', '-O2 -fPIC -pie'),
    ('gcc', 'shared', '-O1 -fPIC -no-pie'),
    ('gcc', 'shared', '-O0 -fPIE -pie -flto'),
    ('gcc', 'shared', '-O2 -flto'),
    ('gcc', 'shared', f'-O3 -flto {NO_PIE} -fno-plt'),
    ('gcc', 'static', f'-O2 -flto -fvisibility=hidden {GC}'),
    ('gcc', 'shared', f'-O2 {GC}'),
    ('gcc', 'static', f'-O2 -fuse-ld=lld {GC}'),
    ('gcc', 'shared', f'-O0 -fuse-ld=lld {NO_PIE} {GC} -fno-plt'),
    ('gcc', 'shared', f'-O2 {CET}'),
    ('gcc', 'shared', f'-O0 {CET} {NO_PIE}'),
    ('gcc', 'static', f'-O3 {CET} -flto -fPIC -pie'),
    ('gcc', 'shared', '-O2 -fvisibility=hidden'),
    ('gcc', 'shared', '-O2 -fno-plt -fPIE -pie'),
    ('gcc', 'static', f'-O1 {NO_PIE}'),
    ('clang', 'shared', '-O0'),
    ('clang', 'shared', '-O1 -fno-plt'),
    ('clang', 'shared', '-O2'),
    ('clang', 'static', '-O3'),
    ('clang', 'shared', f'-O0 {NO_PIE}'),
    ('clang', 'shared', f'-O2 {NO_PIE}'),
    ('clang', 'shared', '-O2 -fPIC -pie'),
    ('clang', 'shared', '-O2 -fPIC -no-pie -fuse-ld=lld'),
    ('clang', 'shared', '-O2 -flto -fuse-ld=lld'),
    ('clang', 'static', f'-O0 -flto -fuse-ld=lld {NO_PIE}'),
    ('clang', 'shared', '-O2 -flto=thin -fuse-ld=lld'),
    ('clang', 'static', f'-O3 -flto=thin -fuse-ld=lld -fvisibility=hidden {GC}'),
    ('clang', 'shared', f'-O2 -fuse-ld=lld {GC}'),
    ('clang', 'shared', f'-O2 {GC} {NO_PIE}'),
    ('clang', 'shared', f'-O2 {CET} -fvisibility=hidden'),
    ('clang', 'static', f'-O0 {CET} -fuse-ld=lld -flto'),
    ('clang', 'shared', '-O3 -fno-plt -fPIE -pie'),
]

PROGRAM_ONLY = {'-fno-pie', '-no-pie', '-fPIE', '-pie', '-fPIC'}  # a shared object is always made with -fPIC


class Failed(Exception):
    pass


@dataclasses.dataclass
class Build:
    compiler: str
    link: str
    options: str
    number: int

    def name(self):
        return f'{self.compiler} {self.link} {self.options}'


def run(command, log, **more):
    log.append(shlex.join(map(str, command)))
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors='replace', **more)
    except subprocess.TimeoutExpired:
        raise Failed('does not end') from None
    if done.returncode != 0:
        raise Failed(f'exit status {done.returncode}\n{done.stdout}')
    return done.stdout


def read_elf(*arguments):
    return subprocess.run(['readelf', '-W', *map(str, arguments)], check=True, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True).stdout


def count_records(path):
    """(filled entries of dynfunc_records, all entries, slots, trampolines by size, trampolines by symbol) of an ELF file."""
    sections = {}
    pattern = r'^\s*\[ *(\d+)\] (\S+)\s+\S+\s+([0-9a-f]+) ([0-9a-f]+) ([0-9a-f]+)'
    for number, name, *place in re.findall(pattern, read_elf('-S', path), re.M):
        sections[name] = (int(number), *(int(hexadecimal, 16) for hexadecimal in place))
    records = sections.get('dynfunc_records')
    if records is None:
        return 0, 0, 0, 0, 0
    _, address, offset, size = records
    if size % RECORD_BYTES != 0:
        raise Failed(f'{path.name}: dynfunc_records has {size} bytes, no multiple of {RECORD_BYTES}')
    data = path.read_bytes()[offset:offset + size]
    filled = set()
    for first in range(0, size, 8):
        if any(data[first:first + 8]):
            filled.add(first)
    for place in re.findall(r'^([0-9a-f]{8,})\s+[0-9a-f]+\s+R_', read_elf('-r', path), re.M):
        if address <= int(place, 16) < address + size:
            filled.add(int(place, 16) - address)
    full = 0
    for first in range(0, size, RECORD_BYTES):
        words = [first + 8 * word in filled for word in range(3)]
        if any(words) and not all(words):
            raise Failed(f'{path.name}: record {first // RECORD_BYTES} has filled words {words}')
        full += all(words)
    text_number, _, _, text_size = sections.get('dynfunc_text', (-1, 0, 0, 0))
    symbols = {symbol for at, index, symbol in re.findall(r'^\s*\d+: ([0-9a-f]+)\s+\d+ FUNC\s+\S+\s+\S+\s+(\S+) (\S+)',
                                                          read_elf('-s', path), re.M) if index == str(text_number)}
    _, _, _, slots_size = sections.get('dynfunc_slots', (-1, 0, 0, 0))
    return full, size // RECORD_BYTES, slots_size / SLOT_BYTES, text_size / TRAMPOLINE_BYTES, len(symbols)


def check_records(path, generic):
    full, entries, slots, by_size, by_symbol = count_records(path)
    least = 0 if generic else LEAST_TRAMPOLINES[path.name]
    # One empty record comes with each registrar. There is one; a link-time optimiser may add its own to that of native code.
    if not 1 <= entries - full <= 2:
        raise Failed(f'{path.name}: {entries} records, {full} of them filled: there must be one empty one')
    if not full == slots == by_size == by_symbol or full < least:
        raise Failed(f'{path.name}: {full} filled records, {slots} slots, dynfunc_text has room for {by_size} trampolines and '
                     f'{by_symbol} symbols; expected as many of each, {least} or more')
    return full


def make(build, command, arguments, folder, log):
    options = shlex.split(build.options)
    shared_options = [option for option in options if option not in PROGRAM_ONLY] + ['-fPIC', '-shared']
    common = [*command, '-std=c++23', '-Wall', '-Wextra', '-Werror', '-g0']
    common += [f'-I{include}' for include in arguments.include]
    shared = arguments.shared_library
    library = [shared, f'-Wl,-rpath,{shared.parent}']
    # With the static library the program holds the one copy, and its shared objects find it there.
    if build.link == 'static':
        to_objects, to_program = [], ['-Wl,--whole-archive', arguments.static_library, '-Wl,--no-whole-archive']
    else:
        to_objects, to_program = library, library
    linked, plugin, program = folder / 'liblinked.so', folder / 'plugin.so', folder / 'program'
    run([*common, *shared_options, SOURCES / 'linked.cpp', '-o', linked, '-Wl,-soname,liblinked.so', *to_objects], log)
    run([*common, *shared_options, SOURCES / 'plugin.cpp', '-o', plugin, *to_objects], log)
    run([*common, *options, *(SOURCES / name for name in ('main.cpp', 'define.cpp', 'signatures.cpp')), '-o', program, linked,
         *to_program, '-rdynamic', '-pthread', '-ldl', f'-Wl,-rpath,{folder}'], log)
    output = run([program, plugin], log, timeout=60)
    if output != 'OK\n':
        raise Failed(f'the program printed, instead of OK:\n{output}')
    return [check_records(path, arguments.generic) for path in (program, linked, plugin)]


def works(command, options):
    """Whether this compiler is there and can link with these options."""
    if shutil.which(command[0]) is None:
        return False
    with tempfile.TemporaryDirectory() as folder:
        return subprocess.run([*command, *options, '-x', 'c++', '-', '-o', f'{folder}/a'], input='int main() {}', text=True,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


def one(build, arguments, commands, linkers, folder):
    if not commands[build.compiler]:
        return 'SKIP', f'no {build.compiler} here'
    if '-fuse-ld=lld' in build.options and not linkers[build.compiler]:
        return 'SKIP', f'{build.compiler} finds no lld here'
    place = folder / f'{build.number:02}'
    place.mkdir(parents=True, exist_ok=True)
    log = []
    try:
        counts = make(build, shlex.split(commands[build.compiler]), arguments, place, log)
    except Failed as failure:
        return 'FAIL', f'{failure}\nrepeat with:\n' + '\n'.join(f'    {line}' for line in log)
    if arguments.keep is None:
        shutil.rmtree(place)
    return 'ok', '{} + {} + {} trampolines'.format(*counts)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--include', action='append', required=True, type=pathlib.Path)
    parser.add_argument('--shared-library', required=True, type=pathlib.Path)
    parser.add_argument('--static-library', required=True, type=pathlib.Path)
    parser.add_argument('--gcc', default='g++')
    parser.add_argument('--clang', default='clang++-19')
    parser.add_argument('--generic', action='store_true', help='the library was built with -Dbackend=generic: no trampolines')
    parser.add_argument('--only', default='', help='only builds whose name contains this')
    parser.add_argument('--keep', type=pathlib.Path, help='build there and leave everything in place')
    parser.add_argument('--jobs', type=int, default=max(2, len(os.sched_getaffinity(0))))
    arguments = parser.parse_args()
    arguments.shared_library = arguments.shared_library.resolve()
    arguments.static_library = arguments.static_library.resolve()

    commands = {name: command if works(shlex.split(command), []) else ''
                for name, command in (('gcc', arguments.gcc), ('clang', arguments.clang))}
    linkers = {name: bool(command) and works(shlex.split(command), ['-fuse-ld=lld']) for name, command in commands.items()}
    builds = [Build(*row, number) for number, row in enumerate(BUILDS)]
    builds = [build for build in builds if arguments.only in build.name()]
    totals = {'ok': 0, 'FAIL': 0, 'SKIP': 0}
    with tempfile.TemporaryDirectory(prefix='dynfunc-matrix-') as temporary, \
            concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        folder = pathlib.Path(arguments.keep or temporary).resolve()
        for build, (result, text) in zip(builds, pool.map(lambda b: one(b, arguments, commands, linkers, folder), builds)):
            totals[result] += 1
            print(f'{result:4} {build.name()}: {text}', flush=True)
    print(f'{totals["ok"]} builds passed, {totals["FAIL"]} failed, {totals["SKIP"]} skipped')
    if totals['FAIL']:
        return 1
    return 0 if totals['ok'] else 77


if __name__ == '__main__':
    sys.exit(main())
