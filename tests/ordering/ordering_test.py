# SPDX-License-Identifier: MIT
"""Reads the instructions of every barrier and of the cache maintenance, as compiled, against the rules of docs/ordering.md.

    ordering_test.py --machine NAME --objdump OBJDUMP --library LIBDYNFUNC --samples MODULE [--runtime LIBGCC]

No emulator shows that one is missing: it keeps no instruction cache, and the hosts that it runs on reorder less than what it
emulates. Each rule is tried a second time on the same code without what the rule asks for, and must fail.
"""
import argparse
import re
import subprocess
import sys

# Letter, file, function, what stands there in this order, what does not stand there.
MEMBARRIER = {'arm64': r'mov\s+x\d+, #0x11b', 'x86': r'mov\s+\$0x144,'}
RULES = {
    'arm64': [
        ('caches', 'runtime', None, [r'\bdc\s+cvau', r'\bdsb\s+ish', r'\bic\s+ivau', r'\bdsb\s+ish\b', r'\bisb\b'], []),
        ('caches', 'library', 'dynfunc::arch::arm64::flush_text', [r'\bbl?\s.*__clear_cache'], []),
        ('one store', 'library', 'dynfunc::TextPoke::write_run', [r'\bblr\b', r'\bbl\s.*flush_text'], []),
        ('one store', 'library', 'dynfunc::MemoryFileWriting::write_alias', [r'\bstlr\s+[xw]\d'], []),
        ('F', 'library', 'dynfunc::TextPoke::write_new', [r'\bblr\b', r'\bbl\s.*flush_text', r'\bbl\s.*sync_cores'], []),
        ('F', 'library', 'dynfunc::os::sync_cores', [r'#0x20\b', MEMBARRIER['arm64'], r'\bbl\s.*syscall'], []),
        ('A', 'library', 'dynfunc::Update::exchange', [r'\bstlr\s+x', r'\bstlr\s+x'], []),
        ('A', 'samples', 'TRAMPOLINE', [r'\bnop\b', r'\badrp\s+x16', r'\badd\s+x16, x16', r'\bldar\s+x16, \[x16\]', r'\bbr\s+x16'],
         [r'\bldr\s']),
        ('A', 'samples', 'STUB', [r'\bldr\s+x16, \[x16', r'\bldar\s+x16, \[x16\]', r'\bbr\s+x16'], []),
        ('G', 'library', 'dynfunc::Update::apply', [r'\bdmb\s+ish\b'], []),
        ('B, D', 'samples', 'sample_section', [r'\bldar\s+x', r'\bstr\s+x', r'\bldr\s+w0', r'\bstlr\s+x'], [r'\bdmb\b']),
        ('C', 'library', 'dynfunc::synchronize', [r'ldadd8_acq_rel|ldaddal|ldaxr', r'\bldar\s+x'], []),
        ('H', 'samples', 'sample_is_enabled', [r'\bldar[bh]?\s'], []),
        ('K', 'samples', 'dynfunc::detail::TraceCode<.*>::iterate', [r'\bldar\s+x'], []),
        ('N, O', 'library', r'dynfunc::\(anonymous namespace\)::drain', [r'ldset8_acq_rel|ldsetal|ldaxr', r'interrupt_sequences'], []),
        ('P, Q', 'library', 'dynfunc::Pool::open_stack', [r'\bstlr\s+x', r'\bstlr\s+x'], []),
        ('Z, D', 'library', 'dynfunc_probe_hit', [r'\bldar\s+x24', r'\bldarb\s+w', r'\bstlr\s+x23, \[x22\]'], []),
        ('D', 'library', 'dynfunc_return_hit', [r'\bstlr\s+x23, \[x22\]'], []),
        ('W', 'library', 'dynfunc::make_hit_chunk', [r'\bstlr\s+x'], []),
        ('a sequence', 'samples', 'sample_pop',
         [r'\bmrs\s+x\d+, tpidr_el0', r'\bstr\s+x\d+, \[x\d+, #8\]', r'\bldr\s+w\d+, \[x\d+, #4\]', r'\bmadd\b', r'\bldr\s+x',
          r'\bstr\s+x\d+, \[x\d+\]', r'\bstr\s+xzr, \[x\d+, #8\]'], [r'\bdmb\b', r'\bldaxr\b']),
    ],
    'x86': [
        ('F', 'library', 'dynfunc::os::sync_cores', [r'\$0x20\b', MEMBARRIER['x86'], r'\bcall\s.*syscall'], []),
        ('F', 'library', 'dynfunc::TextPoke::write_new', [r'\bcall\s+\*', r'\bcall\s.*sync_cores'], []),
        ('G', 'library', 'dynfunc::Update::apply', [r'\block or|\bmfence\b|\bxchg\b'], []),
        ('A', 'samples', 'TRAMPOLINE', [r'\bjmp\s+\*0x[0-9a-f]+\(%rip\)'], []),
        ('B, D', 'samples', 'sample_section', [r'\bmov\s+%r\w+,\(%r', r'\bmov\s+\S*\(%r\w+\),%e', r'\bmov\s+%r\w+,\(%r'],
         [r'\bmfence\b', r'\block\b', r'\bxchg\s+%r\w+,\(']),
        ('N, O', 'library', r'dynfunc::\(anonymous namespace\)::drain', [r'\block or|\block cmpxchg', r'interrupt_sequences'], []),
    ],
}
INSTRUCTION = re.compile(r'^\s+[0-9a-f]+:\t(.*)$')
FUNCTION = re.compile(r'^[0-9a-f]+ <(.*)>:$')


def functions_of(objdump, path, section=None):
    """(name, instructions) of each function, cold parts too."""
    words = [objdump, '-d', '-C', '--no-show-raw-insn'] + (['-j', section] if section else []) + [path]
    found, lines = [], None
    for line in subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines():
        if begin := FUNCTION.match(line):
            lines = []
            if not begin[1].endswith('@plt'):
                found.append((begin[1], lines))
        elif (instruction := INSTRUCTION.match(line)) and lines is not None:
            lines.append(instruction[1].replace('\t', ' '))
    return found


def with_callees(lines, functions):
    """What a function calls stands behind the call, as if the compiler had put it there: sometimes it has."""
    every = []
    for line in lines:
        every.append(line)
        if called := re.search(r'\b(?:bl?|call)\s.*<([^+]*)>', line):
            every += next((body for name, body in functions if name == called[1]), [])
    return every


def follows(lines, wanted, unwanted):
    """What is missing, or should not be there; None: all is well."""
    at = 0
    for pattern in wanted:
        while at < len(lines) and not re.search(pattern, lines[at]):
            at += 1
        if at == len(lines):
            return f'no /{pattern}/ behind those before it'
        at += 1
    for pattern in unwanted:
        if hits := [line for line in lines if re.search(pattern, line)]:
            return f'/{pattern}/: {hits[0]}'
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ('machine', 'objdump', 'library', 'samples'):
        parser.add_argument('--' + name, required=True)
    parser.add_argument('--runtime')
    arguments = parser.parse_args()
    code = {name: functions_of(arguments.objdump, path)
            for name, path in (('library', arguments.library), ('samples', arguments.samples), ('runtime', arguments.runtime)) if path}
    trampolines = functions_of(arguments.objdump, arguments.samples, 'dynfunc_text')
    failed = 0
    for letter, file, name, wanted, unwanted in RULES[arguments.machine]:
        what = f'({letter}) {name or file}'
        if name == 'TRAMPOLINE':
            bodies = [lines for _, lines in trampolines]
        elif name == 'STUB':  # has no name: what the linker put behind some function, and leads on through x16
            every = [line for _, lines in code[file] for line in lines]
            bodies = [every[max(0, i - 3):i + 1] for i, line in enumerate(every)
                      if re.search(r'\bbr\s+x16', line) and re.search(r'\bldr\s+x16, \[x16', every[i - 2])]
        elif name is None:
            bodies = [[line for _, lines in code[file] for line in lines]]
        else:
            bodies = [lines for full, lines in code[file] if re.match(name + r'(\(|$|\[| \[)', full)]
        if not bodies:
            print(f'FAIL  {what}: there is no such code in {file}')
            failed += 1
            continue
        if name not in (None, 'TRAMPOLINE', 'STUB'):
            bodies = [lines if follows(lines, wanted, unwanted) is None else with_callees(lines, code[file]) for lines in bodies]
        # What the compiler has split is where one of the parts has it.
        in_one = name not in ('TRAMPOLINE', 'STUB') and any(follows(lines, wanted, unwanted) is None for lines in bodies)
        for lines in bodies:
            missing = follows(lines, wanted, unwanted)
            if missing and in_one:
                continue
            noticed = [pattern for pattern in wanted
                       if follows([line for line in lines if not re.search(pattern, line)], wanted, unwanted) is None]
            failed += bool(missing or noticed)
            print(f'{"FAIL" if missing or noticed else "ok":5} {what}' + (f': {missing}' if missing else '') +
                  (f': would pass without {noticed}' if noticed and not missing else ''))
            if missing:
                print('\n'.join('          ' + line for line in lines[:60]))
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
