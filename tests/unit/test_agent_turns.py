"""What a turn says and where it ends: thought, code or none, plan, and the tail that nobody runs or learns."""

from itertools import product

import pytest

from score_distill.agent.turns import Turn, is_reasoning_mark, parse_turn, read_reply, without_reasoning, write_turn

THINK = "<thought>t</thought>"
X = f"{THINK}<code>x</code>"
STEP = Turn("t", "x", False)


def t(code: str | None, thought: str = "t", *, plan: bool = False) -> Turn:
    return Turn(thought, code, plan)


# name: the reply, what its turn says, and the tail
TURNS: dict[str, tuple[str, Turn, str]] = {
    # the form that is asked for
    "one line": (X, STEP, ""),
    "lines": ("<thought>t</thought><code>\nx = 1\ny = 2\n</code>", t("x = 1\ny = 2"), ""),
    "apart": ("<thought>t</thought>\n\n<code>\nx\n</code>\n", t("x"), "\n"),
    "windows lines": ("<thought>t\r\nu</thought>\r\n<code>\r\nx\r\ny\r\n</code>", t("x\ny", "t\nu"), ""),
    "no thought": ("<code>x</code>", t("x", ""), ""),
    "no code": ("<thought>t</thought>", t(None), ""),
    "empty": ("", t(None, ""), ""),
    "prose": ("I do not know.", t(None, "I do not know."), ""),
    "empty code": ("<thought>t</thought><code></code>", t(""), ""),
    "plan": ("<first_thought>p</first_thought>", t(None, "p", plan=True), ""),
    "plan cut off": ("<first_thought>read a", t(None, "read a", plan=True), ""),
    "plan that names code": (
        "<first_thought>p <code>y</code></first_thought>",
        t(None, "p <code>y</code>", plan=True),
        "",
    ),
    "plan with a draft": (
        "<first_thought>p\n```python\ny\n```\n</first_thought>",
        t(None, "p\n```python\ny\n```", plan=True),
        "",
    ),
    "plan and code": (f"<first_thought>p</first_thought>{X}", STEP, ""),
    "plan and untagged code": ("<first_thought>p</first_thought><code>x</code>", t("x", "p"), ""),
    "code cut off": ("<thought>t</thought><code>x = (1 +", t("x = (1 +"), ""),
    "thought cut off": ("<thought>t", t(None), ""),
    "thought not closed": ("<thought>t<code>x</code>", STEP, ""),
    "thought not closed, its end in a string": ("<thought>t<code>p('</thought>')</code>", t("p('</thought>')"), ""),
    "thought opened by the template": ("t</thought><code>x</code>", STEP, ""),
    "error in the code": (f"{THINK}<code>x = (</code>", t("x = ("), ""),
    "shell in the code": (f"{THINK}<code>!ls</code>", t("!ls"), ""),
    "reasoning that ends at a fence": ("<think>d ```python\ny\n```</think>```python\nx\n```", t("x", ""), ""),
    "reasoning that ends at a fence, in lines": ("<think>\n```\ny\n```</think>\n<code>x</code>", t("x", ""), ""),
    # tags
    "upper case": ("<Thought>t</Thought><CODE>x</CODE>", STEP, ""),
    "attribute": (f'{THINK}<code lang="python">x</code>', STEP, ""),
    "class": (f"{THINK}<pre><code class='language-python'>x</code></pre>", STEP, "</pre>"),
    "code of another language": (f'{THINK}<code lang="bash">ls</code><code>x</code>', STEP, ""),
    "space in the closing tag": (f"{THINK}<code>x</code >", STEP, ""),
    "escaped tags are text": ("&lt;code&gt;x&lt;/code&gt;", t(None, "&lt;code&gt;x&lt;/code&gt;"), ""),
    "code inside of the thought": ("<thought>t <code>x</code></thought>", STEP, "</thought>"),
    # tags that are only named
    "named in the thought": (
        "<thought>I write a <code> block</thought><code>x</code>",
        t("x", "I write a <code> block"),
        "",
    ),
    "both named in the thought": (
        "<thought>between <code> and </code> it goes</thought><code>x</code>",
        t("x", "between <code> and </code> it goes"),
        "",
    ),
    "draft in the thought": ("<thought>not <code>y</code></thought><code>x</code>", t("x", "not <code>y</code>"), ""),
    "call named in the thought": (
        "<thought>later <code>final_answer_print(5)</code> will do</thought>",
        t(None, "later <code>final_answer_print(5)</code> will do"),
        "",
    ),
    "call named in prose": (
        "I could use <code>final_answer_print(5)</code> here.",
        t(None, "I could use <code>final_answer_print(5)</code> here."),
        "",
    ),
    "named in prose": ("Now the <code> block:\n<code>\nx\n</code>", t("x", "Now the <code> block:"), ""),
    "named in backticks": (
        "Use `<code>`, then `</code>`.\n<code>x</code>",
        t("x", "Use `<code>`, then `</code>`."),
        "",
    ),
    "named before a fence": ("My <code> block:\n```python\nx\n```", t("x", "My <code> block:"), ""),
    "inline before a fence": (
        "It is in <code>n</code> now.\n```python\nx\n```",
        t("x", "It is in <code>n</code> now."),
        "",
    ),
    "fence in the thought": (
        "<thought>no:\n```python\ny\n```\n</thought>\n<code>x</code>",
        t("x", "no:\n```python\ny\n```"),
        "",
    ),
    # ends that are none
    "end in a string": (f"{THINK}<code>print('</code>')</code>", t("print('</code>')"), ""),
    "tags in a string": (f"{THINK}<code>s = '<code>y</code>'</code>", t("s = '<code>y</code>'"), ""),
    "end in a docstring": (f'{THINK}<code>s = """\n</code>\n"""\nx</code>', t('s = """\n</code>\n"""\nx'), ""),
    "end in an f-string": (f"{THINK}<code>print(f'{{x}}</code>')</code>", t("print(f'{x}</code>')"), ""),
    "end in a comment": (f"{THINK}<code>\n# up to </code>\nx\n</code>", t("# up to </code>\nx"), ""),
    "code that ends in a comment": (
        f"{THINK}<code>x  # done</code>\nObservation: 1",
        t("x  # done"),
        "\nObservation: 1",
    ),
    "a comment, then another turn": (
        f"{THINK}<code>x  # a</code> Observation: 1\n{X}",
        t("x  # a"),
        f" Observation: 1\n{X}",
    ),
    "escaped quote": (f"{THINK}<code>s = 'it\\'s </code>'</code>", t("s = 'it\\'s </code>'"), ""),
    "string that never closes": (f"{THINK}<code>s = 'it</code> and 'so", t("s = 'it"), " and 'so"),
    "fence in a string": (f"{THINK}\n```python\ns = '```'\n```", t("s = '```'"), ""),
    "fence in a docstring": (f'{THINK}\n```py\ns = """\n```\n"""\n```', t('s = """\n```\n"""'), ""),
    "fence in a comment": (f"{THINK}\n```py\n# ``` is a fence\nx\n```", t("# ``` is a fence\nx"), ""),
    "fence in a string of tagged code": (f"{THINK}<code>s = '```python'</code>", t("s = '```python'"), ""),
    # fences
    "fence": ("t\n```python\nx\n```", STEP, ""),
    "python3": ("t\n```python3\nx\n```", STEP, ""),
    "Python": ("t\n```Python\nx\n```", STEP, ""),
    "PYTHON with a blank": ("t\n``` PYTHON\nx\n```", STEP, ""),
    "py": ("t\n```py\r\nx\r\n```", STEP, ""),
    "py3": ("t\n```py3\nx\n```", STEP, ""),
    "python3.11": ("t\n```python3.11\nx\n```", STEP, ""),
    "ipython": ("t\n```ipython\nx\n```", STEP, ""),
    "attributes": ("t\n```python {cmd=true, id=1}\nx\n```", STEP, ""),
    "braces": ("t\n```{python}\nx\n```", STEP, ""),
    "pandoc": ("t\n```{.python .numberLines}\nx\n```", STEP, ""),
    "tool_code": ("t\n```tool_code\nx\n```", STEP, ""),
    "tildes": ("t\n~~~python\nx = ~~~1\n~~~", t("x = ~~~1"), ""),
    "tildes with a word": ("t\n~~~ py3\nx\n~~~\nOutput: 1", STEP, "\nOutput: 1"),
    "four backticks": ("t\n````python\ns = 1\n````", t("s = 1"), ""),
    "indented": ("1. t\n   ```python\n   if x:\n       y\n   ```", t("if x:\n    y", "1. t"), ""),
    "in a list": ("- ```python\n  x\n  ```", t("x", "-"), ""),
    "no line before its end": ("t\n```python\nx```", STEP, ""),
    "after prose on its line": ("t ```python\nx\n```", STEP, ""),
    "never closed": ("t\n```python\nx", STEP, ""),
    "never closed, with a tail": ("t\n```python\nx\nObservation: 5\ny = 1", STEP, "Observation: 5\ny = 1"),
    "nothing after its first line": ("t\n```python", t(""), ""),
    "bare": ("t\n```\nx\n```", STEP, ""),
    "bare, never closed": ("t\n```\nx", STEP, ""),
    "bare after prose in a fence": (
        "t\n```\nnot code at all\n```\n```\nx\n```",
        t("x", "t\n```\nnot code at all\n```"),
        "",
    ),
    "bare before Python": ("```\n1 2\n```\n```python\nx\n```", t("x", "```\n1 2\n```"), ""),
    "bare before tags": ("```\ny\n```\n<code>x</code>", t("x", "```\ny\n```"), ""),
    "bare around the turn": (f"```\n{X}\n```", STEP, "\n```"),
    "bare around Python": ("t\n```\n```python\nx\n```\n```", t("x", "t\n```"), "\n```"),
    "fence named in prose": (
        "My ```python block:\nlike so\n```python\nx\n```",
        t("x", "My ```python block:\nlike so"),
        "",
    ),
    "xml around the turn": (f"```xml\n{X}\n```", STEP, "\n```"),
    "Python around the turn": (f"```python\n{X}\n```", STEP, "\n```"),
    "fence inside of tags": (f"{THINK}<code>```python\nx\n```</code>", STEP, ""),
    "bare fence inside of tags": (f"{THINK}<code>\n```\nx\n```\n</code>", STEP, ""),
    "language inside of tags": (f"{THINK}<code>python\nx\n</code>", STEP, ""),
    "tildes inside of tags": (f"{THINK}<code>\n~~~py\nx\n~~~\n</code>", STEP, ""),
    "tag closed by a fence": (f"{THINK}<code>\nx\n```\nmore", STEP, "```\nmore"),
    # other languages
    "text first": ("t\n```text\n5 apples\n```\n```python\nx\n```", t("x", "t\n```text\n5 apples\n```"), ""),
    "json first": ('```json\n{"a": 1}\n```\n<code>x</code>', t("x", '```json\n{"a": 1}\n```'), ""),
    "bash first": ("```bash\npip install x\n```\n```py\nx\n```", t("x", "```bash\npip install x\n```"), ""),
    "output that holds code": (
        "```output\n<code>y</code>\n```\n<code>x</code>",
        t("x", "```output\n<code>y</code>\n```"),
        "",
    ),
    "text alone": ("t\n```text\nx = 1\n```", t(None, "t\n```text\nx = 1\n```"), ""),
    "shell alone": ("t\n```sh\nls\n```", t(None, "t\n```sh\nls\n```"), ""),
    "diff alone": ("t\n```diff\n-x\n+y\n```", t(None, "t\n```diff\n-x\n+y\n```"), ""),
    "pycon alone": ("t\n```pycon\n>>> x\n```", t(None, "t\n```pycon\n>>> x\n```"), ""),
    # tails
    "observation": (f"{X}\nObservation: 5", STEP, "\nObservation: 5"),
    "second turn": (f"{X}<thought>u</thought><code>y</code>", STEP, "<thought>u</thought><code>y</code>"),
    "output and second turn": (f"{X}\nOutput: 5\n{X}", STEP, f"\nOutput: 5\n{X}"),
    "next user": (f"{X}\nUser: and now?\nAssistant: y", STEP, "\nUser: and now?\nAssistant: y"),
    "closing prose": (f"{X} That prints it.", STEP, " That prints it."),
    "two fences": ("t\n```python\nx\n```\n```python\ny\n```", STEP, "\n```python\ny\n```"),
    "fence and its output": ("t\n```python\nx\n```\n```\n5\n```", STEP, "\n```\n5\n```"),
    "fence, then tags": ("t\n```python\nx\n```\n<code>y</code>", STEP, "\n<code>y</code>"),
    "wrong code, then its correction": (
        f"{THINK}<code>x = (</code>\nObservation: SyntaxError\n{X}",
        t("x = ("),
        f"\nObservation: SyntaxError\n{X}",
    ),
    "wrong fence, then its correction": (
        "```python\nx = (\n```\nObservation: SyntaxError\n```python\ny\n```",
        t("x = (", ""),
        "\nObservation: SyntaxError\n```python\ny\n```",
    ),
    "wrong fence on a line of prose": ("t ```python\nx = (\n```\nOutput: 1", t("x = ("), "\nOutput: 1"),
    "wrong code on a line of prose": (
        f"Add <code>x = (</code>\nObservation: SyntaxError\n{X}",
        t("x = (", "Add"),
        f"\nObservation: SyntaxError\n{X}",
    ),
    "empty code, then another turn": (
        f"{THINK}<code></code>\nObservation: None\n{X}",
        t(""),
        f"\nObservation: None\n{X}",
    ),
    "unclosed thought, then another turn": (
        f"<thought>t<code>x</code>\nObservation: 1\n{X}",
        STEP,
        f"\nObservation: 1\n{X}",
    ),
    "code never closed": (f"{THINK}<code>x\nObservation: 5\n{THINK}", STEP, f"Observation: 5\n{THINK}"),
    "plan and invented steps": (
        f"<first_thought>p</first_thought>\nObservation: None\n{X}",
        t(None, "p", plan=True),
        f"\nObservation: None\n{X}",
    ),
    "thought and invented steps": (f"{THINK}\nObservation: 3\n{X}", t(None), f"Observation: 3\n{X}"),
    "prose and observation": ("It is 5.\nObservation: 5", t(None, "It is 5."), "Observation: 5"),
    # reasoning
    "think": (f"<think>r <code>y</code></think>{X}", STEP, ""),
    "think and lines": (f"<think>\nr\n</think>\n\n{X}", STEP, ""),
    "empty think": (f"<think>\n\n</think>\n\n{X}", STEP, ""),
    "closing mark alone": (f"r <code>y</code>\n</think>\n{X}", STEP, ""),
    "closing mark after a fence": (f"r\n```python\ny\n```\n</think>\n{X}", STEP, ""),
    "closing mark after a whole turn": (f"{THINK}<code>y</code></think>{X}", STEP, ""),
    "two closing marks": (f"r <code>y</code></think> s <code>z</code></think>{X}", STEP, ""),
    "nested": (f"<think>a <think>b <code>y</code></think> c <code>z</code></think>{X}", STEP, ""),
    "two pieces": (f"<think>a</think>\n<think>b <code>y</code></think>\n{X}", STEP, ""),
    "never ends": ("<think>r <code>y</code>", t(None, ""), ""),
    "never ends after prose": ("Well.\n<think>r <code>y</code>", t(None, "Well."), ""),
    "reasoning and no code": ("r <code>y</code></think>It is 5.", t(None, "It is 5."), ""),
    "reasoning, turn and tail": (f"<think>r</think>\n{X}\nObservation: 4", STEP, "\nObservation: 4"),
    "reasoning in the tail": (
        f"<think>r</think>{X}<think>s</think><code>y</code>",
        STEP,
        "<think>s</think><code>y</code>",
    ),
    "between thought and code": (f"{THINK}<think>r <code>y</code></think><code>x</code>", STEP, ""),
    "upper case marks": (f"<THINK>r <code>y</code></THINK>{X}", STEP, ""),
    "thinking": (f"<thinking>r <code>y</code></thinking>{X}", STEP, ""),
    "reasoning": (f"<reasoning>r <code>y</code></reasoning>{X}", STEP, ""),
    "marks with a prefix": (f"<seed:think>r <code>y</code></seed:think>{X}", STEP, ""),
    "brackets": (f"[THINK]r <code>y</code>[/THINK]{X}", STEP, ""),
    "special marks": (f"<|START_THINKING|>r <code>y</code><|END_THINKING|>{X}", STEP, ""),
    "channels": (
        f"<|channel|>analysis<|message|>r <code>y</code><|end|><|start|>assistant<|channel|>final<|message|>{X}",
        STEP,
        "",
    ),
    "channels without their special tokens": (f"analysisr <code>y</code>assistantfinal{X}", STEP, ""),
    "analysis cut off": ("<|channel|>analysis<|message|>r <code>y</code>", t(None, ""), ""),
    "mark in a string": (f"{THINK}<code>s.split('</think>')</code>", t("s.split('</think>')"), ""),
    "marks in a string": (f"{THINK}<code>s = '<think>r</think>'</code>", t("s = '<think>r</think>'"), ""),
    "mark in a fenced docstring": ('t\n```python\ns = """\n<think>\n"""\n```', t('s = """\n<think>\n"""'), ""),
    "mark in a string of the draft": (f"<think>y = '</think>' <code>y</code></think>{X}", STEP, ""),
    "mark named in the thought": (
        "<thought>strip the <think> tag</thought><code>x</code>",
        t("x", "strip the <think> tag"),
        "",
    ),
    "stray mark at the end": (f"<think>r</think>{X}\n</think>", STEP, "\n</think>"),
    "mark named in backticks": ("t: `</think>`\n<code>x</code>", t("x", "t: `</think>`"), ""),
}


@pytest.mark.parametrize("name", TURNS)
def test_what_a_turn_says_and_where_it_ends(name: str):
    text, turn, tail = TURNS[name]
    reply = read_reply(text)
    assert (reply.turn, text[reply.end :]) == (turn, tail)
    assert read_reply(reply.text)._replace(end=0) == reply._replace(end=0), "a step is read again as it was"
    assert not tail.strip() or len(reply.text) <= reply.end
    assert parse_turn(write_turn(turn)) == turn or (turn.code is None and not turn.plan)


@pytest.mark.parametrize(
    "turn",
    [
        Turn("read", "print(read())", False),
        Turn("", "x = 1\n\nif x:\n    print(x)", False),
        Turn("a < b, {braces} and \\n", "print('<thought>')", False),
        Turn("nothing to run", "", False),
        Turn("first this,\nthen that", None, True),
    ],
)
def test_a_written_turn_reads_as_the_same_turn(turn):
    assert parse_turn(write_turn(turn)) == turn


REASONING = [
    "",
    "<think>\n\n</think>\n",
    "<think>r <code>bad</code></think>\n",
    "<think>a<think>b</think>c <code>bad</code></think>",
    "r\n```python\nbad\n```\n</think>\n",
    "[THINK]<code>bad</code>[/THINK]",
    "<|channel|>analysis<|message|>```python\nbad\n```<|end|><|start|>assistant<|channel|>final<|message|>",
]
PROSE = [
    "",
    "Here: `<code>` it is.\n",
    "Not `</code>` yet.\n",
    "I use a <code> block.\n",
    "```text\n-\n```\n",
    "```json\n{}\n```\n",
    "```bash\nls\n```\n",
]
STEPS = [
    "<thought>t</thought><code>x = 1</code>",
    "<thought>t</thought>\n<code>\nx = 1\n</code>",
    "<thought>t</thought>\n```py\nx = 1\n```",
    "<thought>t</thought><code>```python\nx = 1\n```</code>",
    "t\n```python\nx = 1\n```",
    "t\n~~~python3\nx = 1\n~~~",
    "t\n<CODE>\nx = 1\n</CODE>",
]
TAILS = [
    "",
    "\n",
    "\nObservation: 5",
    "\nObservation: bad\n<thought>u</thought><code>bad</code>",
    "<thought>u</thought><code>bad</code>",
    "\n```python\nbad\n```",
    "\nOutput:\n```\nbad\n```",
    "\nUser: and\n<code>bad</code>",
    "<|im_end|>",
    "\nThis prints 'it' and </code>.",
    "\n<think>more</think><code>bad</code>",
]


@pytest.mark.parametrize("step", STEPS)
def test_the_step_is_the_same_whatever_stands_around_it(step: str):
    for reasoning, prose, tail in product(REASONING, PROSE, TAILS):
        text = reasoning + prose + step + tail
        reply = read_reply(text)
        assert (reply.turn.code, text[reply.end :]) == ("x = 1", tail)
        assert parse_turn(reply.text) == reply.turn
        assert "bad" not in reply.text


@pytest.mark.parametrize("thought", ["Thought: go on", "thought :go on", "  First Thought: go on", "go on"])
def test_a_teachers_labels_do_not_reach_the_student(thought):
    assert write_turn(Turn(thought, "x", False)) == "<thought>go on</thought><code>x</code>"
    assert write_turn(Turn(thought, None, True)) == "<first_thought>go on</first_thought>"


HOSTILE = [
    "<think>" * 20_000,
    "</think>" * 20_000,
    "x <think>" * 20_000,
    "<code>" * 20_000,
    "<code>x = (</code>" * 5_000,
    "<code>'</think>'" * 5_000,
    "```" * 20_000,
    "`" * 60_000 + "x`",
    "```python\n" * 10_000,
    "~~~py\n'" * 10_000,
    "<code>" + "\n" * 100_000,
    "<code>" + "(" * 100_000 + "</code>",
    "<code>" + "'</code>" * 20_000,
    "<code>" + "#</code>" * 20_000,
    "<code>" + '"""\\' * 20_000,
    "<thought>" * 20_000 + "<code>x</code>",
    "<code x" * 20_000,
    "<code>" + "x = 1\n" * 200_000 + "</code>",
    ("<code>\n" + "x = 1\n" * 4_000 + "(</code>\n") * 20,
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.timeout(5)
def test_reading_takes_no_longer_than_the_text(text: str):
    read_reply(text)


def test_reasoning_is_left_out_of_any_reply():
    assert without_reasoning('<think>{"a": 1}</think>\n{"b": 2}') == '\n{"b": 2}'
    assert without_reasoning("none <think> here") == "none <think> here"


@pytest.mark.parametrize("token", ["<think>", "</think>", "[THINK]", "[/THINK]", "<|channel|>", "<|END_THINKING|>"])
def test_control_tokens_that_mark_reasoning_are_known(token: str):
    assert is_reasoning_mark(token)
    assert not is_reasoning_mark("<|im_end|>")
