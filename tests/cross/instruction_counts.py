# SPDX-License-Identifier: MIT
"""How many instructions operations of the library execute, on several machines beside each other, in qemu-system.

    instruction_counts.py [--output FILE] --guest MACHINE KERNEL_FOLDER PROGRAM ...

With -icount shift=0 an instruction of the guest is a nanosecond of its time, whatever it is, so that the guest's clock counts
instructions: x86's time stamp counter each, arm64's generic timer, of 62.5 MHz, each sixteenth. PROGRAM is bench/instructions.cpp,
which finds out whether that is so. It runs in each form that dynamic functions can have. Prints a table, and writes it to FILE.
Exit status: 1 if a guest did not say everything, or if a count is above its limit (LIMITS).
"""
import argparse
import concurrent.futures
import os
import queue
import re
import shlex
import sys
import tempfile
import time

import guest

INSTRUCTIONS_PER_TICK = {'x86-64': 1, 'arm64': 16}
FORMS = ['', 'slot', 'pointer']  # of DYNFUNC_BACKEND
SECONDS = 300
# What no machine is to exceed: what the design says, or what was counted and a quarter.
LIMITS = {
    ('call', 'dynamic function, patched'): 3,
    ('call', 'dynamic function, patched call site'): 2,
    ('branch', 'static key, off, patched'): 1,
    ('branch', 'static key, on, patched'): 2,
    ('tracepoint', 'off, patched'): 1,
    ('tracepoint', '1 callback, direct, patched'): 8,
    ('tracepoint', '8 callbacks, generated, patched'): 80,
    ('added to a call by', 'probe, handler without vector registers'): 190,
    ('added to a call by', 'probe, any handler'): 310,
    ('added to a call by', 'return probe, handlers at entry and return'): 470,
    ('added to a call by', 'typed probe'): 190,
    ('added to a call by', 'typed wrap'): 140,
    ('pop and push', 'object pool, restartable'): 60,
    ('pop and push', 'object pool, tagged'): 160,
    ('read section', 'open and close'): 18,
}


def init_of(program, ticks):
    runs = (f'{"DYNFUNC_BACKEND=" + form if form else ""} {shlex.quote(program)} {ticks} 2>&1' for form in FORMS)
    return guest.SETUP + '\n'.join(runs) + '\necho @@all\npoweroff -f\n'


def counts_of(name, kernel, program):
    """(section, operation) -> instructions, in the order of the program; and what was said if that is not all."""
    machine, program = guest.MACHINES[name], os.path.abspath(program)
    counts, said, done = {}, [], 0
    with tempfile.TemporaryDirectory() as folder:
        files = guest.Files(machine, os.path.join(folder, 'root'), kernel)
        files.put_program(program)
        files.put_library('libgcc_s.so.1')  # which glibc loads by itself
        files.write('/init', init_of(program, INSTRUCTIONS_PER_TICK[name]))
        image = files.pack(os.path.join(folder, 'image'))
        words = ['-icount', 'shift=0,sleep=off', '-smp', '1', '-m', '512M']
        until = time.monotonic() + SECONDS
        with guest.Guest(machine, os.path.join(kernel, 'vmlinuz'), image, words) as running:
            try:
                while (line := running.line(until)) not in (None, '@@all'):
                    said.append(line)
                    if found := re.match(r'@@count (.*)\|(.*)\|(.*)', line):
                        counts[found[1], found[2]] = float(found[3])
                    done += line == '@@done'
            except queue.Empty:
                said.append(f'{SECONDS} seconds are over')
    return counts, None if done == len(FORMS) else said


def table_of(counts):
    """Lines of text. Sections, and the operations of each, in the order in which they were first counted."""
    sections = {}
    for each in counts.values():
        for section, operation in each:
            operations = sections.setdefault(section, [])
            if operation not in operations:
                operations.append(operation)
    rows = [['operation', *counts, 'ratio']]
    for section, operations in sections.items():
        rows.append([f'**{section}**', *[''] * len(counts), ''])
        for operation in operations:
            values = [each.get((section, operation)) for each in counts.values()]
            both = len(values) == 2 and None not in values and values[0] > 0
            rows.append([operation, *['-' if value is None else f'{value:.1f}' for value in values],
                         f'{values[1] / values[0]:.2f}' if both else ''])
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ['| ' + ' | '.join([row[0].ljust(widths[0]), *(word.rjust(width) for word, width in zip(row[1:], widths[1:]))]) + ' |'
             for row in rows]
    lines.insert(1, '|' + '-' * (widths[0] + 2) + '|' + '|'.join('-' * (width + 1) + ':' for width in widths[1:]) + '|')
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--guest', nargs=3, action='append', required=True, metavar=('MACHINE', 'KERNEL_FOLDER', 'PROGRAM'))
    parser.add_argument('--output')
    arguments = parser.parse_args()
    counts, status = {}, 0
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for (name, _, _), (counted, said) in zip(arguments.guest, pool.map(lambda words: counts_of(*words), arguments.guest)):
            counts[name] = counted
            if said is not None:
                status = 1
                print(f'the guest of {name} did not come to its end:', *said[-40:], sep='\n      ')
    lines = table_of(counts)
    print('\n'.join(lines))
    for name, each in counts.items():
        for (section, operation), most in LIMITS.items():
            count = each.get((section, operation))
            if count is None or round(count, 1) > most:
                status = 1
                print(f'{name}: {section}: {operation}: {"was not counted" if count is None else f"{count}, at most {most}"}')
    if arguments.output:
        with open(arguments.output, 'w', encoding='utf-8') as file:
            file.write('\n'.join(lines) + '\n')
    return status


if __name__ == '__main__':
    sys.exit(main())
