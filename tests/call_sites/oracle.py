# SPDX-License-Identifier: MIT
"""Checks which call sites the library finds, against the linker and a disassembler, in programs of many compilers and options.

Each build makes the program next to this file and a shared library that it is linked with, with --emit-relocs. In both, what
the library finds must be
- the places of which the linker says that they refer to a trampoline, as far as they lie in a direct branch,
- the direct branches to a trampoline that objdump shows,
but for what lies in symbols named planted_...: places that look like a call site and are none (planted.hpp). What it rejected
must be as many as there are other places in executable segments whose bytes lead to a trampoline. Then the program runs, in
every way to have call sites patched; each time
- its calls have the same results as in a process that patches nothing,
- the sites found, patched and left are as many as can be said beforehand, from addresses and targets,
- code has changed nowhere else.

    oracle.py --include DIR... --shared-library FILE [--static-library FILE] [--gcc CMD] [--clang CMD] [--only TEXT] [--keep DIR]
    oracle.py ... --machine arm64 --keep DIR --only-make     the builds for arm64, which another machine runs:
    oracle.py ... --machine arm64 --keep DIR --made
    oracle.py ... --self-check     one build, and then with wrong lists, with a byte changed, and with a function that
                                   is missing in the unwind table: each time the comparison has to fail

Prints a line per build and, for one that fails, the differences and the commands to repeat it. Exit status: 0 all good, 1
something failed, 77 nothing could be built here, or no call sites can be patched.
"""
import os
import pathlib
import re
import shlex
import struct
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / 'support'))
from many_builds import (CET, GC, GOLD, LLD, NO_PIE, Build, Failed, Skipped, Toolchains, arguments_of, build_all, parser, run,
                         to_link)

from expected import LINKED, LLD_ONE_SEGMENT, MACHINES, ONE_SEGMENT, PROGRAM, X86, Elf, Oracle, disassemble, disassembly_of
from observed import MOMENTS, check_run, check_text, moments_of

SOURCES = pathlib.Path(__file__).resolve().parent / 'program'
# How the program is run, and whether call sites are patched: never, when something changes, always; None: nothing is.
SETTINGS = {
    'DYNFUNC_BACKEND=pointer': None,  # first: its results are those that all others must have
    'DYNFUNC_BACKEND=slot': None,
    'DYNFUNC_CALL_SITES=0': 'never',
    'DYNFUNC_CALL_SITES=1': 'always',
    '': 'on change',
    'DYNFUNC_TEXT_WRITER=memory_file': 'on change',
}
CANNOT_PATCH = ['no code is patched in this process', 'made without Zydis']  # reasons why this test has nothing to look at

# compiler, how the library is linked, options. Every option stands with each compiler that has it; every pair of what the
# linker sees (form of the code, link-time optimiser, linker, garbage collection, landing pads) stands somewhere.
BTI = '-mbranch-protection=standard'
BUILDS_OF_ARM64 = [
    ('gcc', 'shared', '-O2'),
    ('gcc', 'shared', '-O0'),
    ('gcc', 'shared', '-O3 -fno-plt'),
    ('gcc', 'shared', f'-Os {BTI}'),
    ('gcc', 'static', f'-O2 {GC} {ONE_SEGMENT}'),
    ('gcc', 'shared', f'-O2 {NO_PIE} {ONE_SEGMENT} -mpc-relative-literal-loads'),
    ('gcc', 'shared', f'-Os -mcmodel=tiny {NO_PIE} {BTI}'),
    ('gcc', 'shared', '-O2 -flto'),
    ('gcc', 'shared', f'-O1 -flto {BTI} {GC}'),
    ('gcc', 'shared', f'-O3 {GOLD} {BTI}'),
    ('clang', 'shared', '-O0'),
    ('clang', 'shared', '-O2'),
    ('clang', 'shared', f'-Os {NO_PIE} {ONE_SEGMENT}'),
    ('clang', 'shared', f'-O3 {LLD} {GC} {BTI} -fno-plt'),
    ('clang', 'static', f'-O2 -flto {LLD} {GC}'),
    ('clang', 'shared', f'-Os -flto=thin {LLD} {LLD_ONE_SEGMENT} {BTI}'),
]
BUILDS_OF_X86 = [
    ('gcc', 'shared', '-O0'),
    ('gcc', 'shared', '-O2'),
    ('gcc', 'shared', '-O3 -fno-plt'),
    ('gcc', 'shared', f'-Os {CET}'),
    ('gcc', 'static', f'-O2 {GC} {ONE_SEGMENT}'),
    ('gcc', 'shared', f'-O2 {NO_PIE} {ONE_SEGMENT}'),
    ('gcc', 'shared', f'-O0 {NO_PIE} {CET} {GC}'),
    ('gcc', 'shared', '-O2 -flto'),
    ('gcc', 'shared', f'-Os -flto {NO_PIE} -fno-plt {GC}'),
    ('gcc', 'shared', f'-O3 -flto {GOLD} {CET}'),
    ('gcc', 'shared', f'-O1 -flto {CET}'),
    ('gcc', 'shared', f'-O2 {GOLD} {GC}'),
    ('gcc', 'shared', f'-O3 {GOLD} {NO_PIE} -fno-plt'),
    ('gcc', 'shared', f'-O3 {LLD} {GC} {CET}'),
    ('gcc', 'shared', f'-Os {LLD} {NO_PIE} {LLD_ONE_SEGMENT}'),
    ('gcc', 'shared', '-O2 -fvisibility=hidden -falign-functions=32 -falign-loops=16 -Wl,-z,now'),
    ('clang', 'shared', '-O0'),
    ('clang', 'shared', '-O2'),
    ('clang', 'shared', f'-Os {NO_PIE}'),
    ('clang', 'shared', f'-O3 {CET} {GC} -fno-plt'),
    ('clang', 'shared', f'-O2 {CET} {NO_PIE} {ONE_SEGMENT}'),
    ('clang', 'shared', f'-O2 {GOLD} {GC}'),
    ('clang', 'shared', f'-Os {GOLD} {NO_PIE} {CET}'),
    ('clang', 'shared', f'-O2 -flto {LLD}'),
    ('clang', 'static', f'-Os -flto {LLD} {NO_PIE} {GC}'),
    ('clang', 'shared', f'-O3 -flto {LLD} {CET} -fno-plt'),
    ('clang', 'shared', f'-O1 -flto {LLD} {GC}'),
    ('clang', 'shared', f'-O2 -flto=thin {LLD} {CET} {GC}'),
    ('clang', 'shared', f'-Os -flto=thin {LLD} {NO_PIE} -fno-plt'),
    ('clang', 'shared', f'-O3 {LLD} {LLD_ONE_SEGMENT} {GC}'),
    ('clang', 'shared', f'-O2 {LLD} {NO_PIE} -fno-plt'),
    ('clang', 'shared', f'-O1 {LLD} {CET}'),
]

PROGRAM_ONLY = {'-fno-pie', '-no-pie'}  # a shared object is always made with -fPIC


def is_for_compiler(option):
    return not option.startswith(('-Wl,', '-fuse')) and option not in ('-shared', '-no-pie')


def link(build, arguments, command, folder, log):
    options = shlex.split(build.options)
    common = [*command, '-std=c++23', '-Wall', '-Wextra', '-Werror', '-g0']
    common += [f'-I{include}' for include in [*arguments.include, SOURCES / arguments.machine.folder]]
    shared_options = [*(option for option in options if option not in PROGRAM_ONLY), '-fPIC', '-shared']
    to_objects, to_program = to_link(arguments, build.link)
    for_linked, for_program = folder / 'for_linked', folder / 'for_program'
    for each in (for_linked, for_program):
        each.mkdir(exist_ok=True)
    run([*common, *filter(is_for_compiler, shared_options), '-c', SOURCES / 'linked.cpp'], log, cwd=for_linked)
    run([*common, *filter(is_for_compiler, options), '-c',
         *(SOURCES / f'{name}.cpp' for name in ('main', 'flow', 'planted'))], log, cwd=for_program)
    for_each = {LINKED: [*common, *shared_options, for_linked / 'linked.o', f'-Wl,-soname,{LINKED}', *to_objects],
                PROGRAM: [*common, *options, *(for_program / f'{name}.o' for name in ('main', 'flow', 'planted')),
                          folder / LINKED, *to_program, '-rdynamic', '-pthread', f'-Wl,-rpath,{folder}']}
    for name, line in for_each.items():
        # gold ends with an internal error when it is to emit relocations and to collect garbage.
        emits = not (GOLD in build.options and GC in build.options)
        run([*line, '-o', folder / name, *(['-Wl,--emit-relocs'] if emits else [])], log)
        disassemble(folder / name, log)
        # What is checked is what users link: --emit-relocs changes no code. (With -flto it would be compiled once more.)
        if emits and '-flto' not in build.options:
            plain = folder / f'plain-{name}'
            run([*line, '-o', plain], log)
            if code_of(Elf(plain), build.linker()) != code_of(Elf(folder / name), build.linker()):
                raise Failed(f'{name}: with --emit-relocs it has other code than without')
            plain.unlink()


def code_of(elf, linker):
    """What must not change; lld puts sections elsewhere, but not other code into them."""
    return [(each.name, each.size) if linker == LLD else (each.name, each.address, elf.contents(each))
            for each in elf.sections if each.is_executable()]


def run_program(setting, folder, log, *arguments):
    environment = {name: value for name, value in os.environ.items() if not name.startswith('DYNFUNC_')}
    return run(['env', *setting.split(), folder / PROGRAM, *arguments], log, env=environment, timeout=60)


def check_all(outputs, oracles, folder):
    """What the program printed, by setting, and the code that it wrote to files."""
    runs = {setting: moments_of(output) for setting, output in outputs.items()}
    reason = runs['DYNFUNC_CALL_SITES=1'][0].reason
    if any(known in reason for known in CANNOT_PATCH):
        raise Skipped(reason)
    results = [now.results for now in next(iter(runs.values()))]
    for setting, moments in runs.items():
        check_run(setting, SETTINGS[setting], moments, oracles, results)
    check_text(runs['DYNFUNC_CALL_SITES=1'][MOMENTS.index('retargeted')], oracles, folder)
    return results


def run_all(build, command, arguments, folder, log):
    if not arguments.made:
        link(build, arguments, command, folder, log)
    elif not disassembly_of(folder / LINKED).exists():
        raise Skipped('it was not made')
    oracles = {name: Oracle(folder / name) for name in (PROGRAM, LINKED)}
    for oracle in oracles.values():
        oracle.check_program_is_worth_it(build)
    outputs = {}
    for setting in SETTINGS:
        outputs[setting] = run_program(setting, folder, log, *([folder] if setting == 'DYNFUNC_CALL_SITES=1' else []))
    return outputs, oracles


def make(build, command, arguments, folder, log):
    if arguments.only_make:
        link(build, arguments, command, folder, log)
        return 'made', None
    outputs, oracles = run_all(build, command, arguments, folder, log)
    results = check_all(outputs, oracles, folder)
    text = ' + '.join(str(len(oracle.sites)) for oracle in oracles.values()) + ' sites ('
    text += ', '.join(f'{sum(oracle.kinds[kind] for oracle in oracles.values())} {kind}' for kind in ('call', 'jmp', 'jcc'))
    text += ')' + ('' if all(oracle.has_relocations for oracle in oracles.values()) else ' by objdump alone') + ', '
    text += ' + '.join(str(len(oracle.lookalikes)) for oracle in oracles.values()) + ' rejected'
    if arguments.self_check:
        text += '; noticed: ' + self_check(outputs, oracles, folder, log)
    return text, results


def drop_from_unwind_table(path, symbol):
    """The table says nothing any more of one function, whose calls do not throw; the library then finds none in it."""
    elf = Elf(path)
    header = elf.section('.eh_frame_hdr')
    at = elf.symbols[symbol][0]
    table = bytearray(elf.contents(header))
    for entry in range(12, len(table) - 8, 8):
        if header.address + struct.unpack_from('<i', table, entry)[0] == at:
            table[entry:entry + 8] = table[entry + 8:entry + 16]  # as the next one, so that they still ascend
            data = elf.data[:header.offset] + bytes(table) + elf.data[header.offset + header.size:]
            path.unlink()
            path.write_bytes(data)
            path.chmod(0o755)
            return
    raise Failed(f'{path.name}: {symbol} is not in the unwind table')


def self_check(outputs, oracles, folder, log):
    setting, always = '', 'DYNFUNC_CALL_SITES=1'
    noticed = []

    def must_fail(what, expected, outputs):
        try:
            check_all(outputs, oracles, folder)
        except Failed as failure:
            if re.search(expected, str(failure)) is None:
                raise Failed(f'{what} was noticed, but for another reason: {failure}') from None
            noticed.append(what)
            return
        raise Failed(f'{what} was not noticed')

    def edited(setting, change):
        moments = outputs[setting].split('now ')
        index = next(i for i, text in enumerate(moments) if text.startswith('retargeted'))
        text = change(moments[index])
        if text == moments[index]:
            raise Failed('nothing was changed')
        return {**outputs, setting: 'now '.join([*moments[:index], text, *moments[index + 1:]])}

    def sites_of(name, text):
        found = moments_of(outputs[always])[MOMENTS.index('retargeted')]
        others = sorted(found.bases.values())
        begin = found.bases[name]
        end = min((each for each in others if each > begin), default=2**64)
        return [each for each in re.findall(r'^site .*\n', text, re.M) if begin <= int(each.split()[1], 16) < end]

    for name in oracles:
        must_fail(f'a site of {name} is hidden', 'the library missed 0x', edited(
            always, lambda text, name=name: text.replace(sites_of(name, text)[3], '')))
    must_fail('a site that is none', 'only the library has 0x', edited(
        always, lambda text: text + re.sub(r'^site (\S+)', lambda m: f'site {int(m[1], 16) + 1:x}', sites_of(PROGRAM, text)[0])))
    must_fail('a site less among the rejected', r'objects\(\) has sites', edited(
        always, lambda text: re.sub(r'^(object - \S+ \S+ \S+) \S+', r'\1 1', text, flags=re.M)))
    must_fail('a site that is not patched', r'patched: False', edited(
        setting, lambda text: re.sub(r'^(site \S+ sites::step) 1', r'\1 0', text, count=1, flags=re.M)))
    must_fail('a site less in a count', 'found, patched, left', edited(
        setting, lambda text: re.sub(r'^(function sites::quiet \S+) \S+', r'\1 1', text, flags=re.M)))
    must_fail('another result', 'other results', edited(
        setting, lambda text: re.sub(r'^results \S+', 'results 77', text, flags=re.M)))

    address, data = oracles[PROGRAM].elf.executable_segments()[0]
    dump = folder / f'{PROGRAM}.{address:x}'
    kept = dump.read_bytes()
    at = oracles[PROGRAM].elf.symbols['planted_gap'][0] + 1 - address
    dump.write_bytes(kept[:at] + bytes([kept[at] ^ 1]) + kept[at + 1:])
    must_fail('planted bytes that changed', 'code differs elsewhere', outputs)
    dump.write_bytes(kept)

    tail = next(name for name in oracles[LINKED].elf.symbols if re.fullmatch(r'_ZN.*4tailEi(\..*)?', name))
    drop_from_unwind_table(folder / LINKED, tail)
    without = {setting: run_program(setting, folder, log, *([folder] if setting == always else [])) for setting in SETTINGS}
    must_fail('sites that the library missed', 'the library missed 0x', without)
    return ', '.join(noticed)


def main():
    options = parser(__doc__)
    options.add_argument('--self-check', action='store_true', help='whether the comparison fails where it must')
    options.add_argument('--machine', choices=['x86', 'arm64'], default='x86', help='that the builds are for')
    options.add_argument('--only-make', action='store_true', help='make them, in the folder of --keep, and run none')
    options.add_argument('--made', action='store_true', help='run those that are in the folder of --keep')
    arguments = arguments_of(options)
    arguments.machine = next(machine for machine in MACHINES.values() if machine.folder == arguments.machine)
    builds = [Build(*row) for row in (BUILDS_OF_X86 if arguments.machine is X86 else BUILDS_OF_ARM64)]
    toolchains = None if arguments.made else Toolchains(arguments)
    if arguments.self_check:
        builds = [build for build in builds if build.options == '-O2' and not (toolchains and toolchains.why_not(build))][:1]
    return build_all(builds, arguments, make, toolchains)


if __name__ == '__main__':
    sys.exit(main())
