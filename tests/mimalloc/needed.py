# SPDX-License-Identifier: MIT
"""Checks which binaries load mimalloc: what links dynfunc-mimalloc, and nothing else.

    needed.py [--with BINARY]... [--without BINARY]...
"""
import argparse
import re
import subprocess
import sys


def needed(binary):
    dynamic = subprocess.run(['readelf', '-dW', binary], check=True, capture_output=True, text=True).stdout
    return re.findall(r'\(NEEDED\).*\[(.*)\]', dynamic)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--with', action='append', default=[], dest='loading')
    parser.add_argument('--without', action='append', default=[])
    arguments = parser.parse_args()
    wrong = 0
    for binary, loads in [(each, True) for each in arguments.loading] + [(each, False) for each in arguments.without]:
        libraries = needed(binary)
        if not libraries or any('mimalloc' in name for name in libraries) != loads:
            print(f'{binary} should {"" if loads else "not "}need mimalloc; it needs {libraries}')
            wrong = 1
    return wrong


if __name__ == '__main__':
    sys.exit(main())
