# SPDX-License-Identifier: MIT
"""Stops unwind_test in a callback, the second of three, and looks at what gdb makes of the stack there.

    gdb_backtrace.py GDB UNWIND_TEST

The stack must hold, in this order, the callback, what called it (generated code, or the walk over the list where this process
cannot patch), the function that fired and main; and the program must go on to its end afterwards.
Exit status: 0 it does, 1 it does not, 77 gdb cannot run a program here.
"""
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / 'support'))
from gdb_session import answer_to, result_of

STOPPED_IN = 'unwinding_breakpoint'
COMMANDS = [f'break {STOPPED_IN}', 'run', 'backtrace', 'delete', 'continue']


def main():
    gdb, program = sys.argv[1:]
    answer = answer_to(gdb, COMMANDS, program, '--gtest_filter=TracepointDebugger.*')
    stack = [line for line in answer.splitlines() if line.startswith('#')]
    caller = 'ChainRoom|dynfunc_chain_base' if 'dynfunc: patched text' in answer else '::iterate'
    wanted = [STOPPED_IN, caller, '::fire', r'in main \(']
    rest = iter(stack)
    missing = [want for want in wanted if not any(re.search(want, line) for line in rest)]
    problem = f'the stack lacks {missing[0]}, or has not in this order: {wanted}' if missing else ''
    return result_of(answer, problem, '[  PASSED  ]')


if __name__ == '__main__':
    sys.exit(main())
