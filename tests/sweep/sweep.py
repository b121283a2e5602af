# SPDX-License-Identifier: MIT
"""Real programs with every function that can be probed traced: do they still do what they did, and how much longer does it take?

    sweep.py COMMAND            COMMAND: dynfunc, as it is built

Each runs bare, with its calls counted, with its calls timed, and with all that a time line needs, all its libraries included. Prints
a table of Markdown; exit status 1 if an output or an exit status differs. Beside it what one traced call costs: here, with uftrace in a
program built for that, and with the kernel's uprobes on the same functions, where they may be used.
"""
import contextlib
import hashlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

COMMAND = os.path.abspath(sys.argv[1])
HERE = os.path.dirname(os.path.abspath(__file__))
MODES = {'bare': None, 'counted': [], 'timed': ['-r'], 'time line': ['--format', 'chrome', '--max-events', '1000']}
TIMES = ['counted', 'timed']  # in the table
CLASSES = ['whole', 'guarded', 'punned', 'breakpoint']
ROUNDS = 3
FIBONACCI, SLOW_FIBONACCI = 27, 22  # the kernel's probes take microseconds


class Different(Exception):
    pass


def traced(mode, record, words):
    """The command line that runs `words` in a mode."""
    if MODES[mode] is None:
        return words
    return [COMMAND, 'trace', '-m', '*', *MODES[mode], '--top', '1', '-o', record, '--', *words]


def run(words, **more):
    began = time.monotonic()
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=600, **more)
    return done, time.monotonic() - began


# ---- What runs: folder, mode, record -> what it has made, and how long the work took ----

SQL = '''create table t(a integer primary key, b text, c real);
with recursive n(x) as (select 1 union all select x+1 from n where x<20000)
  insert into t select x, hex(x*7919), x*0.5 from n;
create index i on t(b);
select count(*), sum(c), min(b), max(b) from t;
select substr(b,1,2), count(*) from t group by 1 order by 1 limit 10;
update t set c=c+1 where b like '3%'; delete from t where a%7=0;
select count(*), total(c) from t; select nosuchfunction(1);
'''
PYTHON = '''import json, re, zlib, hashlib
rows = [{"n": i, "text": "row %d" % i, "list": list(range(i % 7))} for i in range(3000)]
text = json.dumps(rows)
print(len(text), hashlib.sha256(zlib.compress(text.encode())).hexdigest())
print(sum(int(m) for m in re.findall(r"row (\\d+)", text)), len(json.loads(text)))
try:
    1 / 0
except ZeroDivisionError as error:
    print(error)
raise SystemExit(3)
'''
CPP = '''#include <algorithm>
#include <map>
#include <string>
#include <vector>
int f(std::map<std::string, std::vector<int>>& m) {
    int n = 0;
    for (auto& [k, v] : m) { std::sort(v.begin(), v.end()); n += (int)k.size() + (v.empty() ? 0 : v.back()); }
    return n;
}
'''


def program(words, **more):
    def work(_, mode, record):
        done, seconds = run(traced(mode, record, words), **more)
        # What the tracer says comes behind.
        said = done.stderr.split(b'\ndynfunc trace: ')[0]
        return (done.returncode, done.stdout, said), seconds
    return work


def compiler(folder, mode, record):
    source, made = os.path.join(folder, 'file.cpp'), os.path.join(folder, 'file.o')
    with open(source, 'w', encoding='utf-8') as text:
        text.write(CPP)
    done, seconds = run(traced(mode, record, ['g++', '-O1', '-c', '-frandom-seed=1', source, '-o', made]))
    with open(made, 'rb') as code:
        return (done.returncode, done.stdout, hashlib.sha256(code.read()).hexdigest()), seconds


@contextlib.contextmanager
def server(folder, mode, record, words, is_up, end):
    """A server, and how it ended: [exit status]."""
    status = []
    with open(os.path.join(folder, 'said'), 'wb') as said:
        process = subprocess.Popen(traced(mode, record, words), stdout=said, stderr=said)
        try:
            until = time.monotonic() + 60
            while not is_up() and process.poll() is None and time.monotonic() < until:
                time.sleep(0.02)
            yield status
            end(process)
            status.append(process.wait(60))
        finally:
            process.kill()


def redis(folder, mode, record):
    socket = os.path.join(folder, 'socket')
    client = ['redis-cli', '-s', socket]
    commands = '\n'.join([*(f'set k{i} v{i * 7919 % 1000}' for i in range(200)), *(f'zadd z {i * 31 % 1000} m{i}' for i in range(200)),
                          'zrangebyscore z 100 300 withscores limit 0 20', 'sort l alpha', 'get k17', 'nosuchcommand',
                          'eval "local s=0 for i=1,1000 do s=s+i end return s" 0'])
    # Debian's redis-tools has the server under another name; it is the name that it is started by which says what it does.
    named = os.path.join(folder, 'redis-server')
    os.symlink(shutil.which('redis-check-rdb'), named)
    words = [named, '--port', '0', '--unixsocket', socket, '--save', '', '--daemonize', 'no']
    with server(folder, mode, record, words, lambda: os.path.exists(socket),
                lambda _: run([*client, 'shutdown', 'nosave'])) as status:
        answers, _ = run(client, input=commands.encode())
        _, seconds = run(['redis-benchmark', '-s', socket, '-q', '-n', '20000', '-c', '10', '-t', 'set,get,lpush,zadd'])
    return (status, answers.stdout), seconds


def nginx(folder, mode, record):
    socket = 18391
    with open(os.path.join(folder, 'page.html'), 'w', encoding='utf-8') as page:
        page.write('<p>' + 'word ' * 1000)
    with open(os.path.join(folder, 'conf'), 'w', encoding='utf-8') as conf:
        kinds = ('client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi')
        folders = ' '.join(f'{kind}_temp_path {folder}/{kind};' for kind in kinds)
        conf.write(f'''daemon off; pid {folder}/pid; error_log {folder}/log; worker_processes 1; events {{}} user root;
http {{ access_log off; {folders} server {{ listen 127.0.0.1:{socket}; root {folder}; gzip on; gzip_types *; }} }}''')

    def page():
        with contextlib.suppress(OSError):
            with urllib.request.urlopen(f'http://127.0.0.1:{socket}/page.html', timeout=5) as answer:
                return answer.status, answer.read()
        return None

    with server(folder, mode, record, ['nginx', '-e', f'{folder}/log', '-c', f'{folder}/conf', '-p', folder], page,
                lambda _: os.kill(int(open(f'{folder}/pid', encoding='utf-8').read()), signal.SIGQUIT)) as status:
        answer = page()
        done, _ = run(['wrk', '-t', '1', '-c', '8', '-d', '2', f'http://127.0.0.1:{socket}/page.html'])
        requests = next(float(line.split()[1]) for line in done.stdout.decode().splitlines() if line.startswith('Requests/sec'))
    return (status, answer), 1000 / requests  # seconds for a thousand


PROGRAMS = {
    'sqlite3': (program(['sqlite3', ':memory:'], input=SQL.encode()), ['sqlite3']),
    'python3': (program(['/usr/bin/python3', '-S', '-c', PYTHON]), ['/usr/bin/python3']),
    'g++': (compiler, ['g++']),
    # Its errors are exceptions.
    'gdb': (program(['gdb', '-nx', '-batch', '-ex', 'print 6*7', '-ex', 'print nothing', '-ex', 'info line nowhere', '/bin/ls']), ['gdb']),
    'redis-server': (redis, ['redis-check-rdb', 'redis-benchmark', 'redis-cli']),
    'nginx': (nginx, ['nginx', 'wrk']),
}


def sweep(name, work):
    seconds, results, found = {}, {}, {}
    for mode in MODES:
        took = []
        for _ in range(ROUNDS):
            with tempfile.TemporaryDirectory() as folder:
                record = os.path.join(folder, 'record.json')
                result, one = work(folder, mode, record)
                took.append(one)
                results.setdefault(mode, result)
                if mode in TIMES:
                    with open(record, encoding='utf-8') as text:
                        found[mode] = json.load(text)
        seconds[mode] = statistics.median(took)  # of a time line with what writing it takes
        if results[mode] != results['bare']:
            raise Different(f'{name}, {mode}:\n    bare:   {str(results["bare"])[-400:]}\n    traced: {str(results[mode])[-400:]}')
    attached = [function for function in found['timed']['functions'] if function['attached']]
    classes = ' / '.join(f'{100 * sum(f["site"] == c for f in attached) / len(attached):.1f}' for c in CLASSES)
    hits = {mode: sum(f['calls'] for f in found[mode]['functions']) for mode in found}
    row = [name, len(attached), sum(found['timed']['refused'].values()), classes, f'{seconds["bare"]:.3f}']
    for mode in found:
        row += [f'{hits[mode]:,}', f'{seconds[mode]:.3f}', f'{seconds[mode] / seconds["bare"]:.1f}',
                f'{hits[mode] / found[mode]["seconds"] / 1e6:.2f}']
    return [*row, f'{seconds["time line"] / seconds["bare"]:.1f}']


def print_table(head, rows):
    print('| ' + ' | '.join(head) + ' |\n|' + '---|' * len(head))
    for row in rows:
        print('| ' + ' | '.join(map(str, row)) + ' |')
    print(flush=True)


KERNEL = '/sys/kernel/tracing'


@contextlib.contextmanager
def kernel_probes(group, path, functions, kinds):
    """uprobes (p) and uretprobes (r), to be counted as a group. Raises OSError where they cannot be had."""
    loads = subprocess.run(['readelf', '-lW', path], stdout=subprocess.PIPE, text=True, check=True).stdout
    segments = [[int(word, 16) for word in line.split()[1:6] if word.startswith('0x')]
                for line in loads.splitlines() if line.split()[:1] == ['LOAD']]
    lines = []
    for number, at in enumerate(functions):
        offset, address = next((s[0], s[1]) for s in segments if s[1] <= at < s[1] + s[3])
        lines += [f'{kind}:{group}/{kind}{number} {path}:{at - address + offset:#x}' for kind in kinds]
    # Not open(): it seeks, which this file refuses.
    events = os.open(os.path.join(KERNEL, 'uprobe_events'), os.O_WRONLY | os.O_APPEND)
    made = []
    try:
        for line in lines:
            os.write(events, f'{line}\n'.encode())
            made.append(line.split()[0][2:])
        yield
    finally:
        for name in made:
            os.write(events, f'-:{name}\n'.encode())
        os.close(events)


def fibonacci_calls(n):
    before, calls = 1, 1  # of fibonacci(0), of fibonacci(1)
    for _ in range(n - 1):
        before, calls = calls, before + calls + 1
    return calls


def cost_of_a_call():
    """ns for each call of a program that calls and does little else."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        plain, built, kernels = (os.path.join(folder, name) for name in ('calls', 'calls-pg', 'calls-kernel'))
        subprocess.run(['g++', '-O1', os.path.join(HERE, 'calls.cpp'), '-o', plain], check=True)
        subprocess.run(['g++', '-O1', '-pg', '-fcf-protection=none', os.path.join(HERE, 'calls.cpp'), '-o', built], check=True)
        shutil.copy(plain, kernels)
        trace = [COMMAND, 'trace', '-f', 'fibonacci*']
        line = ['-o', os.path.join(folder, 'line'), '--format', 'chrome', '--max-events', '1024']
        ways = {
            'bare': [plain],
            'dynfunc trace': [*trace, '--', plain],
            'dynfunc trace -r': [*trace, '-r', '--', plain],
            'dynfunc trace --stacks': [*trace, '--stacks', '--', plain],
            'dynfunc trace --format chrome': [*trace, *line, '--', plain],
        }
        counts, baselines = {}, {name: 'bare' for name in ways if name != 'bare'}
        ours = list(baselines)
        if shutil.which('uftrace'):
            ways['bare, built with -pg'] = [built]
            ways['uftrace record'] = ['uftrace', 'record', '--no-libcall', '-d', os.path.join(folder, 'data'), built]
            baselines['uftrace record'] = 'bare, built with -pg'
        else:
            print('uftrace is not installed\n')
        functions = subprocess.run(['nm', kernels], stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
        at = next(int(function.split()[0], 16) for function in functions if 'fibonacci' in function)
        for name, kinds in (('kernel uprobe, perf stat', 'p'), ('kernel uprobe and uretprobe, perf stat', 'pr')):
            group = f'dynfunc_sweep_{kinds}'
            try:
                if shutil.which('perf') is None:
                    raise OSError('perf is not installed')
                stack.enter_context(kernel_probes(group, kernels, [at], kinds))
            except OSError as error:
                print(f'{name}: {error}\n')
                continue
            ways[name] = ['perf', 'stat', '-e', f'{group}:*', '-o', os.path.join(folder, 'said'), '--', kernels]
            baselines[name] = 'bare'
            counts[name] = SLOW_FIBONACCI
        took = {name: [] for name in ways}
        for _ in range(5):
            for name, words in ways.items():
                count = counts.get(name, FIBONACCI)
                done, seconds = run([*words, str(count)], cwd=folder)  # where -pg leaves its file
                if int(done.stdout) != round(((1 + 5 ** 0.5) / 2) ** count / 5 ** 0.5):
                    raise Different(f'{name}: {done}')
                _, nothing = run([*words, '1'], cwd=folder)
                took[name].append(1e9 * (seconds - nothing) / fibonacci_calls(count))
    ns = {name: statistics.median(each) for name, each in took.items()}
    more = {name: ns[name] - ns[baseline] for name, baseline in baselines.items()}
    peers = [name for name in more if name not in ours]
    rows = [[name, f'{ns[name]:.1f}', f'{more[name]:.1f}' if name in more else '',
             *(f'{more[peer] / more[name]:.1f}' if name in ours else '' for peer in peers)] for name in ways]
    print_table([f'{fibonacci_calls(FIBONACCI):,} calls, each', 'ns', 'ns more than bare', *(f'{peer} costs, times as much' for peer in peers)],
                rows)


def main():
    rows, good = [], True
    for name, (work, needs) in PROGRAMS.items():
        missing = [need for need in needs if shutil.which(need) is None]
        if missing:
            print(f'{name}: {", ".join(missing)} not installed')
            good = False
            continue
        print(f'{name} ...', file=sys.stderr, flush=True)
        try:
            rows.append(sweep(name, work))
        except Different as what:
            print(what)
            good = False
    print('Seconds contain attaching; of the servers they are those of the clients\' work, nginx\'s for a thousand requests.\n')
    print_table(['program', 'functions', 'refused', 'whole / guarded / punned / breakpoint, %', 'bare s', 'calls counted', 's', 'x bare',
                 'M calls/s', 'calls timed', 's', 'x bare', 'M calls/s', 'with a time line, x bare'], rows)
    cost_of_a_call()
    return 0 if good else 1


if __name__ == '__main__':
    sys.exit(main())
