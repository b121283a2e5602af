# SPDX-License-Identifier: MIT
"""Sets a breakpoint of gdb's on a patched call site and goes on each time it is hit, while the program retargets in between.

    gdb_breakpoint.py GDB BREAKPOINT_PROGRAM

The breakpoint must be hit by each of the four calls, gdb must show the caller and the new callee (stepping into the call), and
the program must see right results and end normally.
Exit status: 0 it does, 1 it does not, 77 gdb cannot run a program here, or the site is not patched.
"""
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / 'support'))
from gdb_session import answer_to, result_of

STEP_IN = ['stepi', 'info symbol $pc', 'continue']
COMMANDS = ['break site_is_known', 'run', 'break *(unsigned long)site_address', 'continue', *(4 * STEP_IN)]
# Where the fourth call leads: its site is not patched any more.
CALLEES = ['breakpoint::one', 'breakpoint::two', 'breakpoint::one', 'Trampoline']


def main():
    gdb, program = sys.argv[1:]
    answer = answer_to(gdb, COMMANDS, program, skip_at=['not patched'])
    hits = re.findall(r'^(?:Thread \d+ .*hit )?Breakpoint 2, .* in breakpoint::call', answer, re.M)
    callees = re.findall(r'^(\S.*) in section', answer, re.M)
    good = len(hits) == 4 and len(callees) == 4 and all(name in callee for name, callee in zip(CALLEES, callees))
    return result_of(answer, '' if good else f'{len(hits)} hits, callees {callees}; expected 4, and {CALLEES}', 'good')


if __name__ == '__main__':
    sys.exit(main())
