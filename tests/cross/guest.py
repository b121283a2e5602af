# SPDX-License-Identifier: MIT
"""A throw-away guest in qemu-system: Debian's kernel, an initramfs with a static busybox, programs at the paths that they have
here, and the libraries that these need. Packages of Debian's for that machine, unpacked into a folder, are where the kernel, busybox
and whatever is not installed here come from.

One thread of the host runs all processors of the guest. With several, qemu 7.2 runs stale code by itself: it drops what it has
translated of a page before the page is written, and another processor translates the old bytes once more.
"""
import dataclasses
import os
import queue
import re
import shutil
import subprocess
import sys
import threading
import time

SETUP = '''#!/bin/busybox sh
/bin/busybox --install -s /bin
mkdir -p /proc /sys /dev /tmp
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
ln -s /proc/self/fd /dev/fd
ln -s /proc/self/fd/0 /dev/stdin
mkdir -p /dev/shm
mount -t tmpfs shm /dev/shm
export PATH=/bin:/usr/bin HOME=/tmp TMPDIR=/tmp
ulimit -c 0
ulimit -n 4096
'''


def is_elf(path):
    with open(path, 'rb') as file:
        return file.read(4) == b'\x7fELF'


@dataclasses.dataclass(frozen=True)
class Machine:
    elf: int  # e_machine
    qemu: list
    console: str
    triplet: str

    def owns(self, path):
        with open(path, 'rb') as file:
            head = file.read(20)
        return head[:4] == b'\x7fELF' and head[18] == self.elf

    @property
    def in_guest(self):
        return f'/lib/{self.triplet}'  # where Debian's loader looks without being told


# Pointer authentication as the processor model does it takes qemu long.
MACHINES = {
    'arm64': Machine(183, ['qemu-system-aarch64', '-M', 'virt,gic-version=3', '-cpu', 'max,pauth-impdef=on'], 'ttyAMA0',
                     'aarch64-linux-gnu'),
    'x86-64': Machine(62, ['qemu-system-x86_64', '-M', 'microvm', '-cpu', 'max'], 'ttyS0', 'x86_64-linux-gnu'),
}


class Files:
    """Those of the guest, below a folder."""

    def __init__(self, machine, folder, packages):
        self.machine = machine
        self.folder = folder
        self.packages = packages
        self.put('/bin/busybox', packages + '/bin/busybox')

    def put(self, path, source):
        """Whether it was not there yet."""
        at = self.folder + path
        if os.path.exists(at):
            return False
        os.makedirs(os.path.dirname(at), exist_ok=True)
        shutil.copyfile(source, at)
        os.chmod(at, 0o755)
        return True

    def put_file(self, path):
        self.put(path, path)

    def write(self, path, text):
        with open(self.folder + path, 'w', encoding='utf-8') as file:
            file.write(text)
        os.chmod(self.folder + path, 0o755)

    def put_program(self, path, at=None):
        """With the libraries that it needs: those of the build at their paths, the others where the loader looks."""
        if not self.put(at or path, path):
            return
        said = subprocess.run(['readelf', '-dlW', path], stdout=subprocess.PIPE, text=True, check=True).stdout
        own = [place.replace('$ORIGIN', os.path.dirname(path)) for found in re.findall(r'R(?:UN)?PATH.*\[(.*)\]', said)
               for place in found.split(':')]
        for name in re.findall(r'NEEDED.*\[(.*)\]', said):
            for folder in own:
                if os.path.exists(os.path.join(folder, name)):
                    self.put_program(os.path.normpath(os.path.join(folder, name)))
                    break
            else:
                self.put_library(name)
        for loader in re.findall(r'interpreter: (.*)\]', said):
            self.put(loader, self.library(os.path.basename(loader)))

    def put_library(self, name):
        self.put_program(self.library(name), f'{self.machine.in_guest}/{name}')

    def library(self, name):
        triplet = self.machine.triplet
        for folder in (f'/lib/{triplet}', f'/usr/lib/{triplet}', f'/usr/{triplet}/lib', f'{self.packages}/lib/{triplet}',
                       f'{self.packages}/usr/lib/{triplet}'):
            if os.path.exists(f'{folder}/{name}'):
                return f'{folder}/{name}'
        sys.exit(f'there is no {name} for {triplet}')

    def put_folder(self, path):
        """One of the packages, at its path."""
        if not os.path.exists(self.folder + path):
            shutil.copytree(self.packages + path, self.folder + path, symlinks=True)

    def pack(self, image):
        names = subprocess.run(['find', '.'], cwd=self.folder, stdout=subprocess.PIPE, check=True).stdout
        with open(image, 'wb') as file:
            subprocess.run(['cpio', '-o', '-H', 'newc', '-R', '0:0', '--quiet'], cwd=self.folder, input=names, stdout=file,
                           check=True)
        shutil.rmtree(self.folder)
        return image


class Guest:
    """A machine that runs /init of an image, for as long as this is open."""

    def __init__(self, machine, kernel, image, words):
        words = [*machine.qemu, '-accel', 'tcg,thread=single', '-nodefaults', '-no-reboot', '-display', 'none', '-serial', 'stdio',
                 '-kernel', kernel, '-initrd', image, '-append',
                 f'console={machine.console} panic=-1 rdinit=/init quiet loglevel=1', *words]
        self.lines = queue.SimpleQueue()
        self.qemu = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        threading.Thread(target=self.read, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.qemu.kill()
        self.qemu.wait()

    def read(self):
        for line in self.qemu.stdout:
            self.lines.put(line.decode(errors='replace').replace('\r', '').rstrip('\n'))
        self.lines.put(None)

    def line(self, until):
        """The next that it prints; none: it has ended. Raises queue.Empty at that time of time.monotonic()."""
        return self.lines.get(timeout=max(0, until - time.monotonic()))
