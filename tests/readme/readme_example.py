# SPDX-License-Identifier: MIT
"""Takes the first ```cpp block of the README, compiles it as it stands, and runs it.

    readme_example.py --readme FILE --compiler CMD --include DIR... --library FILE [--needs NAME]...

Exit status: 0 if it compiles without a warning and the program ends well, 1 otherwise.
"""
import argparse
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile


def first_example(readme):
    """The text of the block, and its line in the README; None if there is no such block."""
    text = readme.read_text(encoding='utf-8')
    block = re.search(r'^```cpp[^\n]*\n(.*?)^```\s*$', text, re.M | re.S)
    if block is None:
        return None
    return block[1], text.count('\n', 0, block.start(1)) + 1


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--readme', required=True, type=pathlib.Path)
    parser.add_argument('--compiler', required=True)
    parser.add_argument('--include', action='append', default=[])
    parser.add_argument('--library', required=True)
    parser.add_argument('--needs', action='append', default=[], help='what the library is linked with')
    arguments = parser.parse_args()

    if not arguments.readme.is_file():
        print(f'{arguments.readme} does not exist')
        return 1
    example = first_example(arguments.readme)
    if example is None:
        print(f'{arguments.readme} has no ```cpp block: the first one is the example that a reader copies')
        return 1
    code, line = example
    if 'main(' not in code:
        print(f'{arguments.readme}:{line}: the first ```cpp block is no whole program: it has no main()')
        return 1
    with tempfile.TemporaryDirectory(prefix='dynfunc-readme-') as folder:
        source, program = pathlib.Path(folder, 'example.cpp'), pathlib.Path(folder, 'example')
        source.write_text(f'#line {line} "{arguments.readme}"\n{code}', encoding='utf-8')
        command = [*shlex.split(arguments.compiler), '-std=c++23', '-O2', '-Wall', '-Wextra', '-Werror']
        command += [f'-I{include}' for include in arguments.include]
        command += [source, '-o', program, arguments.library, '-pthread', *(f'-l{name}' for name in arguments.needs)]
        built = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors='replace')
        if built.returncode != 0:
            print(f'{arguments.readme}:{line}: the example does not compile\n{shlex.join(map(str, command))}\n{built.stdout}')
            return 1
        try:
            ran = subprocess.run([program], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                 text=True, errors='replace', timeout=60)
        except subprocess.TimeoutExpired:
            print(f'{arguments.readme}:{line}: the example does not end within 60 s')
            return 1
        print(ran.stdout, end='')
        if ran.returncode != 0:
            print(f'{arguments.readme}:{line}: the example ends with status {ran.returncode}')
            return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
