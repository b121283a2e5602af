# SPDX-License-Identifier: MIT
"""Row S4.4: five functions, three targets each, driven by lines; bad lines are answered and change nothing."""
import example

ARGUMENTS = ["", "1", "1, 2", "1, 2, 0xdeadbeef", '1, 2, 0xdeadbeef, "a string"']


def ran(function, target):
    return f"func{function}: target {target} ran with ({ARGUMENTS[function]}) and returned {10 * function + target}"


class FuncsTest(example.TestCase):
    def test_every_target_of_every_function_is_reached(self):
        pairs = [(f, t) for f in range(5) for t in (0, 1, 2, 1, 0)]
        lines = "".join(f"func{f} {t}\nfunc{f}\n" for f, t in pairs)
        wanted = [line for f, t in pairs for line in (f"func{f}: now target {t}", ran(f, t))]
        for form in example.FORMS:
            with self.subTest(form=form):
                done = example.run(form=form, stdin=lines)
                self.assertEqual((done.returncode, done.out, done.err), (0, wanted, []))

    def test_starts_with_target_0(self):
        done = example.run(stdin="func0\nfunc1\nfunc2\nfunc3\nfunc4\n")
        self.assertEqual(done.out, [ran(f, 0) for f in range(5)])

    def test_retargeting_one_leaves_the_others(self):
        done = example.run(stdin="func2 1\nfunc1\nfunc2\nfunc3\n")
        self.assertEqual(done.out[1:], [ran(1, 0), ran(2, 1), ran(3, 0)])

    def test_list_shows_signature_form_and_target(self):
        not_better_than = {None: "patched|slot|pointer", "slot": "slot|pointer", "pointer": "pointer"}
        for form in example.FORMS:
            with self.subTest(form=form):
                done = example.run(form=form, stdin="func3 2\nlist\n")
                self.assertEqual(len(done.out), 6)
                for f, line in enumerate(done.out[1:]):
                    self.assertRegex(line, rf"^func{f}: int\(.*\), form ({not_better_than[form]}), "
                                           rf"target {2 if f == 3 else 0} at 0x[0-9a-f]+$")

    def test_help_names_every_command(self):
        text = "\n".join(example.run(stdin="help\n").out)
        for word in ("func0", "func4", "list", "help", "0, 1 or 2"):
            self.assertIn(word, text)

    def test_bad_lines_are_answered_and_change_nothing(self):
        cases = {
            "func5": "unknown command 'func5', try 'help'",
            "FUNC2 1": "unknown command 'FUNC2', try 'help'",
            "1": "unknown command '1', try 'help'",
            "func2 3": "func2: no target '3', it has 0, 1 and 2",
            "func2 -1": "func2: no target '-1', it has 0, 1 and 2",
            "func2 one": "func2: no target 'one', it has 0, 1 and 2",
            "func2 1x": "func2: no target '1x', it has 0, 1 and 2",
            "func2 99999999999999999999": "func2: no target '99999999999999999999', it has 0, 1 and 2",
            "func2 1 1": "func2: unexpected '1' at the end of the line",
            "list all": "list: unexpected 'all' at the end of the line",
            "help me": "help: unexpected 'me' at the end of the line",
        }
        for line, answer in cases.items():
            with self.subTest(line=line):
                done = example.run(stdin=f"{line}\nfunc2\n")
                self.assertEqual((done.returncode, done.out, done.err), (0, [ran(2, 0)], [answer]))

    def test_odd_input_does_no_harm(self):
        for text in (b"", b"\n\n  \t\n", b"func2", b"  func2   1 \r\nfunc2\r\n", b"\0\xff\x80\nfunc2\n",
                     b"x" * 1000000 + b"\nfunc2\n"):
            with self.subTest(text=text[:20]):
                done = example.run(stdin=text)
                self.assertEqual(done.returncode, 0)
                if b"func2" in text:
                    self.assertRegex(done.out[-1], r"^func2: target [01] ran")


example.main()
