# SPDX-License-Identifier: MIT
"""S1.6, S1.8: every request is answered or refused, none is lost; what was refused is what the pool counted as missed."""
import re

import example


def numbers(text):
    return [int(word) for word in re.findall(r"\d+", text)]


class FramePoolTest(example.TestCase):
    def check(self, done, requests, frames):
        self.assertEqual((done.returncode, done.err), (0, []))
        received, answered, refused = numbers(done.out[0])
        samples, samples_missed = numbers(done.out[1])
        capacity, hits, misses, steals = numbers(done.out[2])
        self.assertEqual((received, capacity), (requests, frames))
        self.assertEqual(answered + refused, requests)
        self.assertEqual(hits, answered + samples)
        self.assertEqual(misses, refused + samples_missed)
        self.assertLessEqual(steals, hits)
        self.assertEqual(done.out[3], "still out: 0")

    def test_every_request_is_answered_or_refused(self):
        for pool in example.POOLS:
            for frames in (1, 4, 1000):
                with self.subTest(pool=pool, frames=frames):
                    self.check(example.run("5000", str(frames), pool=pool), 5000, frames)

    def test_says_which_back_end_it_has(self):
        self.assertIn("(tagged)", example.run("1", "1", pool="tagged").out[2])

    def test_a_frame_for_every_request_refuses_none(self):
        done = example.run("500", "600")
        self.assertIn("500 answered, 0 refused", done.out[0])

    def test_bad_words_are_answered(self):
        for words in ((), ("1",), ("0", "1"), ("1", "x"), ("1", "1", "1")):
            with self.subTest(words=words):
                done = example.run(*words)
                self.assertEqual((done.returncode, done.out), (2, []))
                self.assertIn("usage: frame_pool", done.err[0])

    def test_too_many_frames_is_an_error_with_a_reason(self):
        done = example.run("1", "99999999")
        self.assertEqual((done.returncode, done.out), (1, []))
        self.assertIn("the pool's capacity", done.err[0])


if __name__ == "__main__":
    example.main()
