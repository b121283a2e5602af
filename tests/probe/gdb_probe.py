# SPDX-License-Identifier: MIT
"""Stops probe_test in a handler of a probe, and return_probe_test in calls that are tracked, and looks at what gdb makes of the
stack there.

    gdb_probe.py GDB PROBE_TEST RETURN_PROBE_TEST

In a handler of a probe the stack must hold, in this order, the handler, what handed the hit on, the stub (which stands for an
interrupted function), the probed function, its caller and main. In ten calls that are tracked, and in a handler that is called at
the return of one, it must hold the callers as if nothing was tracked; at each instruction of such a call too. And the program must
go on to its end afterwards.
Exit status: 0 it does, 1 it does not, 77 gdb cannot run a program here, or nothing can be probed.
"""
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / 'support'))
from gdb_session import answer_to, result_of

MAIN = r'in main \('


def stop_in(function):
    return [f'break {function}', 'run', 'backtrace', 'delete', 'continue']


def links(first, last):
    return [f'link<{level}' for level in range(first, last - 1, -1)]


def step():
    """Run by gdb: from where the program stops, behind it, through the call that follows."""
    import gdb
    caller = gdb.selected_frame().older().name()
    gdb.execute('finish', to_string=True)
    steps = lost = inside = 0
    for steps in range(20000):
        gdb.execute('stepi', to_string=True)
        names, frame = [], gdb.newest_frame()
        while frame is not None:
            names.append(frame.name())
            frame = frame.older()
        if names[0] == caller:
            if inside:
                break
            continue
        inside += 1
        if caller not in names or 'main' not in names:
            lost += 1
            if lost == 1:
                print('the first:', names)
    print(f'{inside} instructions inside, {lost} without their callers')


HERE = str(pathlib.Path(__file__).resolve())
STEP = ['break return_test_breakpoint', 'run',
        f"python mine = {{'__file__': {HERE!r}, '__name__': ''}}; exec(open({HERE!r}).read(), mine); mine['step']()", 'delete',
        'continue']
SESSIONS = [
    # program, test, commands, lines of the backtrace in this order, lines that must not be there
    (0, 'ADebuggerShowsTheChain', stop_in('probe_test_breakpoint'),
     ['probe_test_breakpoint', 'dynfunc_probe_hit', '<signal handler called>', 'walk_add', 'calls_early', MAIN], None),
    (1, 'ADebuggerShowsTheCallersOfACallInFlight', stop_in('return_test_breakpoint'),
     ['return_test_breakpoint', *links(9, 0), MAIN], None),
    (1, 'ADebuggerShowsTheCallersInAHandler', stop_in('return_test_breakpoint'),
     ['return_test_breakpoint', *links(1, 0), MAIN], links(2, 2)[0]),
]


def look(gdb, programs):
    for program, test, commands, wanted, unwanted in SESSIONS:
        answer = answer_to(gdb, commands, programs[program], f'--gtest_filter=*{test}', skip_at=['cannot patch code'])
        stack = [line for line in answer.splitlines() if line.startswith('#')]
        rest = iter(stack)
        missing = [want for want in wanted if not any(re.search(want, line) for line in rest)]
        problem = f'{test}: the stack lacks {missing[0]}, or has not in this order: {wanted}' if missing else ''
        if unwanted and any(unwanted in line for line in stack):
            problem = f'{test}: {unwanted} has returned, and is on the stack'
        if result_of(answer, problem, '[  PASSED  ]') != 0:
            return 1
    answer = answer_to(gdb, STEP, programs[1], '--gtest_filter=*ADebuggerStepsThroughACall')
    found = re.search(r'(\d+) instructions inside, (\d+) without their callers', answer)
    problem = 'stepping through a call: '
    if not found:
        problem += 'gdb has no Python, or did not come to the end'
    elif int(found[1]) < 100:
        problem += f'only {found[1]} instructions'
    elif int(found[2]) != 0:
        problem += f'at {found[2]} of {found[1]} instructions the callers are missing'
    else:
        problem = ''
    return result_of(answer, problem, '[  PASSED  ]')


if __name__ == '__main__':
    sys.exit(look(sys.argv[1], sys.argv[2:]))
