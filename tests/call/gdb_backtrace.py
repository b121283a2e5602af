# SPDX-License-Identifier: MIT
"""Stops unwind_test in a callback, the second of three, and looks at what gdb makes of the stack there.

    gdb_backtrace.py GDB UNWIND_TEST

The stack must hold, in this order, the callback, what called it (generated code, or the walk over the list where this process
cannot patch), the function that fired and main; and the program must go on to its end afterwards.
Exit status: 0 it does, 1 it does not, 77 gdb cannot run a program here.
"""
import os
import re
import subprocess
import sys

SKIP = 77
STOPPED_IN = 'unwinding_breakpoint'
COMMANDS = ['set confirm off', 'set pagination off', 'set width 0', 'set debuginfod enabled off', f'break {STOPPED_IN}', 'run',
            'backtrace', 'delete', 'continue']


def main():
    gdb, program = sys.argv[1:]
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
    caller = 'ChainRoom|dynfunc_chain_base' if 'dynfunc: patched text' in answer else '::iterate'
    wanted = [STOPPED_IN, caller, '::fire', r'in main \(']
    rest = iter(stack)
    missing = [want for want in wanted if not any(re.search(want, line) for line in rest)]
    if missing:
        print(f'the stack lacks {missing[0]}, or has not in this order: {wanted}\n{answer}')
        return 1
    if '[  PASSED  ]' not in answer or 'exited normally' not in answer:
        print(f'the program did not go on to its end:\n{answer}')
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
