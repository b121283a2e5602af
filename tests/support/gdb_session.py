# SPDX-License-Identifier: MIT
"""A program, run by gdb: what the tests with gdb have in common."""
import os
import subprocess
import sys

SKIP = 77
QUIET = ['set confirm off', 'set pagination off', 'set width 0', 'set debuginfod enabled off']
CANNOT_RUN = ['ptrace', "Couldn't get registers", 'During startup program']


def answer_to(gdb, commands, program, *arguments, skip_at=()):
    """What gdb and the program print. Ends this test where gdb does not end (1), or cannot run a program here (77)."""
    command = [gdb, '-nx', '-batch', *(part for each in [*QUIET, *commands] for part in ('-ex', each)), '--args', program,
               *arguments]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              errors='replace', timeout=60, env=os.environ | {'LC_ALL': 'C'})
    except subprocess.TimeoutExpired as expired:
        print(f'gdb does not end:\n{(expired.stdout or b"").decode(errors="replace")}')
        sys.exit(1)
    if any(word in done.stdout for word in [*CANNOT_RUN, *skip_at]):
        print(f'gdb cannot run a program here, or this one has nothing to show:\n{done.stdout}')
        sys.exit(SKIP)
    return done.stdout


def result_of(answer, problem, passed):
    """Exit status, of a test that found a problem or none; the program must have gone on to its end."""
    if problem:
        print(f'{problem}\n{answer}')
        return 1
    if passed not in answer or 'exited normally' not in answer:
        print(f'the program did not go on to its end:\n{answer}')
        return 1
    return 0
