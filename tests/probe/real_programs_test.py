# SPDX-License-Identifier: MIT
"""Real programs with a probe on every function, of libraries and the C library too: what they print must be what they print without.
Then the same with return probes.

    real_programs_test.py AGENT

sqlite3 runs a script of SQL, a redis server a list of commands, gdb a list of commands of which most end in an exception. Prints the
share of each class of place. Exit status: 0 if nothing differs, every function could be probed, and 99.9 % of them without a
breakpoint, and with return probes every one that is entered by a call and does not look at its caller; 77 (skipped) if none of
the programs is installed.
"""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

SQL = """
create table t(id integer primary key, name text, v real, g int);
with recursive c(x) as (select 1 union all select x+1 from c where x<20000)
    insert into t select x, 'name'||(x*7919%10007), x*1.5/7, x%97 from c;
create index i on t(name); create index j on t(g,v);
select count(*), sum(v), min(name), max(name) from t;
select g, count(*), round(avg(v),3), group_concat(name) from t where id<2000 group by g order by g limit 20;
select a.id,b.id from t a join t b on a.name=b.name and a.id<b.id order by 1,2 limit 50;
select id, row_number() over (partition by g order by v desc) r, sum(v) over (order by id rows 3 preceding) from t where id%1000=0;
select json_extract('{"a":[1,2,{"b":3}]}','$.a[2].b'), upper(hex(zeroblob(1))), printf('%08.3f|%x|%s', 3.14159, 255, 'x');
update t set v=v+1 where g in (select g from t where name like '%99%'); delete from t where id%3=0;
select count(*), round(sum(v),4) from t; select * from t order by name desc, id limit 30; pragma integrity_check;
begin; insert into t(name) values('a'),('b'); rollback; select total_changes();
select * from nowhere;
.dump t
"""


def redis_commands():
    for i in range(2000):
        yield f'set k{i} v{i * 7919 % 1000}'
        yield f'incrby c{i % 50} {i}'
        yield f'lpush l{i % 20} {i}'
        yield f'zadd z{i % 10} {i * 31 % 1000} m{i}'
        yield f'hset h{i % 30} f{i} {i * i}'
    for i in range(50):
        yield f'lrange l{i % 20} 0 10'
        yield f'zrangebyscore z{i % 10} 100 200 withscores limit 0 10'
        yield f'hgetall h{i % 30}'
        yield f'sort l{i % 20} alpha limit 0 5'
        yield f'eval "local s=0 for i=1,{i} do s=s+i end return s" 0'
    yield from ('dbsize', 'bitcount k1', 'object encoding l1', 'nosuchcommand')


def gdb_commands():
    for i in range(400):
        yield f'print nowhere_{i}'
        yield f'break nowhere_{i}'
        yield f'print {i} / ({i} - {i})'
        yield f'ptype struct nothing_{i}'
        yield f'print {i} * {i} + sizeof(int)'
        yield f'print $_strlen("{"x" * (i % 50)}")'
        yield f'info line nowhere_{i}.c:{i}'
        yield f'set variable $x = {i}'


def run_gdb(environment, _):
    done = subprocess.run(['gdb', '-nx', '-q', '-batch', '-ex', 'set width 0', *(part for each in gdb_commands()
                                                                                 for part in ('-ex', each))],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment | {'LC_ALL': 'C'}, timeout=120)
    return done.stdout, done.stderr, done.returncode


def run_sqlite(environment, _):
    done = subprocess.run(['sqlite3', ':memory:'], input=SQL, capture_output=True, text=True, env=environment, timeout=120)
    return done.stdout, done.stderr, done.returncode


def run_redis(environment, folder):
    socket = folder / 'socket'
    # Debian's redis-tools has the server under this name; redis-server is a link to it.
    server = subprocess.Popen(['redis-server', '--port', '0', '--unixsocket', socket, '--save', '', '--logfile', folder / 'log'],
                              executable=shutil.which('redis-check-rdb'), env=environment, cwd=folder)
    try:
        while not socket.exists() and server.poll() is None:
            time.sleep(0.05)
        client = ['redis-cli', '-s', socket]
        done = subprocess.run(client, input='\n'.join(redis_commands()), capture_output=True, text=True, timeout=120)
        subprocess.run([*client, 'shutdown', 'nosave'], capture_output=True, timeout=60)
        return done.stdout, done.stderr, server.wait(timeout=60)
    finally:
        server.kill()


PROGRAMS = {
    'sqlite3': (run_sqlite, ['sqlite3'], '.:libsqlite3.so.0:libc.so.6:libm.so.6:libz.so.1'),
    'redis': (run_redis, ['redis-check-rdb', 'redis-cli'], '.:libc.so.6:libm.so.6'),
    'gdb': (run_gdb, ['gdb'], '.:libstdc++.so.6:libc.so.6'),
}
# What a return probe may be refused for: a part of a function that others jump to, and those that look at their caller.
NOT_TRACKED = ['not entered by a call', 'cannot be probed']
RETURNS = {'DYNFUNC_AGENT_RETURNS': '1024'}


def check(name, agent, folder, returns):
    run, _, modules = PROGRAMS[name]
    expected = run(dict(os.environ), folder)
    report = folder / 'report'
    probed = run(dict(os.environ, LD_PRELOAD=agent, DYNFUNC_AGENT_MODULES=modules, DYNFUNC_AGENT_REPORT=str(report),
                      **(RETURNS if returns else {})), folder)
    failures = [what for what, one, other in zip(('stdout', 'stderr', 'exit status'), expected, probed) if one != other]
    for what in failures:
        print(f'{name}: {what} differs')
        for one, other in zip(expected, probed):
            if one != other:
                print(f'    without: ...{str(one)[-300:]}\n    with: ...{str(other)[-300:]}')
    if not report.exists():
        print(f'{name}: the agent left no report: {probed[1][-500:]}')
        return False
    lines = [line.split(' ', 2) for line in report.read_text(encoding='utf-8').splitlines()]
    figures = {line[0]: int(line[1]) for line in lines if line[0] != 'refused'}
    refused = [line for line in lines if line[0] == 'refused']
    functions = figures['functions']
    print(f"{name}: {len(expected[0])} characters; {functions} functions probed: "
          + ', '.join(f'{figures[c]} {c}' for c in ('whole', 'guarded', 'punned', 'breakpoint'))
          + f"; {figures['hit']} hit, {figures['hits']} hits, {figures['missed']} missed")
    for _, count, reason in refused:
        print(f'{name}: {count} refused: {reason}')
    good = not failures and figures['hits'] > 10000
    if not returns:
        # What signal handlers return to, in the C library (with its debug symbols it begins at two places), and the personality of
        # C++.
        few = sum(int(count) for _, count, _ in refused) <= 1 + modules.count('lib')
        return good and few and all('cannot be probed' in line[2] for line in refused) and figures['breakpoint'] <= functions / 1000
    print(f"{name}: returns: {figures['unwound']} calls unwound, {figures['stale']} left, {figures['untracked']} not tracked, "
          f"{figures['in_flight']} in flight at the end")
    unexpected = [line for line in refused if not any(reason in line[2] for reason in NOT_TRACKED)]
    return good and not unexpected and (name != 'gdb' or figures['unwound'] > 1000)


def control(agent, more):
    """Probes that change an argument, or a result, must be noticed."""
    spoiled = dict(os.environ, LD_PRELOAD=agent, DYNFUNC_AGENT_MODULES='libsqlite3.so.0', DYNFUNC_AGENT_SPOILS='1', **more)
    if run_sqlite(dict(os.environ), None) != run_sqlite(spoiled, None):
        return True
    print('sqlite3: probes that change an argument, or a result, were not noticed')
    return False


def main():
    agent = os.path.abspath(sys.argv[1])
    if subprocess.run(['true'], env=dict(os.environ, LD_PRELOAD=agent), capture_output=True).stderr:
        print('a preloaded object cannot be loaded here (a sanitizer?)')
        return 77
    installed = [name for name, (_, needs, _) in PROGRAMS.items() if all(map(shutil.which, needs))]
    if not installed:
        print('neither sqlite3 nor redis-tools nor gdb is installed')
        return 77
    good = True
    for returns in (False, True):
        for name in installed:
            with tempfile.TemporaryDirectory() as folder:
                good = check(name, agent, pathlib.Path(folder), returns) and good
        if 'sqlite3' in installed:
            good = control(agent, RETURNS if returns else {}) and good
    return 0 if good else 1


if __name__ == '__main__':
    sys.exit(main())
