# SPDX-License-Identifier: MIT
"""Installs the library to a temporary place and builds main.cpp against it as a user would; runs it; checks what it prints.

    consumer.py WAY... --source-root DIR --build-root DIR --compiler CMD [--generic] [--mimalloc] [--inspect]

WAY: pkg-config, cmake (both with the shared and the static library) or subproject (Meson builds the library from source).
The library is installed below a DESTDIR, so everything found there has been moved since it was configured.
Exit status: 0 all good, 1 something failed, 77 a program that a way needs is missing.
"""
import argparse
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
EXPECTED = 'int(int) shop::final_price: 200, then 180\n'
EXPECTED_OF_HEAP = '1000 numbers in a heap of their own\n'
EXPECTED_OF_INSPECT = '3 pieces, 36: price takes a jump\n'
NEEDS = {'pkg-config': ['pkg-config'], 'cmake': ['cmake'], 'subproject': []}


class Failed(Exception):
    pass


def run(*command, env=None):
    command = [str(word) for word in command]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors='replace',
                          env=os.environ | (env or {}))
    if done.returncode != 0:
        raise Failed(f'{shlex.join(command)}\nended with status {done.returncode}\n{done.stdout}{done.stderr}')
    return done.stdout


def check_program(program, shared, env=None, expected=EXPECTED, library='libdynfunc.so'):
    printed = run(program, env=env)
    if printed != expected:
        raise Failed(f'{program} printed {printed!r}, expected {expected!r}')
    needs_library = library in run('readelf', '-dW', program)
    if needs_library != shared:
        raise Failed(f'{program} was to be linked with the {"shared" if shared else "static"} library and is not')


def install(arguments, folder):
    run(*arguments.meson, 'install', '-C', arguments.build_root, '--no-rebuild', '--quiet', '--destdir', folder)
    found = sorted(folder.rglob('dynfunc.pc'))
    if len(found) != 1:
        raise Failed(f'the installed tree has {len(found)} files dynfunc.pc: {found}')
    libraries = found[0].parent.parent
    for name in ('libdynfunc.so', 'libdynfunc.so.0', 'libdynfunc.a'):
        if not (libraries / name).exists():
            raise Failed(f'{name} was not installed beside {found[0]}')
    prefix = next(folder.rglob('dynfunc.hpp')).parent.parent.parent
    for name, expected in (('mimalloc', arguments.mimalloc), ('inspect', arguments.inspect)):
        if (libraries / f'libdynfunc-{name}.so').exists() != expected:
            raise Failed(f'libdynfunc-{name}.so was{" not" if expected else ""} installed')
    for library in sorted(libraries.glob('libdynfunc*.so')):
        for line in run('nm', '-DC', '--defined-only', library).splitlines():
            if 'dynfunc' not in line and '__jit_debug_' not in line:  # those are gdb's to know
                raise Failed(f'{library.name} exports what is not its own: {line}')
    for header in sorted((arguments.source_root / 'include/dynfunc').rglob('*.hpp')):
        relative = header.relative_to(arguments.source_root / 'include')
        expected = {'mimalloc_heap.hpp': arguments.mimalloc, 'inspect.hpp': arguments.inspect}.get(relative.name, True)
        if (prefix / 'include' / relative).exists() != expected:
            raise Failed(f'{relative} was{" not" if expected else ""} installed')
    return prefix, libraries


def with_pkg_config(arguments, folder):
    prefix, libraries = install(arguments, folder / 'installed')
    search = {'PKG_CONFIG_PATH': str(libraries / 'pkgconfig')}
    moved = f'--define-variable=prefix={prefix}'
    flags = run('pkg-config', moved, '--cflags', 'dynfunc', env=search).split()
    compile_it = [*shlex.split(arguments.compiler), '-std=c++23', '-O2', *flags, HERE / 'main.cpp', '-o']
    run(*compile_it, folder / 'shared', *run('pkg-config', moved, '--libs', 'dynfunc', env=search).split())
    check_program(folder / 'shared', True, {'LD_LIBRARY_PATH': str(libraries)})
    static = run('pkg-config', moved, '--static', '--libs', 'dynfunc', env=search).split()
    static = ['-l:libdynfunc.a' if word == '-ldynfunc' else word for word in static]
    run(*compile_it, folder / 'static', *static)
    check_program(folder / 'static', False)
    kind = 'clang' if 'clang' in arguments.compiler else 'gcc'
    align = run('pkg-config', moved, f'--variable=align_cflags_{kind}', 'dynfunc', env=search).split()
    if not arguments.generic and not align:
        raise Failed(f'dynfunc.pc has no align_cflags_{kind}')
    run(*compile_it, folder / 'aligned', *align, *static)
    check_program(folder / 'aligned', False)
    for name, package, expected in extras(arguments):
        extra_with_pkg_config(arguments, folder, moved, search, libraries, name, package, expected)


def extras(arguments):
    """Of each library beside the core: its program, its name, what the program prints."""
    if arguments.mimalloc:
        yield 'heap', 'dynfunc-mimalloc', EXPECTED_OF_HEAP
    if arguments.inspect:
        yield 'inspect', 'dynfunc-inspect', EXPECTED_OF_INSPECT


def extra_with_pkg_config(arguments, folder, moved, search, libraries, name, package, expected):
    flags = run('pkg-config', moved, '--cflags', package, env=search).split()
    compile_it = [*shlex.split(arguments.compiler), '-std=c++23', '-O2', *flags, HERE / f'{name}.cpp', '-o']
    run(*compile_it, folder / name, *run('pkg-config', moved, '--libs', package, env=search).split())
    check_program(folder / name, True, {'LD_LIBRARY_PATH': str(libraries)}, expected, f'lib{package}.so')
    static = run('pkg-config', moved, '--static', '--libs', package, env=search).split()
    static = [f'-l:lib{word[2:]}.a' if word in (f'-l{package}', '-ldynfunc') else word for word in static]
    run(*compile_it, folder / f'{name}_static', *static)
    check_program(folder / f'{name}_static', False, None, expected, 'libdynfunc')


def with_cmake(arguments, folder):
    prefix, _ = install(arguments, folder / 'installed')
    for shared in (True, False):
        build = folder / ('shared' if shared else 'static')
        run('cmake', '-G', 'Ninja', '-S', HERE / 'cmake', '-B', build, f'-DCMAKE_PREFIX_PATH={prefix}', '-DCMAKE_BUILD_TYPE=Release',
            f'-DBUILD_SHARED_LIBS={"ON" if shared else "OFF"}', f'-DCMAKE_CXX_COMPILER={shlex.split(arguments.compiler)[-1]}')
        run('cmake', '--build', build)
        check_program(build / 'consumer', shared)
        for name, target, expected in (('heap', 'mimalloc', arguments.mimalloc), ('inspect', 'inspect', arguments.inspect)):
            if (build / name).exists() != expected:
                raise Failed(f'there is {"no" if expected else "a"} target dynfunc::{target}')
        for name, package, expected in extras(arguments):
            check_program(build / name, shared, None, expected, f'lib{package}.so')
    try:
        run('cmake', '-G', 'Ninja', '-S', HERE / 'cmake', '-B', folder / 'none', f'-DCMAKE_PREFIX_PATH={folder / "nothing"}',
            '-DCMAKE_FIND_USE_CMAKE_SYSTEM_PATH=OFF', '-DCMAKE_FIND_USE_SYSTEM_ENVIRONMENT_PATH=OFF')
    except Failed:
        return
    raise Failed('find_package(dynfunc) found something where nothing is installed: this test would not notice a broken package')


def with_subproject(arguments, folder):
    project = folder / 'project'
    (project / 'subprojects').mkdir(parents=True)
    shutil.copy(HERE / 'meson/meson.build', project)
    for program in ('main.cpp', 'heap.cpp', 'inspect.cpp'):
        shutil.copy(HERE / program, project)
    (project / 'subprojects/dynfunc').symlink_to(arguments.source_root)
    build = folder / 'build'
    first = ['-Ddynfunc:dynfunc_backend=generic'] if arguments.generic else ['-Ddynfunc:align_call_sites=true']
    run(*arguments.meson, 'setup', '--wrap-mode=nodownload', *first, build, project, env={'CXX': arguments.compiler})
    run(*arguments.meson, 'compile', '-C', build, 'consumer')
    check_program(build / 'consumer', False)
    for name, package, expected in extras(arguments):
        run(*arguments.meson, 'compile', '-C', build, name)
        check_program(build / name, False, None, expected, f'lib{package}.so')
    # Without what reads instructions the library is whole but for patched call sites.
    run(*arguments.meson, 'configure', build, '-Ddynfunc:decoder=disabled')
    run(*arguments.meson, 'compile', '-C', build, 'consumer')
    check_program(build / 'consumer', False)


WAYS = {'pkg-config': with_pkg_config, 'cmake': with_cmake, 'subproject': with_subproject}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('ways', nargs='+', choices=WAYS)
    parser.add_argument('--source-root', required=True, type=pathlib.Path)
    parser.add_argument('--build-root', required=True, type=pathlib.Path)
    parser.add_argument('--compiler', required=True)
    parser.add_argument('--meson', type=shlex.split, default=['meson'])
    parser.add_argument('--generic', action='store_true')
    parser.add_argument('--mimalloc', action='store_true', help='dynfunc-mimalloc was built')
    parser.add_argument('--inspect', action='store_true', help='dynfunc-inspect was built')
    arguments = parser.parse_args()
    arguments.source_root = arguments.source_root.resolve()

    result = 0
    for way in arguments.ways:
        missing = [program for program in NEEDS[way] if shutil.which(program) is None]
        if missing:
            print(f'{way}: skipped, {" ".join(missing)} is not installed')
            result = result or 77
            continue
        with tempfile.TemporaryDirectory(prefix='dynfunc-consumer-') as folder:
            try:
                WAYS[way](arguments, pathlib.Path(folder))
                print(f'{way}: good')
            except Failed as failure:
                print(f'{way}: {failure}')
                result = 1
    return result


if __name__ == '__main__':
    sys.exit(main())
