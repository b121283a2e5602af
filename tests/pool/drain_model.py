# SPDX-License-Identifier: MIT
"""Every interleaving of a CPU's sequences with a thread elsewhere that shuts, empties and opens its stack (lib/pool/stacks.cpp).

The CPU runs pops and pushes one after the other. Each is: load top; load or store a slot; store top. Its stores go through a
buffer that reaches memory later, in order, as x86 promises (arm64 promises less, but what the protocol needs of it comes from the
interrupt too). An interrupt empties the buffer and throws a sequence that has not committed back to its beginning; it comes
from the other thread, or from the kernel at any time. In every state each object is in one place:

    held by the CPU's threads, in a filled slot, or taken by the other thread

The protocol is run as it is, and with one of its parts left out: then an object must be lost or be in two places, or the model
shows nothing.
"""
import sys
import unittest

SLOTS = 2
OBJECTS = (1, 2)
OPERATIONS = 8  # of the CPU
ROUNDS = 3      # how often the stack is shut and opened

# The CPU's thread: what it holds, where in its sequence it is, and what it has read.
IDLE, POP_LOADED, POP_READ, PUSH_LOADED, PUSH_STORED = range(5)


class Broken(Exception):
    pass


def through(buffer, top, slots):
    """Memory as the CPU sees it: its own buffered stores are there already."""
    slots = list(slots)
    for what, value in buffer:
        if what == "top":
            top = value
        else:
            slots[what] = value
    return top, tuple(slots)


def check(state):
    cpu, held, _, buffer, top, slots, other, taken, *_ = state
    (count, _), slots = through(buffer, top, slots)
    # While the other thread empties the stack, what lies there is its, whatever top says.
    places = sorted(held + taken + (slots[:count] if other[0] != "emptying" else ()))
    if other[0] != "emptying" and places != list(OBJECTS):
        raise Broken(f"objects {places} in {state}")
    if len(set(held + taken)) != len(held + taken):
        raise Broken(f"two have the same object in {state}")


def cpu_steps(state):
    cpu, held, seen, buffer, top, slots, other, taken, operations, rounds = state

    def now(cpu, held, seen, buffer, operations=operations):
        return (cpu, held, seen, buffer, top, slots, other, taken, operations, rounds)

    if buffer:
        what, value = buffer[0]
        if what == "top":
            yield (cpu, held, seen, buffer[1:], value, slots, other, taken, operations, rounds)
        else:
            changed = slots[:what] + (value,) + slots[what + 1:]
            yield (cpu, held, seen, buffer[1:], top, changed, other, taken, operations, rounds)
    if cpu != IDLE:  # another thread, or a signal: from the beginning
        memory_top, memory_slots = through(buffer, top, slots)
        yield (IDLE, held, None, (), memory_top, memory_slots, other, taken, operations, rounds)
    (count, shut), visible = through(buffer, top, slots)
    if cpu == IDLE and operations:
        if not shut and count > 0:
            yield now(POP_LOADED, held, (count, None), buffer)
        if not shut and count < SLOTS and held:
            yield now(PUSH_LOADED, held, (count, held[0]), buffer)
    elif cpu == POP_LOADED:
        yield now(POP_READ, held, (seen[0], visible[seen[0] - 1]), buffer)
    elif cpu == POP_READ:
        yield now(IDLE, held + (seen[1],), None, buffer + (("top", (seen[0] - 1, False)),), operations - 1)
    elif cpu == PUSH_LOADED:
        yield now(PUSH_STORED, held, seen, buffer + ((seen[0], seen[1]),))
    elif cpu == PUSH_STORED:
        rest = tuple(o for o in held if o != seen[1])
        yield now(IDLE, rest, None, buffer + (("top", (seen[0] + 1, False)),), operations - 1)


def other_steps(state, without):
    cpu, held, seen, buffer, top, slots, other, taken, operations, rounds = state
    step = other[0]

    def now(other, cpu=cpu, seen=seen, buffer=buffer, top=top, slots=slots, taken=taken, rounds=rounds):
        return (cpu, held, seen, buffer, top, slots, other, taken, operations, rounds)

    if step == "idle" and rounds:
        yield now(("shut",), rounds=rounds - 1)
    elif step == "shut":  # 2: one locked instruction
        yield now(("interrupt",), top=(top[0], True))
    elif step == "interrupt":  # 3
        if "interrupt" in without:
            yield now(("look",))
        else:
            memory_top, memory_slots = through(buffer, top, slots)
            yield now(("look",), cpu=IDLE, seen=None, buffer=(), top=memory_top, slots=memory_slots)
    elif step == "look":  # 4
        yield now(("take",) if top[1] or "look" in without else ("shut",))
    elif step == "take":  # 5
        yield now(("emptying", slots[:top[0]]))
    elif step == "emptying":
        yield now(("open",), top=(0, True), taken=taken + other[1])
    elif step == "open":
        yield now(("idle",), top=(0, False))


def explore(without=()):
    """The number of states; raises Broken."""
    start = (IDLE, OBJECTS[:1], None, (), (1, False), (OBJECTS[1], 0), ("idle",), (), OPERATIONS, ROUNDS)
    known, todo = {start}, [start]
    while todo:
        state = todo.pop()
        check(state)
        for following in (*cpu_steps(state), *other_steps(state, without)):
            if following not in known:
                known.add(following)
                todo.append(following)
    return len(known)


class DrainModel(unittest.TestCase):
    def test_every_object_is_in_one_place(self):
        self.assertGreater(explore(), 1000)

    def test_without_the_interrupt_it_is_not(self):
        with self.assertRaises(Broken):
            explore(without=("interrupt",))

    def test_without_looking_again_it_is_not(self):
        with self.assertRaises(Broken):
            explore(without=("look",))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
