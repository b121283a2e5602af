# SPDX-License-Identifier: MIT
"""Builds and runs the program next to this file with every compiler, linker and option that the library promises to work with.

Each build makes three things: the program, a shared library that it is linked with, and a shared object that it loads. The
program checks itself and prints OK, in the form that this process gets and in lesser ones. Then the linker's work is checked,
in each of the three:
- sections dynfunc_records and dynfunc_slots hold as many entries as section dynfunc_text holds trampolines;
- section dynfunc_branches is one, holds as many entries as the running program found, and each describes a branch site: an
  instruction in executable code, inside one aligned word, that leads into the same code, as do both of its targets.

    matrix.py --include DIR... --shared-library FILE --static-library FILE [--library NAME]...
              [--gcc CMD] [--clang CMD] [--only TEXT] [--keep DIR]

Prints a line per build and, for one that fails, the commands to repeat it. Exit status: 0 all good, 1 something failed, 77
nothing could be built here.
"""
import dataclasses
import os
import pathlib
import re
import shlex
import struct
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / 'support'))
from many_builds import (CET, GC, GOLD, LLD, NO_PIE, Build, Failed, Toolchains, arguments_of, build_all, parser, run,
                         to_link)

SOURCES = pathlib.Path(__file__).resolve().parent / 'program'
RECORD_BYTES = 72      # sizeof(TrampolineRecord)
TRAMPOLINE_BYTES = 16
SLOT_BYTES = 8
BRANCH_BYTES = 40      # sizeof(BranchRecord)
WORD_BYTES = 8
SITE_BYTES = {'X86-64': 5, 'AArch64': 4}
LEAST_TRAMPOLINES = {'program': 9, 'liblinked.so': 1, 'plugin.so': 4}
LEAST_SIGNATURES = 28  # trampolines of signatures.cpp
LEAST_BRANCHES = {'program': 50, 'liblinked.so': 30, 'plugin.so': 40}
LESSER_FORMS = ['DYNFUNC_BACKEND=slot', 'DYNFUNC_BACKEND=pointer', 'DYNFUNC_TEXT_WRITER=memory_file']

ALL_GC = f'{GC} -Wl,-z,start-stop-gc'  # lld's default; GNU ld otherwise keeps every section of which __start_ is named
SIGNATURES = 'signatures'

# compiler, how the library is linked, options; SIGNATURES: with signatures.cpp, where the options may change how arguments are
# passed, or the linker has much to do. Every option stands with each compiler that has it, every pair of what the linker sees
# (form of the code, link-time optimiser, linker, garbage collection, landing pads) stands somewhere.
BUILDS = [
    ('gcc', 'shared', '-O0', SIGNATURES),
    ('gcc', 'static', '-O1 -fPIC -no-pie'),
    ('gcc', 'shared', '-O2', SIGNATURES),
    ('gcc', 'shared', f'-O3 {GOLD}', SIGNATURES),
    ('gcc', 'shared', f'-O2 {NO_PIE}', SIGNATURES),
    ('gcc', 'shared', '-O2 -fno-plt -fPIE -pie -fvisibility=hidden'),
    ('gcc', 'shared', '-O0 -fPIE -pie -flto'),
    ('gcc', 'shared', '-O2 -flto', SIGNATURES),
    ('gcc', 'shared', f'-O3 -flto {NO_PIE} -fno-plt'),
    ('gcc', 'static', f'-O2 -flto -fvisibility=hidden {GC}'),
    ('gcc', 'static', f'-O3 {CET} -flto -fPIC -pie'),
    ('gcc', 'shared', f'-Os -flto {GOLD} {GC}'),
    ('gcc', 'shared', f'-O2 {GC}'),
    ('gcc', 'shared', f'-O0 {ALL_GC}'),
    ('gcc', 'shared', f'-O2 {ALL_GC} {NO_PIE}'),
    ('gcc', 'shared', f'-O2 {GOLD} {NO_PIE}'),
    ('gcc', 'static', f'-O0 {GOLD} {GC} -fPIC -pie'),
    ('gcc', 'shared', f'-O2 {GOLD} {GC} {CET} -fPIC -no-pie'),
    ('gcc', 'static', f'-O2 {LLD} {GC}', SIGNATURES),
    ('gcc', 'shared', f'-O0 {LLD} {NO_PIE} {GC} -fno-plt'),
    ('gcc', 'shared', f'-Os {LLD} {CET} -fPIC -pie'),
    ('gcc', 'shared', f'-O2 {CET}'),
    ('gcc', 'shared', f'-O0 {CET} {NO_PIE} {GC}'),
    ('clang', 'shared', '-O0', SIGNATURES),
    ('clang', 'shared', '-O2', SIGNATURES),
    ('clang', 'static', '-O3'),
    ('clang', 'shared', '-O3 -fno-plt -fPIE -pie'),
    ('clang', 'shared', f'-O2 -flto {LLD} -fPIC -no-pie'),
    ('clang', 'static', f'-O0 -flto {LLD} {NO_PIE} {CET}'),
    ('clang', 'shared', f'-O2 -flto=thin {LLD}', SIGNATURES),
    ('clang', 'static', f'-O3 -flto=thin {LLD} -fvisibility=hidden {GC}'),
    ('clang', 'shared', f'-Os -flto=thin {LLD} {GC} {CET}'),
    ('clang', 'shared', f'-O2 {LLD} {GC}'),
    ('clang', 'shared', f'-O0 {LLD} {GC} {CET} {NO_PIE}'),
    ('clang', 'shared', f'-O2 {GC} {NO_PIE}'),
    ('clang', 'shared', f'-O1 {ALL_GC} -fno-plt'),
    ('clang', 'shared', f'-O2 {GOLD}'),
    ('clang', 'shared', f'-O0 {GOLD} {GC} {NO_PIE}'),
    ('clang', 'static', f'-O3 {GOLD} {GC} {CET} -fPIC -pie'),
    ('clang', 'shared', f'-O2 {CET} -fvisibility=hidden'),
]

PROGRAM_ONLY = {'-fno-pie', '-no-pie', '-fPIE', '-pie', '-fPIC'}  # a shared object is always made with -fPIC


@dataclasses.dataclass
class ProgramBuild(Build):
    signatures: bool = False


@dataclasses.dataclass
class Section:
    number: int
    address: int
    offset: int
    size: int
    flags: str

    def holds(self, address):
        return 'A' in self.flags and 'T' not in self.flags and self.address <= address < self.address + self.size


def read_elf(*arguments):
    return subprocess.run(['readelf', '-W', *map(str, arguments)], check=True, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True).stdout


def sections_of(path):
    """name: (number, address, offset, size, flags), and the names that more than one section has."""
    sections, repeated = {}, set()
    pattern = r'^\s*\[ *(\d+)\] (\S+)\s+\S+\s+([0-9a-f]+) ([0-9a-f]+) ([0-9a-f]+) \S+ +([A-Z]*) '
    for number, name, address, offset, size, flags in re.findall(pattern, read_elf('-S', path), re.M):
        if name in sections:
            repeated.add(name)
        sections[name] = Section(int(number), int(address, 16), int(offset, 16), int(size, 16), flags)
    if any(name.startswith('dynfunc_') for name in repeated):
        raise Failed(f'{path.name}: the linker made more than one section of a name: {sorted(repeated)}')
    return sections


def count_records(path):
    """(filled entries of dynfunc_records, all entries, slots, trampolines by size, trampolines by symbol) of an ELF file."""
    sections = sections_of(path)
    records = sections.get('dynfunc_records')
    if records is None:
        return 0, 0, 0, 0, 0
    address, size = records.address, records.size
    if size % RECORD_BYTES != 0:
        raise Failed(f'{path.name}: dynfunc_records has {size} bytes, no multiple of {RECORD_BYTES}')
    data = path.read_bytes()[records.offset:records.offset + size]
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
    nothing = Section(-1, 0, 0, 0, '')
    text, slots = sections.get('dynfunc_text', nothing), sections.get('dynfunc_slots', nothing)
    symbols = {symbol for at, index, symbol in re.findall(r'^\s*\d+: ([0-9a-f]+)\s+\d+ FUNC\s+\S+\s+\S+\s+(\S+) (\S+)',
                                                          read_elf('-s', path), re.M) if index == str(text.number)}
    return full, size // RECORD_BYTES, slots.size / SLOT_BYTES, text.size / TRAMPOLINE_BYTES, len(symbols)


def check_records(path, least):
    full, entries, slots, by_size, by_symbol = count_records(path)
    # One empty record comes with each registrar. There is one; a link-time optimiser may add its own to that of native code.
    if not 1 <= entries - full <= 2:
        raise Failed(f'{path.name}: {entries} records, {full} of them filled: there must be one empty one')
    if not full == slots == by_size == by_symbol or full < least:
        raise Failed(f'{path.name}: {full} filled records, {slots} slots, dynfunc_text has room for {by_size} trampolines and '
                     f'{by_symbol} symbols; expected as many of each, {least} or more')
    return full


def check_branches(path, least):
    """How many filled entries dynfunc_branches has; each describes a branch site."""
    sections = sections_of(path)
    machine = re.search(r'Machine:.* (\S+)$', read_elf('-h', path), re.M).group(1)
    file = path.read_bytes()
    branches = sections.get('dynfunc_branches', Section(-1, 0, 0, 0, ''))
    if branches.size % BRANCH_BYTES != 0:
        raise Failed(f'{path.name}: dynfunc_branches has {branches.size} bytes, no multiple of {BRANCH_BYTES}')
    sites, empty = set(), 0
    for first in range(0, branches.size, BRANCH_BYTES):
        numbers = struct.unpack_from('<4i', file, branches.offset + first)
        # Distances, each from its own field.
        site, disabled, enabled, key = (branches.address + first + 4 * i + number if number else None
                                        for i, number in enumerate(numbers))
        if site is None:
            empty += 1
            continue

        def wrong(what):
            return Failed(f'{path.name}: branch record {first // BRANCH_BYTES}, of site {site:#x}: {what}')
        code = next((each for each in sections.values() if each.holds(site)), None)
        if code is None or 'X' not in code.flags:
            raise wrong('no executable code is there')
        if site in sites:
            raise wrong('another record has the same')
        if site % WORD_BYTES + SITE_BYTES[machine] > WORD_BYTES:
            raise wrong('not inside one aligned word')
        if (disabled is None) == (enabled is None):
            raise wrong('one way must fall through, the other lead elsewhere')
        target = disabled or enabled
        # Cold blocks may lie in a section of their own.
        if not any(each.holds(target) and 'X' in each.flags for each in sections.values()):
            raise wrong(f'leads to {target:#x}, where no executable code is')
        if key is None or not any(each.holds(key) and 'A' in each.flags and 'X' not in each.flags for each in sections.values()):
            raise wrong('the word of its key is not in data')
        at = code.offset + site - code.address
        if machine == 'X86-64':
            (distance,) = struct.unpack_from('<i', file, at + 1)
            if file[at] != 0xe9 or not any(each.holds(site + 5 + distance) and 'X' in each.flags for each in sections.values()):
                raise wrong(f'holds {file[at:at + 5].hex()}, not a jump into code')
        sites.add(site)
    if not 1 <= empty <= 2 or len(sites) < least:
        raise Failed(f'{path.name}: {len(sites)} branch sites and {empty} empty records; expected {least} or more and one')
    return len(sites)


def make(build, command, arguments, folder, log):
    options = shlex.split(build.options)
    shared_options = [option for option in options if option not in PROGRAM_ONLY] + ['-fPIC', '-shared']
    common = [*command, '-std=c++23', '-Wall', '-Wextra', '-Werror', '-g0']
    common += [f'-I{include}' for include in arguments.include]
    to_objects, to_program = to_link(arguments, build.link)
    linked, plugin, program = folder / 'liblinked.so', folder / 'plugin.so', folder / 'program'
    run([*common, *shared_options, SOURCES / 'linked.cpp', '-o', linked, '-Wl,-soname,liblinked.so', *to_objects], log)
    run([*common, *shared_options, SOURCES / 'plugin.cpp', '-o', plugin, *to_objects], log)
    names = ['main.cpp', 'define.cpp', 'branches.cpp', 'branches_define.cpp', *(['signatures.cpp'] if build.signatures else [])]
    run([*common, *options, *(SOURCES / name for name in names), '-o', program, linked, *to_program, '-rdynamic', '-pthread',
         '-ldl', f'-Wl,-rpath,{folder}'], log)

    trampolines, sites = [], []
    for path in (program, linked, plugin):
        least = LEAST_TRAMPOLINES[path.name] + (LEAST_SIGNATURES if build.signatures and path == program else 0)
        trampolines.append(check_records(path, 0 if arguments.generic else least))
        sites.append(check_branches(path, 0 if arguments.generic else LEAST_BRANCHES[path.name]))
    expected = 3 * 'branch sites: {} + {} + {}\n'.format(*sites) + 'OK\n'
    for setting in ['', *LESSER_FORMS]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith('DYNFUNC_')}
        output = run(['env', setting, program, plugin] if setting else [program, plugin], log, env=environment, timeout=60)
        if output != expected:
            raise Failed(f'{setting} the program printed, instead of\n{expected}this:\n{output}'.lstrip())
    return '{} + {} + {} trampolines, {} + {} + {} branch sites'.format(*trampolines, *sites), None


def main():
    options = parser(__doc__)
    options.add_argument('--generic', action='store_true', help='the library was built for the generic backend: no trampolines')
    builds = [ProgramBuild(*row[:3], SIGNATURES in row) for row in BUILDS]
    arguments = arguments_of(options)
    return build_all(builds, arguments, make, Toolchains(arguments))


if __name__ == '__main__':
    sys.exit(main())
