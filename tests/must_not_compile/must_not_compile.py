# SPDX-License-Identifier: MIT
"""Compiles one case and holds the compiler's answer against what the case says of it.

    must_not_compile.py --compiler CMD [--include DIR...] CASE.cpp

The head of a case says what the errors must contain: `// expect: TEXT` for every compiler, `// expect g++: TEXT` or
`// expect clang++: TEXT` for one. A case with no such line is a control: it must compile, which shows that the others do not
fail for a reason of no interest. Exit status: 0 as expected, 1 not.
"""
import argparse
import os
import re
import shlex
import subprocess
import sys


def expectations(text, kind):
    return [expected for who, expected in re.findall(r'^// expect(?: (\S+))?: (.+)$', text, re.M) if who in ('', kind)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--compiler', required=True)
    parser.add_argument('--include', action='append', default=[])
    parser.add_argument('case')
    arguments = parser.parse_args()

    with open(arguments.case, encoding='utf-8') as file:
        text = file.read()
    is_control = not re.search(r'^// expect', text, re.M)
    kind = 'clang++' if 'clang' in arguments.compiler else 'g++'
    expected = expectations(text, kind)
    if not is_control and not expected:
        print(f'{arguments.case}: says nothing about {kind}')
        return 1

    command = [*shlex.split(arguments.compiler), '-std=c++23', '-Wall', '-Wextra', '-Werror', '-fsyntax-only']
    command += [f'-I{include}' for include in arguments.include] + [arguments.case]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors='replace',
                          env=os.environ | {'LC_ALL': 'C'})
    answer = done.stdout
    missing = [want for want in expected if want not in answer]
    if is_control and done.returncode != 0:
        problem = 'must compile, and does not'
    elif not is_control and done.returncode == 0:
        problem = 'must not compile, and does'
    elif missing:
        problem = 'does not compile, but the errors lack: ' + '; '.join(missing)
    else:
        return 0
    print(f'{arguments.case}: {problem}\n{shlex.join(command)}\n{answer}')
    return 1


if __name__ == '__main__':
    sys.exit(main())
