# SPDX-License-Identifier: MIT
"""A program, built with many compilers, linkers and options: what matrix.py and oracle.py have in common.

    BUILDS = [('gcc', 'shared', '-O2'), ('clang', 'static', f'-O2 {LLD}')]
    def make(build, command, arguments, folder, log): ...  # builds and runs; returns a text and its results, or raises
    sys.exit(build_all([Build(*row) for row in BUILDS], arguments_of(parser(__doc__)), make))

Prints a line per build and, for one that fails, the commands to repeat it.
"""
import argparse
import concurrent.futures
import dataclasses
import os
import pathlib
import shlex
import shutil
import subprocess
import tempfile

GC = '-ffunction-sections -fdata-sections -Wl,--gc-sections'
NO_PIE = '-fno-pie -no-pie'
CET = '-fcf-protection=full'
GOLD = '-fuse-ld=gold'
LLD = '-fuse-ld=lld'


class Failed(Exception):
    pass


class Skipped(Exception):
    pass


@dataclasses.dataclass
class Build:
    compiler: str  # gcc or clang
    link: str      # how the library is linked: shared or static
    options: str

    def linker(self):
        return next((option for option in (GOLD, LLD) if option in self.options), '')

    def name(self):
        return f'{self.compiler} {self.link} {self.options}'


def run(command, log, **more):
    log.append(shlex.join(map(str, command)))
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors='replace', **more)
    except subprocess.TimeoutExpired:
        raise Failed('does not end') from None
    if done.returncode != 0:
        raise Failed(f'exit status {done.returncode}\n{done.stdout[-4000:]}')
    return done.stdout


def works(command, options):
    """Whether this compiler is there and can link with these options."""
    if not command or shutil.which(command[0]) is None:
        return False
    with tempfile.TemporaryDirectory() as folder:
        return subprocess.run([*command, *options, '-x', 'c++', '-', '-o', f'{folder}/a'], input='int main() {}', text=True,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


def parser(text):
    new = argparse.ArgumentParser(description=text.splitlines()[0])
    new.add_argument('--include', action='append', required=True, type=pathlib.Path)
    new.add_argument('--shared-library', required=True, type=pathlib.Path)
    new.add_argument('--static-library', required=True, type=pathlib.Path)
    new.add_argument('--library', action='append', default=[], help='what the static library needs')
    new.add_argument('--gcc', default='g++')
    new.add_argument('--clang', default='clang++-19')
    new.add_argument('--only', default='', help='only builds whose name contains this')
    new.add_argument('--keep', type=pathlib.Path, help='build there and leave everything in place')
    new.add_argument('--jobs', type=int, default=max(2, len(os.sched_getaffinity(0))))
    return new


def arguments_of(a_parser):
    arguments = a_parser.parse_args()
    arguments.include = [folder.resolve() for folder in arguments.include]
    arguments.shared_library = arguments.shared_library.resolve()
    arguments.static_library = arguments.static_library.resolve()
    return arguments


def to_link(arguments, link):
    """What shared objects and what programs are linked with."""
    if link == 'shared':
        library = [arguments.shared_library, f'-Wl,-rpath,{arguments.shared_library.parent}']
        return library, library
    # With the static library the program holds the one copy, and its shared objects find it there.
    return [], ['-Wl,--whole-archive', arguments.static_library, '-Wl,--no-whole-archive',
                *(f'-l{name}' for name in arguments.library)]


class Toolchains:
    def __init__(self, arguments):
        self.commands = {name: command if works(shlex.split(command), []) else ''
                         for name, command in (('gcc', arguments.gcc), ('clang', arguments.clang))}
        self.linkers = {(name, linker): works(shlex.split(command), [linker] if linker else [])
                        for name, command in self.commands.items() for linker in ('', GOLD, LLD)}

    def why_not(self, build):
        if not self.commands[build.compiler]:
            return f'no {build.compiler} here'
        if not self.linkers[build.compiler, build.linker()]:
            return f'{build.compiler} cannot link here with {build.linker()}'
        return ''


def one(number, build, toolchains, arguments, folder, make):
    """ok, FAIL or SKIP; a text; the results. Without toolchains nothing is to be compiled."""
    if toolchains and (why := toolchains.why_not(build)):
        return 'SKIP', why, None
    place = folder / f'{number:02}'
    place.mkdir(parents=True, exist_ok=True)
    log = []
    try:
        command = shlex.split(toolchains.commands[build.compiler]) if toolchains else []
        text, results = make(build, command, arguments, place, log)
    except Skipped as why:
        return 'SKIP', str(why), None
    except Failed as failure:
        return 'FAIL', f'{failure}\nrepeat with:\n' + '\n'.join(f'    {line}' for line in log), None
    if arguments.keep is None:
        shutil.rmtree(place)
    return 'ok', text, results


def build_all(builds, arguments, make, toolchains):
    """Exit status: 0 all good, 1 something failed, also where results differ between builds; 77 nothing could be built here."""
    builds = [build for build in builds if arguments.only in build.name()]
    totals = {'ok': 0, 'FAIL': 0, 'SKIP': 0}
    same = None
    with tempfile.TemporaryDirectory(prefix='dynfunc-builds-') as temporary, \
            concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        folder = pathlib.Path(arguments.keep or temporary).resolve()
        for build, (result, text, results) in zip(builds, pool.map(
                lambda numbered: one(*numbered, toolchains, arguments, folder, make), enumerate(builds))):
            same = same or results
            if results is not None and results != same:
                result, text = 'FAIL', f'{text}; other results than in the builds before: {results}\nexpected {same}'
            totals[result] += 1
            print(f'{result:4} {build.name()}: {text}', flush=True)
    print(f'{totals["ok"]} builds passed, {totals["FAIL"]} failed, {totals["SKIP"]} skipped')
    if totals['FAIL']:
        return 1
    return 0 if totals['ok'] else 77
