# SPDX-License-Identifier: MIT
"""Row S4.9: plug-ins swapped under load, each old one really unloaded."""
import re

import example


class PluginSwitchTest(example.TestCase):
    def test_swaps_unloads_and_falls_back_in_every_form(self):
        for form in example.FORMS:
            with self.subTest(form=form):
                done = example.run("50", form=form)
                self.assertEqual((done.returncode, done.err), (0, []), done.out)
                served = re.fullmatch(r"50 swaps under 4 threads: version 1 served (\d+) calls, "
                                      r"version 2 served (\d+), the host (\d+)", done.out[0])
                self.assertIsNotNone(served, done.out[0])
                self.assertGreater(int(served[1]), 25)
                self.assertGreater(int(served[2]), 25)
                self.assertGreater(int(served[3]), 0)
                self.assertEqual(done.out[1:], ["the old plug-in was gone after 50 of 50 swaps",
                                                "closed version 1 while it was the target: now the host answers"])

    def test_swaps_100_times_unless_told(self):
        done = example.run()
        self.assertEqual((done.returncode, done.err), (0, []))
        self.assertRegex(done.out[0], "^100 swaps ")

    def test_either_version_may_be_the_last(self):
        for swaps, last in (("0", 1), ("1", 2)):
            done = example.run(swaps)
            self.assertEqual((done.returncode, done.err), (0, []))
            self.assertEqual(done.out[2], f"closed version {last} while it was the target: now the host answers")

    def test_bad_arguments(self):
        for args in (("x",), ("-1",), ("10x",), ("",), ("99999999999",), ("1", "2")):
            with self.subTest(args=args):
                done = example.run(*args)
                self.assertEqual((done.returncode, done.out, done.err), (2, [], ["usage: plugin_switch [SWAPS]"]))


example.main()
