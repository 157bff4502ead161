"""Steps against a real daemon: states are frozen, forks are exact, tools answer, limits say so, nothing is left."""

import asyncio
import json

import pytest
import pytest_asyncio

from score_distill.sandbox.client import SandboxError, ToolError
from score_distill.sandbox.limits import Limits
from score_distill.sandbox.local import start

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIMITS = Limits(wall_seconds=5, cpu_seconds=1, memory_bytes=64 << 20, output_bytes=20_000, observation_chars=1000)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def sandbox():
    async with start(LIMITS, libraries=()) as sandbox:
        yield sandbox


async def run(sandbox, *codes, seed=0, tools=None):
    """The result of the last of ``codes``, run one after the other in a new session."""
    branch = await sandbox.open(seed=seed, tools=tools or {})
    for code in codes:
        result = await branch.run(code)
        branch = result.branch
    return result


@pytest.mark.parametrize(
    ("code", "output", "error"),
    [
        ("print(1 + 1)", "2", None),
        ("x = 1", "None", None),
        ("1 + 1", "None", None),
        ("x", "NameError: name 'x' is not defined", "NameError"),
        ("print('a')\n1 / 0", "a\nline 2:\nZeroDivisionError: division by zero", "ZeroDivisionError"),
        ("def f():\n  1 / 0\n\nf()", "line 2, in f:\nZeroDivisionError: division by zero", "ZeroDivisionError"),
        (
            "import json\njson.loads('x')",
            "line 2:\njson.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0)",
            "JSONDecodeError",
        ),
        (
            "e = ValueError('no'); e.add_note('because'); e.add_note('and\\nso'); raise e",
            "ValueError: no\nbecause\nand\nso",
            "ValueError",
        ),
        (
            "raise ExceptionGroup('two', [ValueError('a'), ExceptionGroup('one', [KeyError('b')])])",
            "ExceptionGroup: two (2 sub-exceptions)\n  ValueError: a\n  KeyError: 'b'",
            "ExceptionGroup",
        ),
        (
            "y = 1\nx = (",
            "  File \"<step 1>\", line 2\n    x = (\n        ^\nSyntaxError: '(' was never closed",
            "SyntaxError",
        ),
        (
            "exec('a b')",
            '  File "<string>", line 1\n    a b\n      ^\nSyntaxError: invalid syntax',
            "SyntaxError",
        ),
        ("raise SystemExit(3)", "SystemExit: 3", None),
        ("import sys; print('a'); sys.exit('bye'); print('b')", "a\nbye", None),
        ("exit()", "None", None),
        ("print(1); quit(); print(2)", "1", None),
        ("input()", "EOFError: there is no input: nobody answers while a step runs", "EOFError"),
        ("import io, sys; sys.stdin = io.StringIO('5'); print(input())", "5", None),
        ("assert False, 'no'", "AssertionError: no", "AssertionError"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt", "KeyboardInterrupt"),
        ("class E(Exception): pass\nraise E('é')", "line 2:\nE: é", "E"),
        ("import sys; print(1); print(2, file=sys.stderr); print(3); sys.stderr.write('4')", "1\n2\n3\n4", None),
        ("import os; print(1); os.write(2, b'2\\n'); print(3)", "1\n2\n3", None),
        ("import logging; logging.warning('w'); print(1)", "WARNING:root:w\n1", None),
        (
            "import warnings; warnings.warn('w')",
            "<step 1>:1: UserWarning: w\n  import warnings; warnings.warn('w')",
            None,
        ),
        (
            "import traceback\ntry: int('a')\nexcept ValueError: traceback.print_exc()",
            "Traceback (most recent call last):\n  File \"<step 1>\", line 2, in <module>\n    try: int('a')\n"
            "         ^^^^^^^^\nValueError: invalid literal for int() with base 10: 'a'",
            None,
        ),
        ("import sys; sys.stderr.close(); sys.stderr = None", "None", None),
        ("import sys; sys.stdout.write('no newline')", "no newline", None),
        ("import sys; sys.stdout.close()", "None", None),
        ("import sys; sys.stdout = None; print(1)", "None", None),
        ("print('\\ud800')", "\\ud800", None),
        ("import os; os.write(1, b'raw\\xff')", "raw\ufffd", None),
        ("print(__name__)", "__main__", None),
        ("f = lambda: (yield)\nprint(type(f()).__name__)", "generator", None),
        ("import torch", "ModuleNotFoundError: No module named 'torch'", "ModuleNotFoundError"),
        ("import os; print(dict(os.environ))", "{}", None),
        (
            "def f(): return f()\nf()",
            "line 1, in f:\nRecursionError: maximum recursion depth exceeded",
            "RecursionError",
        ),
    ],
)
async def test_what_the_model_sees(sandbox, code, output, error):
    result = await run(sandbox, code)
    assert (result.output, result.error, result.answer) == (output, error, None)


async def test_an_error_in_a_function_of_an_earlier_step_says_where_that_is(sandbox):
    result = await run(sandbox, "def f(x):\n    return 1 / x", "f(0)")
    assert result.output == "step 1, line 2, in f:\nZeroDivisionError: division by zero"
    assert (
        await run(sandbox, "def f(x):\n    return 1 / x", "import inspect; print(inspect.getsource(f))")
    ).output == ("def f(x):\n    return 1 / x")


async def test_a_session_goes_on_after_its_step_was_left(sandbox):
    result = await run(sandbox, "x = 1\nexit()\nx = 2", "import sys\nsys.exit(x)", "print(x)", "input()")
    assert result.error == "EOFError"
    assert (await result.branch.run("print(x)")).output == "1"


async def test_a_handler_of_an_earlier_step_writes_to_the_step_that_uses_it(sandbox):
    result = await run(sandbox, "import logging; logging.basicConfig()", "print(1); logging.error('e'); print(2)")
    assert result.output == "1\nERROR:root:e\n2"


async def test_variables_imports_and_classes_live_on(sandbox):
    code = "import math\nclass A:\n    n = 2\ndef f(x): return math.sqrt(x) * A.n\ncount = iter(range(9)); next(count)"
    result = await run(sandbox, code, "print(f(16), next(count))", "print(next(count))")
    assert result.output == "2"


async def test_running_from_a_state_leaves_it_as_it_was(sandbox):
    before = (await run(sandbox, "items = [1]")).branch
    first = await before.run("items.append(2); print(items)")
    second = await before.run("items.append(3); print(items)")
    again = await before.run("print(items)")
    assert [first.output, second.output, again.output] == ["[1, 2]", "[1, 3]", "[1]"]
    assert first.state_hash != second.state_hash != again.state_hash


async def test_many_forks_at_once_are_independent(sandbox):
    before = (await run(sandbox, "items = []")).branch
    results = await asyncio.gather(*(before.run(f"items.append({n}); print(items)") for n in range(32)))
    assert [result.output for result in results] == [f"[{n}]" for n in range(32)]
    assert len({result.state_hash for result in results}) == 32


STEPS = [
    "import random, collections\nvalues = [random.random() for _ in range(3)]",
    "class P:\n    def __init__(self, x): self.x = x\npoints = {P(v).x: P(v) for v in values}",
    "open('notes', 'w').write(str(values)); tally = collections.Counter('abca')",
    "random.shuffle(values); squares = (v * v for v in values); next(squares)",
    "def outer(k):\n    def inner(): return k\n    return inner\ninner = outer(2); s = {str(v) for v in values}",
]


async def test_a_fork_equals_a_replay(sandbox):
    branch = await sandbox.open(seed=5)
    hashes = []
    for code in STEPS:
        result = await branch.run(code)
        assert result.error is None, result.output
        branch = result.branch
        hashes.append(result.state_hash)
    replayed = await sandbox.open(seed=5)
    for code, expected in zip(STEPS, hashes, strict=True):
        result = await replayed.run(code)
        assert result.state_hash == expected
        forks = await asyncio.gather(*(result.branch.run("") for _ in range(3)))
        assert {fork.state_hash for fork in forks} == {expected}
        replayed = result.branch
    assert len(set(hashes)) == len(hashes)


async def test_the_seed_decides_the_random_state(sandbox):
    code = "import random; print(random.random())"
    first, same, other = [await run(sandbox, code, seed=seed) for seed in (1, 1, 2)]
    assert first.output == same.output != other.output
    assert first.state_hash == same.state_hash != other.state_hash


async def test_two_forks_draw_the_same_random_numbers(sandbox):
    before = (await run(sandbox, "import random")).branch
    results = [await before.run("print(random.random())") for _ in range(2)]
    assert results[0].output == results[1].output


async def test_the_answer_ends_the_step_and_not_the_session(sandbox):
    result = await run(sandbox, "x = 1\ntry:\n    final_answer_print(x + 1)\nexcept BaseException:\n    x = 9\nx = 8")
    assert (result.answer, result.output, result.error) == ("2", "2", None)
    assert (await result.branch.run("print(x)")).output == "1"


@pytest.mark.parametrize("value", ["'a\\nb'", "None", "[1, 'x']", "3.5", "'\\ud800'"])
async def test_the_answer_is_what_str_makes_of_it(sandbox, value):
    result = await run(sandbox, f"final_answer_print({value})")
    assert result.answer == str(eval(value)).encode("utf-8", "replace").decode()


async def test_an_answer_that_has_no_text_is_an_error_and_no_answer(sandbox):
    result = await run(sandbox, "class A:\n    def __str__(self): raise ValueError('no')\nfinal_answer_print(A())")
    assert (result.answer, result.output.splitlines()[-1]) == (None, "ValueError: no")


async def test_a_tool_is_called_with_values_and_answers_with_one(sandbox):
    calls = []

    async def look(args, kwargs):
        calls.append((args, kwargs))
        return {"found": [1, None, "é"]}

    code = "print(look('a', 2, deep=[1.5, {'k': (1, 2)}]))"
    result = await run(sandbox, code, tools={"look": look})
    assert result.output == "{'found': [1, None, 'é']}"
    assert calls == [(["a", 2], {"deep": [1.5, {"k": [1, 2]}]})]


async def test_a_refusal_of_a_tool_is_an_error_in_the_step(sandbox):
    async def look(args, kwargs):
        raise ToolError("look() takes one argument")

    caught = await run(sandbox, "try:\n    look()\nexcept Exception as e:\n    print(repr(e))", tools={"look": look})
    assert caught.output == "ToolError('look() takes one argument')"
    result = await run(sandbox, "look()", tools={"look": look})
    assert result.error == "ToolError" and result.output == "ToolError: look() takes one argument"


async def test_a_fault_of_a_tool_is_the_callers_and_the_state_stays(sandbox):
    async def look(args, kwargs):
        raise KeyError("a bug")

    branch = (await run(sandbox, "x = 1")).branch
    with pytest.raises(KeyError, match="a bug"):
        await branch.run("look()", {"look": look})
    assert (await branch.run("print(x)")).output == "1"


@pytest.mark.parametrize("argument", ["object()", "b'x'", "{1: open}"])
async def test_what_a_tool_cannot_take_is_a_type_error(sandbox, argument):
    async def look(args, kwargs):
        return 1

    assert (await run(sandbox, f"look({argument})", tools={"look": look})).error == "TypeError"


async def test_each_run_binds_its_own_tools(sandbox):
    async def one(args, kwargs):
        return 1

    async def two(args, kwargs):
        return 2

    branch = (await run(sandbox, "kept = 0", tools={"read": one})).branch
    assert (await branch.run("print(read())")).output == "1"
    assert (await branch.run("print(read())", {"read": two})).output == "2"
    assert (await branch.run("read()", {})).error == "NameError"


LIMIT_HITS = [
    ("while True: pass", "TimeoutError", "TimeoutError: the step"),
    ("import time; print('a'); time.sleep(99)", "TimeoutError", "a\nTimeoutError: the step ran longer than 5 s"),
    ("9 ** 9 ** 9", "TimeoutError", "TimeoutError: the step"),
    ("import signal\nwhile True: signal.pause()", "TimeoutError", "TimeoutError: the step ran longer than 5 s"),
    ("x = [0] * 10 ** 9", "MemoryError", "MemoryError: the session needed more than 64 MiB of memory"),
    ("b = []\nwhile True: b.append(bytes(10**6))", "MemoryError", "64 MiB of memory"),
    ("print('x' * 30_000)", "OutputLimitError", "OutputLimitError: the step printed more than 20000 bytes"),
    ("import sys\nwhile True: sys.stderr.write('x\\n')", "OutputLimitError", "printed more than 20000 bytes"),
    ("while True: print('x')", "OutputLimitError", "OutputLimitError: the step printed more than 20000 bytes"),
    ("import os; os._exit(3)", "ProcessDiedError", "ended its own interpreter (exit status 3)"),
    ("import ctypes; ctypes.string_at(0)", "ProcessDiedError", "ended its own interpreter (SIGSEGV)"),
    ("import os; os.abort()", "ProcessDiedError", "ended its own interpreter"),
    ("import os; os.close(3)", "ProcessDiedError", "exit status 1"),
]


@pytest.mark.parametrize(("code", "error", "words"), LIMIT_HITS, ids=[code for code, _, _ in LIMIT_HITS])
async def test_a_limit_is_told_and_the_step_is_undone(sandbox, code, error, words):
    before = (await run(sandbox, "x = 'before'")).branch
    result = await before.run(f"x = 'after'\n{code}")
    assert (result.error, result.answer) == (error, None)
    assert words in result.output
    assert result.branch is before
    assert (await before.run("print(x)")).output == "before"


async def test_a_big_output_is_cut_in_the_middle(sandbox):
    result = await run(sandbox, "print('start', 'x' * 5000, 'end')")
    assert result.error is None
    assert result.output.startswith("start") and result.output.endswith("end") and len(result.output) <= 1000
    assert "characters cut" in result.output


async def test_time_in_a_tool_is_not_the_steps(sandbox):
    async def slow(args, kwargs):
        await asyncio.sleep(6)
        return "answer"

    assert (await run(sandbox, "print(slow())", tools={"slow": slow})).output == "answer"


async def test_files_belong_to_the_state(sandbox):
    before = (await run(sandbox, "open('a', 'w').write('1')")).branch
    results = await asyncio.gather(
        *(before.run(f"open('a', 'a').write('{n}'); print(open('a').read())") for n in range(4))
    )
    assert [result.output for result in results] == [f"1{n}" for n in range(4)]
    assert (await before.run("import os; print(os.listdir('.'), open('a').read())")).output == "['a'] 1"


async def test_open_files_fork_with_their_position(sandbox):
    before = (await run(sandbox, "f = open('a', 'w+'); f.write('abcdef'); f.flush(); f.seek(2)")).branch
    first = await before.run("print(f.read(1)); f.seek(0); f.write('X'); f.seek(0); print(f.read())")
    second = await before.run("print(f.read(1)); f.seek(0); print(f.read())")
    assert [first.output, second.output] == ["c\nXbcdef", "c\nabcdef"]


async def test_as_many_open_files_as_fit_fork_with_their_positions(sandbox):
    many = "files = [open(str(n), 'w+') for n in range(27)]\nfor n, file in enumerate(files): file.write(n * 'x')"
    gaps = "for file in files[::3]: file.close()\nfiles = [file for file in files if not file.closed]"
    told = "print([file.tell() for file in files] == [int(file.name) for file in files], len(files))"
    told += "\nfor file in files: file.write('y')"
    for codes, count in (((many, told), 27), ((many, gaps, told), 18)):
        assert (await run(sandbox, *codes)).output == f"True {count}"


NO_TEXT = {
    "printed": "print('\\ud800')",
    "written": "import os; os.write(1, b'\\xed\\xa0\\x80')",
    "raised": "raise ValueError('\\ud800')",
    "answered": "final_answer_print('\\udcff')",
    "the name of a file left open": "f = open(b'\\xff', 'w'); import os; os.unlink(b'\\xff')",
    "the name of a mapped file": "import ctypes\nf = open(b'\\xff', 'wb+'); f.write(bytes(5000)); f.flush()\n"
    "ctypes.CDLL(None).mmap(None, ctypes.c_size_t(5000), 3, 2, f.fileno(), ctypes.c_long(0)); f.close()",
    "the name of a class": "raise type('\\ud800', (Exception,), {})()",
    "given to a tool": "print(tool('\\ud800', [{'\\udfff': ('\\udcff',)}], name='\\ud800'))",
    "given to a tool as a name": "print(tool(**{'\\ud800': 1}))",
}


@pytest.mark.parametrize("code", NO_TEXT.values(), ids=NO_TEXT)
async def test_what_a_step_says_is_text_that_can_be_sent_on(sandbox, code):
    seen = []

    async def tool(args, kwargs):
        seen.append(json.dumps([args, kwargs], ensure_ascii=False))
        return 1

    result = await run(sandbox, code, tools={"tool": tool})
    for text in (result.output, result.answer or "", result.error or "", *seen):
        text.encode()


async def test_folders_files_and_moves_work_in_the_scratch_folder(sandbox):
    code = (
        "import os, shutil\nos.makedirs('d/e'); open('d/e/f', 'w').write('1'); os.rename('d/e/f', 'd/g')\n"
        "os.replace('d/g', 'd/h'); os.rmdir('d/e'); print(os.listdir('d'), open(os.path.abspath('d/h')).read())\n"
        "shutil.rmtree('d'); print(os.listdir('.')); open(os.devnull, 'w').write('x')"
    )
    assert (await run(sandbox, code)).output == "['h'] 1\n[]"


async def test_temporary_files_work(sandbox):
    code = (
        "import tempfile\nwith tempfile.TemporaryFile('w+') as f: f.write('1'); f.seek(0); print(f.read())\n"
        "with tempfile.NamedTemporaryFile() as f: print(f.write(b'12'))\n"
        "with tempfile.TemporaryDirectory() as d: print(open(d + '/x', 'w').write('123'))"
    )
    assert (await run(sandbox, code)).output == "1\n2\n3"


async def test_a_closed_state_cannot_be_run_from_and_its_children_can(sandbox):
    before = (await run(sandbox, "x = 1")).branch
    after = (await before.run("x += 1")).branch
    await before.close()
    with pytest.raises(SandboxError, match="closed"):
        await before.run("print(x)")
    assert (await after.run("print(x)")).output == "2"


async def test_a_cancelled_step_ends_and_its_state_stays(sandbox):
    before = (await run(sandbox, "x = 1")).branch
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await before.run("import time; time.sleep(99)")
    assert (await before.run("print(x)")).output == "1"
