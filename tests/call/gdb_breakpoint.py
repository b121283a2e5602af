# SPDX-License-Identifier: MIT
"""Sets a breakpoint of gdb's on a patched call site and goes on each time it is hit, while the program retargets in between.

    gdb_breakpoint.py GDB BREAKPOINT_PROGRAM

The breakpoint must be hit by each of the four calls, gdb must show the caller and the new callee (stepping into the call), and
the program must see right results and end normally.
Exit status: 0 it does, 1 it does not, 77 gdb cannot run a program here, or the site is not patched.
"""
import os
import re
import subprocess
import sys

SKIP = 77
STEP_IN = ['stepi', 'info symbol $pc', 'continue']
COMMANDS = ['set confirm off', 'set pagination off', 'set width 0', 'set debuginfod enabled off', 'break site_is_known', 'run',
            'break *(unsigned long)site_address', 'continue', *(4 * STEP_IN)]
# Where the fourth call leads: its site is not patched any more.
CALLEES = ['breakpoint::one', 'breakpoint::two', 'breakpoint::one', 'Trampoline']


def main():
    gdb, program = sys.argv[1:]
    command = [gdb, '-nx', '-batch', *(part for each in COMMANDS for part in ('-ex', each)), '--args', program]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              errors='replace', timeout=60, env=os.environ | {'LC_ALL': 'C'})
    except subprocess.TimeoutExpired as expired:
        print(f'gdb does not end:\n{(expired.stdout or b"").decode(errors="replace")}')
        return 1
    answer = done.stdout
    if 'ptrace' in answer or "Couldn't get registers" in answer or 'During startup program' in answer or 'not patched' in answer:
        print(f'gdb cannot run a program here, or nothing is patched:\n{answer}')
        return SKIP
    hits = re.findall(r'^(?:Thread \d+ .*hit )?Breakpoint 2, .* in breakpoint::call', answer, re.M)
    callees = re.findall(r'^(\S.*) in section', answer, re.M)
    if len(hits) != 4 or len(callees) != 4 or not all(name in callee for name, callee in zip(CALLEES, callees)):
        print(f'{len(hits)} hits, callees {callees}; expected 4, and {CALLEES}\n{answer}')
        return 1
    if 'good' not in answer or 'exited normally' not in answer:
        print(f'the program did not go on to its end:\n{answer}')
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
