# SPDX-License-Identifier: MIT
"""Row S2.8: probes on a function of the program and on one of the C library, and what is refused; where there are no
probes the reason is printed, and nothing else."""
import os
import re

import example

NO_PROBES = "no probes here: "
INFO = [r"price at 0x[0-9a-f]+: class (whole|(guarded|punned|breakpoint), no better one because \w.*)",
        r"bytes replaced:( [0-9a-f]{2})+; consumers: 1"]
# Three hits, then the handler has removed itself; then what is above 200 costs 200, until the probe is detached.
PRICES = ["  price(1, 250)", "1 at 250 each: 250", "  price(2, 250)", "2 at 250 each: 500", "  price(3, 250)", "3 at 250 each: 750",
          "4 at 250 each: 1000", "5 at 250 each: 1250", "print_call: 3 hits, 0 missed", "2 at 250 each: 400", "2 at 150 each: 300",
          "cheapest: 150; from now on at any price", "2 at 250 each: 500"]
REFUSALS = [r"no loaded object exports such a symbol", r"no code of a loaded object stands there at 0x[0-9a-f]+",
            r"this function cannot be probed \(.*\) at 0x[0-9a-f]+"]


class ProbeCallsTest(example.TestCase):
    def run_with_colour(self, colour):
        os.environ.pop("COLOUR", None)
        if colour is not None:
            os.environ["COLOUR"] = colour
        done = example.run()
        self.assertEqual((done.returncode, done.err), (0, []))
        if done.out[0].startswith(NO_PROBES):
            self.assertEqual(len(done.out), 1)
            self.skipTest(done.out[0])
        return done.out

    def test_does_what_it_says(self):
        for colour in (None, "red"):
            with self.subTest(colour=colour):
                out = self.run_with_colour(colour)
                for line, pattern in zip(out, INFO):
                    self.assertRegex(line, f"^{pattern}$")
                self.assertEqual(out[2:15], PRICES)
                self.assertEqual(out[15:18], [f'  getenv("COLOUR") would have been {colour or "nothing"}',
                                              "COLOUR is green, PATH is as it was",
                                              "answer_for_colour: 2 hits, 1 missed"])
                self.assertEqual(len(out), 18 + len(REFUSALS))
                for line, pattern in zip(out[18:], REFUSALS):
                    self.assertRegex(line, f"^refused: {pattern}(, where there is( [0-9a-f]{{2}}){{8}})?$")

    def test_where_code_cannot_be_patched_it_says_so_and_ends_well(self):
        for form in ("slot", "pointer"):
            with self.subTest(form=form):
                done = example.run(form=form)
                self.assertEqual((done.returncode, done.err, len(done.out)), (0, [], 1))
                self.assertTrue(re.fullmatch(NO_PROBES + r"\w.*", done.out[0]), done.out)


if __name__ == "__main__":
    example.main()
