# SPDX-License-Identifier: MIT
"""What the program says about its call sites (main.cpp), compared with what it has to say."""
import dataclasses
import pathlib
import struct

from expected import FIELD_BYTES, LINKED, PROGRAM
from many_builds import Failed

WORD_BYTES = 8  # inside which one store replaces a distance

BRANCH_BYTES = 40      # sizeof(BranchRecord)
MOMENTS = ['start', 'retargeted', 'null', 'back', 'always', 'never']
NEVER_CHANGED = 'sites::constant'
NOT_READ = 'what it calls was never changed, so it was not looked at'


@dataclasses.dataclass
class Site:
    field: int
    callee: str
    patched: bool
    leads_to: int
    reason: str


@dataclasses.dataclass
class Moment:
    name: str
    results: str = ''
    reason: str = ''
    bases: dict = dataclasses.field(default_factory=dict)    # by name of the object: the address of its first segment
    objects: dict = dataclasses.field(default_factory=dict)  # by name: begin, text bytes, found, no sites, reason
    keys: list = dataclasses.field(default_factory=list)     # kind, name, target, found, patched, left
    sites: list = dataclasses.field(default_factory=list)


def name_of(path):
    return PROGRAM if path == '-' else pathlib.Path(path).name


def moments_of(output):
    moments = []
    for line in output.splitlines():
        word, _, rest = line.partition(' ')
        if word == 'now':
            moments.append(Moment(rest))
            continue
        if word == 'OK':
            break
        if not moments or word not in ('results', 'base', 'how', 'object', 'function', 'tracepoint', 'site'):
            raise Failed(f'the program printed: {line}')
        now = moments[-1]
        if word == 'results':
            now.results = rest
        elif word == 'how':
            now.reason = rest
        elif word == 'base':
            path, base = rest.rsplit(' ', 1)
            now.bases[name_of(path)] = int(base, 16)
        elif word == 'object':
            path, *numbers, reason = rest.split(' ', 5)
            now.objects[name_of(path)] = [*(int(number, 16) for number in numbers), reason]
        elif word == 'site':
            field, callee, patched, leads_to, reason = rest.split(' ', 4)
            now.sites.append(Site(int(field, 16), callee, patched == '1', int(leads_to, 16), reason))
        else:
            name, *numbers = rest.split(' ')
            now.keys.append([word, name, *(int(number, 16) for number in numbers)])
    if [moment.name for moment in moments] != MOMENTS:
        raise Failed(f'the program came only to {[moment.name for moment in moments]}')
    return moments


def is_looked_for(when, moment):
    if when is None:
        return False
    return moment in ('always', 'never') or when == 'always' or (when == 'on change' and moment != 'start')


def is_to_be_patched(when, now, site, oracle, name):
    """Whether this site must be patched at this moment; None: cannot be said."""
    machine = oracle.elf.machine
    if now.name == 'never' or (machine.straddles and site.field % WORD_BYTES + FIELD_BYTES > WORD_BYTES):
        return False
    if when == 'on change' and site.callee == NEVER_CHANGED and now.name != 'always':
        return False
    kind, _, target, *_ = next(key for key in now.keys if key[1] == site.callee)
    if kind == 'function':
        return target != 0 and abs(target - (site.field + machine.addend)) < machine.reach
    # Callbacks are attached in between, by the program, where they lie.
    if now.name not in ('retargeted', 'null'):
        return False
    is_far = abs(now.bases[PROGRAM] - now.bases[LINKED]) > 2 * machine.reach
    return True if name == PROGRAM else False if is_far else None


def check_moment(when, now, oracles):
    looked_for = is_looked_for(when, now.name)
    if not looked_for and now.sites:
        raise Failed(f'{len(now.sites)} call sites, where none is to be looked for')
    sites = {name: {} for name in oracles}
    for site in now.sites:
        name = max((name for name, base in now.bases.items() if base <= site.field), key=now.bases.get)
        address = site.field - now.bases[name] + (oracles[name].elf.lowest if name in oracles else 0)
        if name not in oracles or address in sites[name]:
            raise Failed(f'{name}: call site {address:#x} is there twice, or where none can be')
        sites[name][address] = site

    problems = []
    for name, oracle in oracles.items():
        expected = oracle.sites if looked_for else set()
        mapped, text_bytes, found, no_sites, reason = now.objects[name]
        base = now.bases[name] - oracle.elf.lowest
        if mapped != now.bases[name]:
            problems.append(f'{name}: objects() says that it is mapped at {mapped:#x}, it is at {now.bases[name]:#x}')
        # Until a function is changed, what looks like its call sites is not looked at, and counted.
        not_read = {address for address, site in sites[name].items()
                    if when == 'on change' and site.callee == NEVER_CHANGED and site.reason == NOT_READ} - expected
        expected = expected | not_read & oracle.lookalikes
        if set(sites[name]) != expected:
            problems.append(f'{name}: {len(sites[name])} call sites, expected {len(expected)} {reason}\n' +
                            oracle.differences(expected, set(sites[name]), 'the library'))
        numbers = (found, no_sites, text_bytes)
        segments = oracle.elf.executable_segments()
        wanted = (len(expected), len(oracle.lookalikes - expected), sum(len(data) for _, data in segments))
        wanted = wanted if looked_for else (0, 0, 0)
        if numbers != wanted:
            problems.append(f'{name}: objects() has sites, rejected and text of {numbers}, expected {wanted}\n' + '\n'.join(
                f'    to reject: {oracle.line_at(each)}' for each in sorted(oracle.lookalikes)))
        for address, site in sites[name].items():
            target = next(key[2] for key in now.keys if key[1] == site.callee)
            patched = is_to_be_patched(when, now, site, oracle, name)
            leads_to_trampoline = site.leads_to - base in oracle.starts
            if patched not in (None, site.patched) or site.patched == bool(site.reason):
                problems.append(f'{name}: {site.callee}, patched: {site.patched} ({site.reason}), expected {patched}: '
                                f'{oracle.line_at(address)}')
            if site.patched == leads_to_trampoline or (site.patched and target not in (0, site.leads_to)):
                problems.append(f'{name}: {site.callee}, patched: {site.patched}, leads to {site.leads_to:#x}: '
                                f'{oracle.line_at(address)}')
    for kind, name, _, found, patched, left in now.keys:
        own = [site for site in now.sites if site.callee == name]
        if (found, patched, left) != (len(own), sum(site.patched for site in own), sum(not site.patched for site in own)):
            problems.append(f'{kind} {name}: found, patched, left: {found}, {patched}, {left}; sites: {len(own)}')
    if problems:
        raise Failed('\n'.join(problems))


def check_run(setting, when, moments, oracles, results):
    for now, expected in zip(moments, results):
        try:
            if now.results != expected:
                raise Failed(f'the calls have other results: {now.results}\nexpected {expected}')
            check_moment(when, now, oracles)
        except Failed as failure:
            raise Failed(f'{setting or "default"}, {now.name}: {failure}') from None


def check_text(now, oracles, folder):
    """Code is as in the file, but for trampolines, generated code, branch sites and the call sites that are patched."""
    for name, oracle in oracles.items():
        elf = oracle.elf
        may_differ = {address for section in ('dynfunc_text', 'dynfunc_chains') for address in elf.section(section).range()}
        branches = elf.section('dynfunc_branches')
        for first in range(0, branches.size, BRANCH_BYTES):
            (distance,) = struct.unpack_from('<i', elf.data, branches.offset + first)
            at = branches.address + first + distance
            may_differ.update(range(at, at + elf.machine.branch_site_bytes) if distance else ())
        base = now.bases[name] - elf.lowest
        patched = {site.field - base for site in now.sites if site.patched and site.field - base in oracle.sites}
        changed = set()
        for address, before in elf.executable_segments():
            after = (folder / f'{name}.{address:x}').read_bytes()
            if len(after) != len(before):
                raise Failed(f'{name}: {len(after)} bytes of code, expected {len(before)}')
            changed |= {address + i for i, (a, b) in enumerate(zip(before, after)) if a != b} if before != after else set()
        changed -= may_differ
        in_fields = {field + i for field in patched for i in range(FIELD_BYTES)}
        wrong = [f'    {oracle.line_at(each)}' for each in sorted(changed - in_fields)]
        wrong += [f'    not changed: {oracle.line_at(field)}' for field in sorted(patched)
                  if changed.isdisjoint(range(field, field + FIELD_BYTES))]
        if wrong or not patched and name == PROGRAM:
            raise Failed(f'{name}: code differs elsewhere than at the {len(patched)} patched call sites\n' + '\n'.join(wrong))
