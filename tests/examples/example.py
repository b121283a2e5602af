# SPDX-License-Identifier: MIT
"""Runs the program under test, whose path is the first argument, in any form."""
import os
import subprocess
import sys
import unittest

PROGRAM = sys.argv.pop(1)
FORMS = (None, "slot", "pointer")  # as DYNFUNC_BACKEND forces them; None: the best one
POOLS = (None, "tagged", "single")  # as DYNFUNC_POOL forces the back end of object pools


def run(*args, form=None, pool=None, stdin=""):
    """`form`: one of FORMS. `pool`: one of POOLS. `stdin`: text or bytes."""
    env = {k: v for k, v in os.environ.items() if k not in ("DYNFUNC_BACKEND", "DYNFUNC_POOL")}
    if form is not None:
        env["DYNFUNC_BACKEND"] = form
    if pool is not None:
        env["DYNFUNC_POOL"] = pool
    data = stdin if isinstance(stdin, bytes) else stdin.encode()
    done = subprocess.run([PROGRAM, *args], input=data, capture_output=True, env=env, timeout=100)
    done.out = done.stdout.decode(errors="replace").splitlines()
    done.err = done.stderr.decode(errors="replace").splitlines()
    return done


TestCase = unittest.TestCase
main = unittest.main
