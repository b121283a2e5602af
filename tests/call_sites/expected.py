# SPDX-License-Identifier: MIT
"""What is to be found in one object: Oracle, from its ELF file and from what objdump shows."""
import bisect
import dataclasses
import re
import struct
import sys

from many_builds import Failed, run

FIELD_BYTES = 4  # that are replaced: of a distance on x86-64, an instruction on arm64
PROGRAM, LINKED = 'program', 'liblinked.so'
PLANTED = ['planted_gap', 'planted_constant', 'planted_bare', 'planted_immediate']
LEAST_SITES = {PROGRAM: 60, LINKED: 20}
ONE_SEGMENT = '-Wl,-z,noseparate-code'  # constant data in the executable segment; gold has it so always
LLD_ONE_SEGMENT = '-Wl,--no-rosegment'


class X86:
    folder = 'x86'  # of program/
    by_hand = 5     # call sites of planted.hpp, at least
    objdump = 'objdump'
    trampoline_bytes = 16
    branch_site_bytes = 5
    reach = 2**31
    straddles = True  # a field may lie in two words
    # R_X86_64_: PC32, PLT32; through the table of addresses: GOTPCREL, GOTPCRELX, REX_GOTPCRELX
    relocations = {2: False, 4: False, 9: True, 41: True, 42: True}
    addend = FIELD_BYTES  # operands count from the end of the instruction
    kinds = {'call': 'call', 'callq': 'call', 'jmp': 'jmp', 'jmpq': 'jmp'}  # any other: jcc
    instruction = re.compile(r'^ *([0-9a-f]+):\t((?:[0-9a-f]{2} )+) *\t?(.*)$')
    branch = re.compile(r'^(?:(?:addr32|bnd|cs|ds|data16|notrack|rex\S*) +)*(callq?|jmpq?|j[a-z]+)(?:,p[nt])? +([0-9a-f]+)\b')
    address_taken = re.compile(r'^lea .*# ([0-9a-f]+)\b')

    @staticmethod
    def leading_to(starts, address, data):
        """The fields whose value leads to one of these."""
        for shift in range(FIELD_BYTES):
            whole = (len(data) - shift) // FIELD_BYTES * FIELD_BYTES
            at = address + shift
            for (distance,) in struct.iter_unpack('<i', data[shift:shift + whole]):
                at += FIELD_BYTES
                if at + distance in starts:
                    yield at - FIELD_BYTES


class Arm64:
    folder = 'arm64'
    by_hand = 4
    objdump = 'aarch64-linux-gnu-objdump'
    trampoline_bytes = 32
    branch_site_bytes = 4
    reach = 2**27
    straddles = False
    relocations = {282: False, 283: False}  # R_AARCH64_JUMP26, CALL26
    addend = 0
    kinds = {'bl': 'call', 'b': 'jmp'}
    instruction = re.compile(r'^ *([0-9a-f]+):\t([0-9a-f]{8}) *\t(.*)$')
    branch = re.compile(r'^(bl?)\t([0-9a-f]+)\b')
    address_taken = re.compile(r'(?!)')  # takes two instructions

    @staticmethod
    def leading_to(starts, address, data):
        skipped = -address % FIELD_BYTES
        whole = (len(data) - skipped) // FIELD_BYTES * FIELD_BYTES
        at = address + skipped - FIELD_BYTES
        for (word,) in struct.iter_unpack('<I', data[skipped:skipped + whole]):
            at += FIELD_BYTES
            words = (word & 0x3ffffff) - ((word & 0x2000000) << 1)
            if word & 0x7c000000 == 0x14000000 and at + FIELD_BYTES * words in starts:
                yield at


MACHINES = {62: X86, 183: Arm64}  # by e_machine


@dataclasses.dataclass
class Section:
    name: str
    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int

    def range(self):
        return range(self.address, self.address + self.size)

    def is_executable(self):
        return self.flags & 4 != 0


class Elf:
    def __init__(self, path):
        self.path = path
        self.data = path.read_bytes()
        if self.data[:6] != b'\x7fELF\x02\x01':
            raise Failed(f'{path.name}: no 64-bit little-endian ELF file')
        self.machine = MACHINES[self.data[18]]
        segments_at, sections_at = struct.unpack_from('<QQ', self.data, 32)
        segment_size, segments, section_size, sections, names = struct.unpack_from('<HHHHH', self.data, 54)
        self.sections = []
        for at in range(sections_at, sections_at + sections * section_size, section_size):
            name, kind, flags, address, offset, size, link, info = struct.unpack_from('<IIQQQQII', self.data, at)
            self.sections.append(Section(name, kind, flags, address, offset, size, link, info))
        for section in self.sections:
            section.name = self.text(self.sections[names], section.name)
        # Of each loaded segment: flags, address, bytes.
        self.segments = []
        for at in range(segments_at, segments_at + segments * segment_size, segment_size):
            kind, flags, offset, address, _, size = struct.unpack_from('<IIQQQQ', self.data, at)
            if kind == 1:
                self.segments.append((flags, address, self.data[offset:offset + size]))
        self.lowest = self.segments[0][1]
        # name: (address, size)
        self.symbols, self.symbol_values = {}, []
        table = self.section('.symtab')
        for at in range(table.offset, table.offset + table.size, 24):
            name, _, _, _, value, size = struct.unpack_from('<IBBHQQ', self.data, at)
            self.symbol_values.append(value)
            self.symbols[self.text(self.sections[table.link], name)] = (value, size)

    def text(self, strings, at):
        begin = strings.offset + at
        return self.data[begin:self.data.index(b'\0', begin)].decode()

    def section(self, name):
        found = [section for section in self.sections if section.name == name]
        if len(found) > 1:
            raise Failed(f'{self.path.name}: the linker made more than one section {name}')
        return found[0] if found else Section(name, 0, 0, 0, 0, 0, 0, 0)

    def contents(self, section):
        return self.data[section.offset:section.offset + section.size]

    def executable_segments(self):
        return [(address, data) for flags, address, data in self.segments if flags & 1]

    def references(self):
        """Place, what it leads to if a branch is there, and whether through the table of addresses; for all in code."""
        found = []
        for table in self.sections:
            if table.kind != 4 or table.info == 0 or not self.sections[table.info].is_executable():
                continue
            for place, info, addend in struct.iter_unpack('<QQq', self.contents(table)):
                through_table = self.machine.relocations.get(info & 0xffffffff)
                if through_table is not None:
                    found.append((place, self.symbol_values[info >> 32] + addend + self.machine.addend, through_table))
        return found


def disassembly_of(path):
    return path.with_name(path.name + '.objdump')


def disassemble(path, log):
    disassembly_of(path).write_text(run([Elf(path).machine.objdump, '-d', '-w', path], log))


class Oracle:
    """What is to be found in one object, beside which what objdump shows of it lies."""

    def __init__(self, path):
        self.elf = elf = Elf(path)
        machine = elf.machine
        trampolines = elf.section('dynfunc_text')
        self.starts = set(range(trampolines.address, trampolines.address + trampolines.size, machine.trampoline_bytes))
        left_out = [trampolines.range(), elf.section('dynfunc_chains').range()]
        missing = [name for name in PLANTED if name not in elf.symbols]
        if missing:
            raise Failed(f'{path.name}: has no {missing}')
        self.planted = [range(at, at + size) for at, size in (elf.symbols[name] for name in PLANTED)]

        # objdump; it shows symbols of objects in code as bytes
        self.instructions, self.lines = [], []  # begin and end, the line
        branches, address_taken = {}, set()     # by field: the word and its target; fields
        for line in disassembly_of(path).read_text().splitlines():
            match = machine.instruction.match(line)
            if not match:
                continue
            begin = int(match[1], 16)
            end = begin + len(bytes.fromhex(match[2]))
            self.instructions.append((begin, end))
            self.lines.append(line.strip())
            branch = machine.branch.match(match[3])
            if branch and int(branch[2], 16) in self.starts:
                branches[end - FIELD_BYTES] = machine.kinds.get(branch[1], 'jcc')
            taken = machine.address_taken.match(match[3])
            if taken and int(taken[1], 16) in self.starts:
                address_taken.add(end - FIELD_BYTES)

        def is_wanted(field):
            return not any(field in each for each in [*self.planted, *left_out])
        shown = {field for field in branches if is_wanted(field)}
        # Some linkers leave the relocation of `jmp *trampoline@GOTPCREL(%rip)` where it was, and make a jmp of it that is a byte
        # shorter.
        referred = {place - (through_table and place not in branches and place - 1 in branches)
                    for place, target, through_table in elf.references() if target in self.starts}
        linked = {place for place in referred if place in branches and is_wanted(place)}
        self.has_relocations = elf.section('.rela.text').size != 0
        if self.has_relocations and shown != linked:
            raise Failed(f'{path.name}: the linker and objdump do not agree\n' + self.differences(linked, shown, 'objdump'))
        self.sites = shown
        self.address_taken = address_taken
        self.kinds = {kind: sum(branches[site] == kind for site in shown) for kind in ('call', 'jmp', 'jcc')}
        # Every other place in executable segments whose bytes lead to a trampoline.
        self.lookalikes = {field for address, data in elf.executable_segments()
                           for field in machine.leading_to(self.starts, address, data)}
        self.lookalikes = {field for field in self.lookalikes if not any(field in each for each in left_out)} - self.sites

    def check_program_is_worth_it(self, build):
        """The sources make what this test is about, whatever the compiler did with them."""
        name = self.elf.path.name

        def need(holds, what):
            if not holds:
                raise Failed(f'{name}: {what}: the sources do not test what they are for')
        # Without optimisation a call is one through the address that Function's operator returns.
        optimised = '-O0' not in build.options
        need(len(self.sites) >= (LEAST_SITES[name] if optimised else self.elf.machine.by_hand), f'only {len(self.sites)} call sites')
        need(self.kinds['jmp'] >= (2 if '-O0' in build.options or '-O1' in build.options else 3), f'only {self.kinds["jmp"]} jmp')
        if self.elf.machine is X86:
            # by_hand has one, and clang ends functions with them.
            need(self.kinds['jcc'] >= (2 if optimised and build.compiler == 'clang' else 1), f'only {self.kinds["jcc"]} jcc')
            need(build.compiler == 'clang' or self.address_taken or '-no-pie' in build.options, 'no lea of a trampoline')
            need(self.address_taken <= self.lookalikes, 'a lea of a trampoline is among the call sites')
        executable = [range(address, address + len(data)) for address, data in self.elf.executable_segments()]
        for planted, symbol in zip(self.planted, PLANTED):
            inside = any(planted.start in each for each in executable)
            need(inside or symbol == 'planted_constant', f'{symbol} is not executable')
            need(not inside or any(each in planted for each in self.lookalikes), f'{symbol} looks like nothing')
            one_segment = any(each in build.options for each in (ONE_SEGMENT, LLD_ONE_SEGMENT))
            need(inside or not one_segment, f'{symbol} is not executable')

    def line_at(self, address):
        index = bisect.bisect(self.instructions, (address, sys.maxsize)) - 1
        if index >= 0 and address < self.instructions[index][1]:
            return self.lines[index]
        name = next((name for name, each in zip(PLANTED, self.planted) if address in each), '')
        return f'{address:x}: no instruction {name}'

    def differences(self, expected, found, finder):
        missed = [f'    {finder} missed {each:#x}: {self.line_at(each)}' for each in sorted(expected - found)]
        return '\n'.join(missed + [f'    only {finder} has {each:#x}: {self.line_at(each)}' for each in sorted(found - expected)])
