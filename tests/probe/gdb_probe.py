# SPDX-License-Identifier: MIT
"""Stops probe_test in a handler of a probe and looks at what gdb makes of the stack there.

    gdb_probe.py GDB PROBE_TEST

The stack must hold, in this order, the handler, what handed the hit on, the stub (which stands for an interrupted function), the
probed function, its caller and main; and the program must go on to its end afterwards.
Exit status: 0 it does, 1 it does not, 77 gdb cannot run a program here, or nothing can be probed.
"""
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / 'support'))
from gdb_session import answer_to, result_of

STOPPED_IN = 'probe_test_breakpoint'
COMMANDS = [f'break {STOPPED_IN}', 'run', 'backtrace', 'delete', 'continue']
WANTED = [STOPPED_IN, 'dynfunc_probe_hit', '<signal handler called>', 'walk_add', 'calls_early', r'in main \(']


def main():
    gdb, program = sys.argv[1:]
    answer = answer_to(gdb, COMMANDS, program, '--gtest_filter=*ADebuggerShowsTheChain', skip_at=['cannot patch code'])
    rest = iter([line for line in answer.splitlines() if line.startswith('#')])
    missing = [want for want in WANTED if not any(re.search(want, line) for line in rest)]
    problem = f'the stack lacks {missing[0]}, or has not in this order: {WANTED}' if missing else ''
    return result_of(answer, problem, '[  PASSED  ]')


if __name__ == '__main__':
    sys.exit(main())
