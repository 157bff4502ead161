"""Programs that people and models write, which mean no harm: they do what they do elsewhere, or are told why not."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from tests.sandboxes import restricted

from score_distill.sandbox.client import Sandbox, StepResult
from score_distill.sandbox.limits import Limits
from score_distill.sandbox.local import start

pytestmark = pytest.mark.asyncio(loop_scope="module")

STEP = "#--\n"


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=[start, restricted])
async def sandbox(request: pytest.FixtureRequest) -> AsyncIterator[Sandbox]:
    """With what the machine allows, and as in a restricted pod, without namespaces."""
    async with request.param(Limits(), libraries=("numpy",)) as sandbox:
        yield sandbox


async def run(sandbox: Sandbox, program: str, seed: int = 0) -> list[StepResult]:
    """What comes of the steps of ``program``."""
    branch, results = await sandbox.open(seed=seed), []
    for code in program.split(STEP):
        results.append(await branch.run(code))
        branch = results[-1].branch
    return results


WORKS = {
    "a database": (
        """
import sqlite3
c = sqlite3.connect('x.db')
c.execute('create table t(a, b)'); c.executemany('insert into t values(?, ?)', [(1, 2), (3, 4)]); c.commit()
#--
c.execute('insert into t values(5, 6)'); c.commit(); print(c.execute('select sum(a), sum(b) from t').fetchone())
#--
c.close(); c = sqlite3.connect('x.db'); print(c.execute('select count(*) from t').fetchone())
""",
        ["None", "(9, 12)", "(3,)"],
    ),
    "a database in memory": (
        "import sqlite3; c = sqlite3.connect(':memory:'); print(c.execute('select 1 + 1').fetchone())",
        ["(2,)"],
    ),
    "system libraries": ("import ssl, sqlite3, hashlib\nssl.create_default_context(); print('ok')", ["ok"]),
    "time zones": (
        "from zoneinfo import ZoneInfo\nfrom datetime import datetime\n"
        "print(datetime(2024, 7, 1, tzinfo=ZoneInfo('Europe/Paris')).isoformat())",
        ["2024-07-01T00:00:00+02:00"],
    ),
    "coroutines": (
        """
import asyncio
async def f(n):
    await asyncio.sleep(0.01)
    return n
async def main():
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(f(n)) for n in range(3)]
    queue = asyncio.Queue(); await queue.put(9)
    try:
        async with asyncio.timeout(0.01): await asyncio.sleep(9)
    except TimeoutError: print('late')
    print([task.result() for task in tasks], await asyncio.gather(f(4), f(5)), await queue.get())
asyncio.run(main())
#--
loop = asyncio.new_event_loop(); print(loop.run_until_complete(f(6))); loop.close()
""",
        ["late\n[0, 1, 2] [4, 5] 9", "6"],
    ),
    "a module of its own": (
        "open('helper.py', 'w').write('def g(): return 5\\n'); import helper; print(helper.g())\n"
        "#--\nimport helper as h; print(h.g())",
        ["5", "5"],
    ),
    "a file that is mapped": (
        "import mmap\nopen('f', 'wb').write(b'hello')\nwith open('f', 'rb') as f, mmap.mmap(f.fileno(), 0, "
        "access=mmap.ACCESS_READ) as m: print(m[:2], m.find(b'l'))",
        ["b'he' 2"],
    ),
    "arrays in files": (
        "import numpy as np\nnp.save('a.npy', np.arange(5)); print(np.load('a.npy', mmap_mode='r').sum())",
        ["10"],
    ),
    "arrays in texts": (
        "from numpy import *\nsavetxt('/scratch/t', [1]); print(loadtxt('/scratch/t'), genfromtxt('/scratch/t'))",
        ["1.0 1.0"],
    ),
    "files that are cut": (
        "import os\nopen('a', 'w').write('hello'); os.truncate('/scratch/a', 3); print(open('a').read())\n"
        "with open('a', 'r+') as f: os.truncate(f.fileno(), 1)\nprint(open('a').read())\n"
        "#--\ntry: os.truncate('/scratch/b', 1)\nexcept FileNotFoundError as error: print(error.filename)",
        ["hel\nh", "/scratch/b"],
    ),
    "copies, modes and times": (
        """
import os, shutil, stat
open('a', 'w').write('1'); os.chmod('a', 0o444); os.utime('a', (1000, 2000))
shutil.copy('a', 'b'); shutil.copy2('a', 'c'); os.mkdir('d'); shutil.copytree('d', 'e'); shutil.move('b', 'd')
print([oct(stat.S_IMODE(os.stat(n).st_mode)) for n in ('a', 'd/b', 'c')], os.stat('c').st_mtime, os.listdir('d'))
os.utime('a', ns=(5, 7)); print(os.stat('a').st_mtime_ns, os.stat('a').st_atime_ns); os.utime('a')
f = open('c'); os.fchmod(f.fileno(), 0o744); os.utime(f.fileno(), (3, 4)); f.close()
print(os.stat('a').st_mtime > 1e9, oct(os.stat('c').st_mode), os.stat('c').st_mtime)
import pathlib; pathlib.Path('t').touch(); pathlib.Path('t').touch(); print(sorted(os.listdir()))
#--
import zipfile, tarfile
with zipfile.ZipFile('z.zip', 'w') as z: z.write('a')
with tarfile.open('t.tar.gz', 'w:gz') as t: t.add('d'); t.add('a')
with tarfile.open('t.tar.gz') as t: t.extractall('out')
zipfile.ZipFile('z.zip').extractall('un'); print(os.listdir('un'), sorted(os.listdir('out')))
""",
        [
            "['0o444', '0o444', '0o444'] 2000.0 ['b']\n7 5\nTrue 0o100744 4.0\n['a', 'c', 'd', 'e', 't']",
            "['a'] ['a', 'd']",
        ],
    ),
    "threads": (
        """
import threading, time
done = []
def work(n): time.sleep(0.01); open(f'f{n}', 'w').write('1'); done.append(n)
threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(sorted(done))
#--
threading.Thread(target=work, args=(9,)).start()
#--
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor() as pool: print(done[-1], list(pool.map(lambda n: n * n, range(5))))
#--
pool = ThreadPoolExecutor(4); future = pool.submit(pow, 2, 5); print(future.result())
#--
print(future.result())
with ThreadPoolExecutor() as pool: print(pool.submit(pow, 2, 3).result())
#--
import asyncio; print(asyncio.run(asyncio.to_thread(pow, 3, 2)), threading.active_count())
""",
        ["[0, 1, 2, 3, 4, 5, 6, 7]", "None", "9 [0, 1, 4, 9, 16]", "32", "32\n8", "9 1"],
    ),
    "pools of multiprocessing, of threads": (
        """
from multiprocessing.pool import ThreadPool
with ThreadPool(4) as pool: print(pool.map(lambda n: n * n, range(5)))
#--
from multiprocessing.dummy import Pool
pool = Pool(3); print(sorted(pool.imap_unordered(str, range(4)))); pool.close(); pool.join()
#--
left = ThreadPool(3); print(left.apply_async(pow, (2, 5)).get())
#--
with ThreadPool() as pool: print(pool.starmap(pow, [(2, 3), (3, 2)]))
#--
import multiprocessing
with multiprocessing.Pool(2) as pool: pass
""",
        [
            "[0, 1, 4, 9, 16]",
            "['0', '1', '2', '3']",
            "32",
            "[8, 9]",
            "line 2:\nPermissionError: [Errno 1] no process and no other program can be started here; do it in Python",
        ],
    ),
    "absolute paths": (
        """
import os, pathlib
p = os.path.abspath('a'); open(p, 'w').write('1'); q = pathlib.Path.cwd() / 'b'; q.write_text('2')
print(p, q, open(p).name, pathlib.Path(__file__).parent)
#--
print(open(p).read(), q.read_text(), os.path.getsize(p), sorted(os.listdir(os.getcwd())), os.path.realpath('a'))
os.rename(p, '/scratch/c'); print(sorted(e.path for e in os.scandir('/scratch')), [*os.walk(os.getcwd())][0][0])
#--
import shutil, sqlite3, bz2
shutil.copy('/scratch/c', os.path.abspath('d')); os.unlink(q); shutil.copytree('/scratch', '/scratch/e')
with bz2.open('/scratch/z', 'wt') as f: f.write('3')
c = sqlite3.connect('/scratch/x.db'); c.execute('create table t(a)'); c.close(); os.remove('/scratch/x.db')
print(bz2.open('/scratch/z', 'rt').read(), sorted(map(str, pathlib.Path('/scratch').rglob('*'))))
""",
        [
            "/scratch/a /scratch/b /scratch/a /scratch",
            "1 2 1 ['a', 'b'] /scratch/a\n['/scratch/b', '/scratch/c'] /scratch",
            "3 ['/scratch/c', '/scratch/d', '/scratch/e', '/scratch/e/c', '/scratch/e/d', '/scratch/z']",
        ],
    ),
    "another folder": (
        "import os; os.mkdir('sub'); os.chdir('sub'); open('f', 'w').write('1')\n"
        "#--\nprint(os.getcwd(), open('f').read()); os.chdir('..')\n"
        "#--\nprint(os.getcwd(), os.listdir()); os.chdir('sub'); os.unlink('f'); os.rmdir('/scratch/sub')\n"
        "#--\nprint(os.getcwd())",
        ["None", "/scratch/sub 1", "/scratch ['sub']", "/scratch"],
    ),
    "a file that is not there": (
        "open('/scratch/x')\n#--\nopen('x')",
        [f"FileNotFoundError: [Errno 2] No such file or directory: '{path}'" for path in ("/scratch/x", "x")],
    ),
    "shelves": (
        "import shelve\nwith shelve.open('s') as s: s['a'] = [1]\n"
        "#--\nwith shelve.open('s', writeback=True) as s: s['a'].append(2); print(dict(s))\n"
        "#--\nimport dbm\nwith dbm.open('d', 'c') as d: d['k'] = 'v'; print(d['k'])",
        ["None", "{'a': [1, 2]}", "b'v'"],
    ),
    "a log of many lines": (
        "for n in range(5000):\n    with open('log', 'a') as f: f.write(f'{n}\\n')\nprint(n)\n"
        "#--\nfor n in range(5000):\n    with open('log', 'a') as f: f.write(f'{n}\\n')\n"
        "print(len(open('log').readlines()))",
        ["4999", "10000"],
    ),
    "a folder that is there already": (
        "import os\nfor n in range(2000): os.makedirs('out', exist_ok=True)\nprint(os.listdir())",
        ["['out']"],
    ),
    "streams that are kept": (
        "import logging, sys; out = sys.stdout; log = logging.getLogger('a'); log.addHandler(logging.StreamHandler())\n"
        "#--\nprint(1, file=out, end=''); log.warning('2')\n"
        "#--\nout.close()\n"
        "#--\nprint(3); log.warning('4'); sys.stdout.reconfigure(line_buffering=False)\n"
        "#--\nprint(5); log.warning('6')",
        ["None", "2\n1", "None", "3\n4", "5\n6"],
    ),
    "kinds of files": ("import mimetypes; print(mimetypes.guess_type('a.png')[0])", ["image/png"]),
}


@pytest.mark.parametrize(("program", "outputs"), WORKS.values(), ids=WORKS)
async def test_what_is_safe_works(sandbox: Sandbox, program: str, outputs: list[str]) -> None:
    assert [result.output for result in await run(sandbox, program)] == outputs


PROCESS = "no process and no other program can be started here; do it in Python"
NETWORK = "there is no network here"
MISSING = {
    "import subprocess; subprocess.run(['ls'])": PROCESS,
    "import subprocess; subprocess.check_output('ls', shell=True)": PROCESS,
    "import os; os.system('ls')": PROCESS,
    "import os; os.popen('ls').read()": PROCESS,
    "import os; os.fork()": PROCESS,
    "import multiprocessing as m; m.Process(target=print).start()": PROCESS,
    "import multiprocessing as m; m.Pool(2)": PROCESS,
    "from concurrent.futures import *; ProcessPoolExecutor().submit(print)": PROCESS,
    "import asyncio; asyncio.run(asyncio.create_subprocess_exec('ls'))": PROCESS,
    "import asyncio; asyncio.run(asyncio.start_server(print, '127.0.0.1', 80))": NETWORK,
    "import socket; socket.socket()": NETWORK,
    "import socket; socket.create_connection(('example.com', 80))": NETWORK,
    "import urllib.request; urllib.request.urlopen('http://example.com')": NETWORK,
    "import http.client; http.client.HTTPSConnection('example.com').request('GET', '/')": NETWORK,
    "import os; os.symlink('a', 'b')": "only files and folders can be made here",
    "input()": "there is no input",
}


@pytest.mark.parametrize(("code", "words"), MISSING.items(), ids=MISSING)
async def test_what_there_is_not_says_so(sandbox: Sandbox, code: str, words: str) -> None:
    (result,) = await run(sandbox, code)
    assert result.error and words in result.output


async def test_tools_can_be_called_in_threads(sandbox: Sandbox) -> None:
    async def double(args: list[int], kwargs: dict[str, int]) -> int:
        return 2 * args[0]

    code = "from concurrent.futures import *\nwith ThreadPoolExecutor(8) as pool: print([*pool.map(double, range(40))])"
    result = await (await sandbox.open(tools={"double": double})).run(code)
    assert result.output == str([2 * n for n in range(40)])


async def test_paths_are_the_same_at_each_replay_and_where_a_session_is_counts(sandbox: Sandbox) -> None:
    code = "import os, pathlib\nos.mkdir('d'); a = os.path.abspath('x'); b = pathlib.Path.cwd(); c = os.getcwdb()"
    first, second, elsewhere = [(await run(sandbox, code + more))[0].state_hash for more in ("", "", "; os.chdir('d')")]
    assert first == second != elsewhere
    assert None not in (first, elsewhere)


async def test_names_of_temporary_files_are_the_same_at_each_replay(sandbox: Sandbox) -> None:
    code = "import os, tempfile\nwith tempfile.NamedTemporaryFile() as f: name = f.name"
    first, second = [(await run(sandbox, code))[0] for _ in range(2)]
    assert first.state_hash == second.state_hash is not None


CHANCE = """
import os, random, secrets, tempfile, uuid
import numpy as np
print(uuid.uuid4(), secrets.token_hex(8), os.urandom(8), random.Random().random(), random.SystemRandom().random())
random.seed(); print(random.random(), np.random.rand(), np.random.default_rng().random(), secrets.choice('abcdef'))
"""


async def test_all_chance_comes_of_the_seed(sandbox: Sandbox) -> None:
    one, again, other = [(await run(sandbox, CHANCE + STEP + CHANCE, seed)) for seed in (1, 1, 2)]
    assert [(step.output, step.state_hash) for step in one] == [(step.output, step.state_hash) for step in again]
    drawn = [step.output.split()[place] for step in (*one, *other) for place in range(8)]
    assert len(set(drawn)) == len(drawn)
