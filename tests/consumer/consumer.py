# SPDX-License-Identifier: MIT
"""Installs the library to a temporary place and builds main.cpp against it as a user would; runs it; checks what it prints.

    consumer.py WAY... --source-root DIR --build-root DIR --compiler CMD [--generic] [--mimalloc]

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
    if (libraries / 'libdynfunc-mimalloc.so').exists() != arguments.mimalloc:
        raise Failed(f'libdynfunc-mimalloc.so was{" not" if arguments.mimalloc else ""} installed')
    for library in sorted(libraries.glob('libdynfunc*.so')):
        for line in run('nm', '-DC', '--defined-only', library).splitlines():
            if 'dynfunc' not in line:
                raise Failed(f'{library.name} exports what is not its own: {line}')
    for header in sorted((arguments.source_root / 'include/dynfunc').rglob('*.hpp')):
        relative = header.relative_to(arguments.source_root / 'include')
        expected = relative.name != 'mimalloc_heap.hpp' or arguments.mimalloc
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
    if arguments.mimalloc:
        heap_with_pkg_config(arguments, folder, moved, search, libraries)


def heap_with_pkg_config(arguments, folder, moved, search, libraries):
    flags = run('pkg-config', moved, '--cflags', 'dynfunc-mimalloc', env=search).split()
    compile_it = [*shlex.split(arguments.compiler), '-std=c++23', '-O2', *flags, HERE / 'heap.cpp', '-o']
    run(*compile_it, folder / 'heap', *run('pkg-config', moved, '--libs', 'dynfunc-mimalloc', env=search).split())
    check_program(folder / 'heap', True, {'LD_LIBRARY_PATH': str(libraries)}, EXPECTED_OF_HEAP, 'libdynfunc-mimalloc.so')
    static = run('pkg-config', moved, '--static', '--libs', 'dynfunc-mimalloc', env=search).split()
    static = ['-l:libdynfunc-mimalloc.a' if word == '-ldynfunc-mimalloc' else word for word in static]
    run(*compile_it, folder / 'heap_static', *static)
    check_program(folder / 'heap_static', False, None, EXPECTED_OF_HEAP, 'libdynfunc-mimalloc.so')


def with_cmake(arguments, folder):
    prefix, _ = install(arguments, folder / 'installed')
    for shared in (True, False):
        build = folder / ('shared' if shared else 'static')
        run('cmake', '-G', 'Ninja', '-S', HERE / 'cmake', '-B', build, f'-DCMAKE_PREFIX_PATH={prefix}', '-DCMAKE_BUILD_TYPE=Release',
            f'-DBUILD_SHARED_LIBS={"ON" if shared else "OFF"}', f'-DCMAKE_CXX_COMPILER={shlex.split(arguments.compiler)[-1]}')
        run('cmake', '--build', build)
        check_program(build / 'consumer', shared)
        if (build / 'heap').exists() != arguments.mimalloc:
            raise Failed(f'there is {"no" if arguments.mimalloc else "a"} target dynfunc::mimalloc')
        if arguments.mimalloc:
            check_program(build / 'heap', shared, None, EXPECTED_OF_HEAP, 'libdynfunc-mimalloc.so')
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
    for program in ('main.cpp', 'heap.cpp'):
        shutil.copy(HERE / program, project)
    (project / 'subprojects/dynfunc').symlink_to(arguments.source_root)
    build = folder / 'build'
    first = ['-Ddynfunc:dynfunc_backend=generic'] if arguments.generic else ['-Ddynfunc:align_call_sites=true']
    run(*arguments.meson, 'setup', '--wrap-mode=nodownload', *first, build, project, env={'CXX': arguments.compiler})
    run(*arguments.meson, 'compile', '-C', build, 'consumer')
    check_program(build / 'consumer', False)
    if arguments.mimalloc:
        run(*arguments.meson, 'compile', '-C', build, 'heap')
        check_program(build / 'heap', False, None, EXPECTED_OF_HEAP, 'libdynfunc-mimalloc.so')
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
