# SPDX-License-Identifier: MIT
"""Row S4.9: a checksum that is right while its implementation changes all the time."""
import os
import random
import re
import tempfile
import unittest
import zlib

import example


class CrcDispatchTest(example.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = os.path.join(folder.name, "a file")

    def write(self, size):
        data = random.Random(size).randbytes(size)
        with open(self.path, "wb") as file:
            file.write(data)
        return data

    def assert_checksum(self, done, data):
        self.assertEqual((done.returncode, done.err), (0, []))
        self.assertTrue(done.out[0].startswith(f"{len(data)} bytes, "), done.out[0])
        self.assertEqual(done.out[-1], f"CRC-32 {zlib.crc32(data):#010x}, zlib says the same")

    def test_checksum_is_that_of_zlib_in_every_form(self):
        data = self.write(3_000_001)
        for form in example.FORMS:
            with self.subTest(form=form):
                self.assert_checksum(example.run(self.path, form=form), data)

    def test_sizes_around_the_steps_of_each_implementation(self):
        for size in (0, 1, 15, 16, 63, 64, 65, 127, 4095, 4096, 4097):
            with self.subTest(size=size):
                data = self.write(size)
                self.assert_checksum(example.run(self.path), data)

    def test_every_implementation_serves_and_it_switches_often(self):
        self.write(1_000_000)
        text = "\n".join(example.run(self.path).out)
        self.assertGreaterEqual(int(re.search(r"switched (\d+) times", text)[1]), 1000)
        for name in ("portable", "table"):
            self.assertGreater(int(re.search(rf"{name} +(\d+) blocks", text)[1]), 0)
        hardware = re.search(r"hardware +(\d+) blocks, \w+|hardware left out: .+", text)
        self.assertIsNotNone(hardware, text)
        self.assertNotEqual(hardware[1], "0")

    def assert_refused(self, path, why):
        done = example.run(path)
        self.assertEqual((done.returncode, done.out, done.err), (1, [], [f"crc_dispatch: {path}: {why}"]))

    def test_missing_file(self):
        self.assert_refused(self.path, "No such file or directory")

    def test_folder(self):
        self.assert_refused(os.path.dirname(self.path), "Is a directory")

    @unittest.skipIf(os.geteuid() == 0, "root may read everything")
    def test_file_without_the_right_to_read(self):
        self.write(1)
        os.chmod(self.path, 0)
        self.assert_refused(self.path, "Permission denied")

    def test_pipe_cannot_be_read_twice(self):
        self.assert_refused("/dev/stdin", "Illegal seek")

    def test_wrong_number_of_arguments(self):
        for args in ((), ("a", "b")):
            done = example.run(*args)
            self.assertEqual((done.returncode, done.out, done.err), (2, [], ["usage: crc_dispatch FILE"]))


example.main()
