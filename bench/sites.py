#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes x86-64 assembly with many distinct call sites, each with its own callee, or branch sites of one static key, run in
straight line.

    sites.py --sizes 64 1024 --kinds direct dynfunc pointer --blocks dynfunc-uncalled:1 -o sites.S

The kinds `dynfunc-inline...` have unwind information around their call sites, so that the library recognises and patches them;
the call sites of `dynfunc` have none and stay with their trampolines. `dynfunc-inline-aligned` and `direct-aligned` differ from
`dynfunc-inline` and `direct` in their names only: their file is to be assembled with -malign-branch-boundary=16.

Compiling tens of thousands of DYNFUNC definitions would take minutes, so what they and static_branch_unlikely() leave in the
linker sections dynfunc_* is written here byte for byte as include/dynfunc/detail/tables.hpp and site_x86.hpp describe it. The
library registers and patches it like any other; call_sites.hpp checks the layout at compile time. The table `bench_sites`
(call_sites.hpp: SiteBlock) lists what the file holds.
"""
import argparse
import pathlib

KEY, RECORD, TRAMPOLINE, CALLEE, STUB, NAME = 128, 72, 16, 16, 16, 16
ABI = 3


def repeat(count, *lines):
    """The lines `count` times; `i` counts from 0."""
    return [".set i,0", f".rept {count}", *lines, ".set i,i+1", ".endr"]


def section(name, flags, align, label, body):
    return [f".section {name},\"{flags}\",@progbits", f".p2align {align}", f"{label}:", *body]


def pointers(label, callees, count, stride=8):
    pad = [f".zero {stride - 8}"] if stride > 8 else []
    return section(".data.rel", "aw", 6, label, repeat(count, f".quad {callees}+{CALLEE}*i", *pad))


def identity_at(distance):
    """The end of a Jump or a BranchKey: how far its KeyIdentity is, abi, two flags."""
    return [f".long {distance}", f".short {ABI}, 0"]


def identity(name):
    """A KeyIdentity: name, file, signature, registrar, line, abi, owner, self."""
    return [f".quad {name}, file_name, signature, 0", ".long 1", f".short {ABI}, 0", ".quad 0, 0"]


def dynamic_functions(k, count):
    """Key, word that holds the key's address, stub, slot, record and trampoline of each function."""
    lines = section(".rodata", "a", 4, f"names_{k}", repeat(
        count, '.ascii "site_"', *[f".byte 97+((i>>{shift})&15)" for shift in (16, 12, 8, 4, 0)], f".zero {NAME - 10}"))
    lines += section("dynfunc_keys", "aw", 7, f"keys_{k}", repeat(
        count,
        f".quad callees_{k}+{CALLEE}*i, null_target, 0",  # target, null_target, trampolines
        *identity_at(48), ".quad 0",                      # changed
        f".quad callees_{k}+{CALLEE}*i",                  # default_target
        *identity(f"names_{k}+{NAME}*i"),
        f".zero {KEY - 104}"))
    lines += section(".data.rel", "aw", 3, f"words_{k}", repeat(count, f".quad keys_{k}+{KEY}*i"))
    lines += section(".text", "ax", 4, f"stubs_{k}", repeat(
        count, f"mov words_{k}+8*i(%rip),%r11", "jmp *(%r11)", ".p2align 4,0xcc"))
    lines += section("dynfunc_slots", "aw", 3, f"slots_{k}", repeat(count, f".quad stubs_{k}+{STUB}*i"))
    lines += section("dynfunc_records", "aw", 3, f"records_{k}", repeat(
        count, f".quad slots_{k}+8*i, words_{k}+8*i, trampolines_{k}+{TRAMPOLINE}*i", f".zero {RECORD - 24}"))
    return lines + trampolines(k, count, "dynfunc_text")


def trampolines(k, count, text):
    return section(text, "ax", 4, f"trampolines_{k}", repeat(count, f"jmp *slots_{k}+8*i(%rip)", ".p2align 4,0xcc"))


def branches(k, count):
    """One static key and `count` branch sites of it, each on a cache line of its own."""
    lines = section(".rodata", "a", 0, f"name_{k}", [f'.asciz "{k}"'])
    lines += section("dynfunc_static_keys", "aw", 6, f"key_{k}", [
        ".quad 0, 0", *identity_at(32), ".quad 0", *identity(f"name_{k}"), f".zero {KEY - 88}"])  # way, sites; count
    lines += section(".data.rel", "aw", 3, f"word_{k}", [f".quad key_{k}"])
    site = [".p2align 6", "1: .byte 0xe9", ".long 3f-.-4", "2:",  # as linked: jmp to the code that tests the key
            ".pushsection .text.unlikely,\"ax\",@progbits", f"3: cmpq $0,key_{k}(%rip)", "je 2b", "4: inc %edi", "jmp 2b", ".popsection",
            ".pushsection dynfunc_branches,\"aw\",@progbits", ".p2align 3",
            f".long 1b-., 0, 4b-., word_{k}-.", ".quad 0, 0, 0", ".popsection"]  # site, disabled, enabled, key
    run = [*repeat(count, *site), "mov %edi,%eax", "ret"]
    return lines + section(".text", "ax", 6, f"run_{k}", run)


def known_to_unwinders(lines):
    """Lines of a function of its own, with the table entry that a compiler would have made."""
    moves = {"sub $8,%rsp": [".cfi_adjust_cfa_offset 8"], "add $8,%rsp": [".cfi_adjust_cfa_offset -8"]}
    return [".cfi_startproc", *[each for line in lines for each in (line, *moves.get(line, []))], ".cfi_endproc"]


def call_all(k, kind, count, site):
    """The code that calls at each site once. Each call waits for the result of the one before."""
    site = [*site, "mov %eax,%edi"]
    enter, leave = ["sub $8,%rsp"], ["add $8,%rsp", "ret"]
    if kind == "dynfunc-inline-callers":  # ordinary functions with 8 calls each; the first one alone is run
        assert count % 8 == 0
        run = [".set i,0", f".rept {count // 8}", ".p2align 4"]
        run += known_to_unwinders([*enter, ".rept 8", *site, ".set i,i+1", ".endr", *leave])
        run += [".endr"]
    elif kind == "dynfunc-inline-spread":
        run = known_to_unwinders([*enter, *repeat(count, ".p2align 8", *site), *leave])
    elif kind.startswith("dynfunc-inline"):
        run = known_to_unwinders([*enter, *repeat(count, *site), *leave])
    else:
        run = [*enter, *repeat(count, *site), *leave]
    return section(".text", "ax", 6, f"run_{k}", [*run, f"run_end_{k}:"])


def block(kind, count):
    """One kind of call at `count` sites; returns the assembly and the table entry."""
    k = f"{kind}_{count}".replace("-", "_")
    if kind == "static-key":
        lines = branches(k, count) + section(".rodata", "a", 0, f"kind_{k}", [f'.asciz "{kind}"'])
        return lines, f".quad kind_{k}, {count}, run_{k}, 0, 0, 0, key_{k}"
    lines = section(".text", "ax", 6, f"callees_{k}", repeat(count, "lea 1(%rdi),%eax", "ret", ".p2align 4,0xcc"))
    trampoline_records, keys = "0", "0"
    if kind in ("direct", "direct-aligned"):
        site = [f"call callees_{k}+{CALLEE}*i"]
    elif kind == "dynfunc" or kind.startswith("dynfunc-inline") or kind == "dynfunc-uncalled":
        lines += dynamic_functions(k, count)
        trampoline_records, keys = f"records_{k}", f"keys_{k}"
        site = [f"call trampolines_{k}+{TRAMPOLINE}*i"]
        if kind == "dynfunc-inline-one":  # every site calls the first function
            site = [f"call trampolines_{k}"]
    elif kind == "dynfunc-slot":  # the slot form; no record, so nothing patches it
        lines += pointers(f"slots_{k}", f"callees_{k}", count) + trampolines(k, count, ".text")
        site = [f"call trampolines_{k}+{TRAMPOLINE}*i"]
    elif kind == "dynfunc-generic":  # what site_generic.hpp compiles to; the targets as far apart as in the keys
        lines += pointers(f"targets_{k}", f"callees_{k}", count, KEY)
        site = [f"mov targets_{k}+{KEY}*i(%rip),%rax", "call *%rax"]
    elif kind == "pointer":
        lines += pointers(f"pointers_{k}", f"callees_{k}", count)
        site = [f"call *pointers_{k}+8*i(%rip)"]
    elif kind == "pointer-retpoline":
        lines += pointers(f"pointers_{k}", f"callees_{k}", count)
        site = [f"mov pointers_{k}+8*i(%rip),%rax", "call retpoline_rax"]
    else:
        raise SystemExit(f"sites.py: unknown kind '{kind}'")
    if kind == "dynfunc-uncalled":
        lines += section(".text", "ax", 6, f"run_{k}", ["mov %edi,%eax", "ret", f"run_end_{k}:"])
    else:
        lines += call_all(k, kind, count, site)
    lines += section(".rodata", "a", 0, f"kind_{k}", [f'.asciz "{kind}"'])
    return lines, f".quad kind_{k}, {count}, run_{k}, run_end_{k}, callees_{k}, {trampoline_records}, {keys}"


def real_text(mebibytes, path):
    """So much text as compilers make it: the largest piece of code that runs in this very process, over and over."""
    largest = None
    for line in pathlib.Path("/proc/self/maps").read_text(encoding="utf-8").splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) < 6 or "x" not in fields[1] or not fields[5].startswith("/"):
            continue
        begin, end = (int(number, 16) for number in fields[0].split("-"))
        if largest is None or end - begin > largest[0]:
            largest = end - begin, int(fields[2], 16), fields[5]
    size, offset, file = largest
    code = pathlib.Path(file).read_bytes()[offset:offset + size]
    pathlib.Path(path).write_bytes(code)
    wanted = mebibytes << 20
    whole, rest = divmod(wanted, len(code))
    return section(".text", "ax", 12, "real_text", [
        f'.rept {whole}', f'.incbin "{path}"', ".endr", f'.incbin "{path}",0,{rest}', "real_text_end:",
        ".globl real_text", ".globl real_text_end"])


def shared_pieces():
    return [
        ".text", ".p2align 4", "null_target: xor %eax,%eax", "ret",
        ".p2align 5", "retpoline_rax: call 2f", "1: pause", "lfence", "jmp 1b", ".p2align 4", "2: mov %rax,(%rsp)", "ret",
        ".section .rodata,\"a\",@progbits", 'file_name: .asciz "sites.S"', 'signature: .asciz "int(int)"']


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[], help="each size of each of --kinds")
    parser.add_argument("--kinds", nargs="+", default=[])
    parser.add_argument("--blocks", nargs="+", default=[], metavar="KIND:SITES", help="more of them, one by one")
    parser.add_argument("--text", nargs=2, metavar=("MEBIBYTES", "FILE"),
                        help="also so much code that has nothing to do with them; FILE: written, and read by the assembler")
    parser.add_argument("-o", "--output", required=True)
    options = parser.parse_args()

    lines, table = shared_pieces(), []
    blocks = [(kind, size) for size in options.sizes for kind in options.kinds]
    blocks += [(kind, int(size)) for kind, size in (each.split(":") for each in options.blocks)]
    for kind, size in blocks:
        more, entry = block(kind, size)
        lines += more
        table.append(entry)
    if options.text:
        lines += real_text(int(options.text[0]), options.text[1])
    lines += section(".data.rel", "aw", 3, "bench_sites", [*table, ".quad 0, 0, 0, 0, 0, 0, 0", ".globl bench_sites",
                                                           ".type bench_sites,@object", ".size bench_sites,.-bench_sites"])
    lines += ['.section .note.GNU-stack,"",@progbits']
    with open(options.output, "w", encoding="ascii") as file:
        file.write("\n".join(["/* Written by sites.py */", *lines, ""]))


if __name__ == "__main__":
    main()
