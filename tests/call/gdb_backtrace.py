# SPDX-License-Identifier: MIT
"""Stops unwind_test in a callback, the second of three, and looks at what gdb makes of the stack there.

    gdb_backtrace.py GDB UNWIND_TEST [FRAME...]

The stack must hold the callback, each FRAME (a part of a line) and main, in this order, and the program must go on to its end
afterwards. Exit status: 0 it does, 1 it does not, 77 gdb cannot run a program here.
"""
import os
import subprocess
import sys

SKIP = 77
STOPPED_IN = 'unwinding_breakpoint'
COMMANDS = ['set confirm off', 'set pagination off', 'set width 0', 'set debuginfod enabled off', f'break {STOPPED_IN}', 'run',
            'backtrace', 'delete', 'continue']


def main():
    gdb, program, *frames = sys.argv[1:]
    command = [gdb, '-nx', '-batch', *(part for each in COMMANDS for part in ('-ex', each)), '--args', program,
               '--gtest_filter=TracepointDebugger.*']
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              errors='replace', timeout=60, env=os.environ | {'LC_ALL': 'C'})
    except subprocess.TimeoutExpired as expired:
        print(f'gdb does not end:\n{(expired.stdout or b"").decode(errors="replace")}')
        return 1
    answer = done.stdout
    if 'ptrace' in answer or "Couldn't get registers" in answer or 'During startup program' in answer:
        print(f'gdb cannot run a program here:\n{answer}')
        return SKIP
    stack = [line for line in answer.splitlines() if line.startswith('#')]
    wanted = [STOPPED_IN, *frames, 'main (']
    rest = iter(stack)
    missing = [want for want in wanted if not any(want in line for line in rest)]
    if missing:
        print(f'the stack lacks, in the order {wanted}: {missing[0]}\n{answer}')
        return 1
    if '[  PASSED  ]' not in answer or 'exited normally' not in answer:
        print(f'the program did not go on to its end:\n{answer}')
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
