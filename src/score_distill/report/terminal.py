"""The facts of a run in a terminal: the answer first, then scores, what can be told apart, steps, tokens, problems.

Text of models and file names is printed as text: no markup in it is obeyed. Layout is left to rich.
"""

from collections.abc import Iterator

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from score_distill.report.answer import costs
from score_distill.report.facts import Facts, Score, StepFact
from score_distill.report.wording import count, duration, percent, span, tokens

BAR = 32
RULED = {"better": "green", "worse": "red", "unclear": "dim"}
STATES = {"done": "green", "begun": "yellow", "waiting": "dim"}


def print_report(facts: Facts, console: Console) -> None:
    """Everything that fits a screen or two; the page has the rest."""
    console.print(Text(f"{facts.run.name} ({facts.run.state})", style="dim"))
    console.print(Text(facts.answer, style="bold"))
    for block in blocks(facts):
        console.print()
        console.print(block)


def blocks(facts: Facts) -> Iterator[RenderableType]:
    if facts.scores:
        yield score_table(facts)
    if facts.comparisons:
        several = len({one.eval for one in facts.comparisons}) > 1
        yield Text("\n").join(
            Text(f"{one.eval}: {one.sentence}" if several else one.sentence, style=RULED[one.ruling])
            for one in facts.comparisons
        )
    if facts.control:
        yield Text(costs(facts.control), style="dim")
    yield step_table(facts)
    if facts.tokens:
        yield token_table(facts)
    if facts.dropped:
        yield dropped_table(facts)
    for title, lines in (
        ("Not there yet", list(facts.missing)),
        ("Problems", [f"{one.step}: {one.text}" for one in facts.problems]),
    ):
        if lines:
            yield Text("\n").join([Text(title, style="yellow"), *(Text(f"  {line}") for line in lines)])


def score_table(facts: Facts) -> Table:
    table = plain("eval set", "model", "solved", "", "95 % interval", "judged")
    for one in facts.scores:
        cells = (one.eval, one.model, percent(one.score), bar(one), span(one.low, one.high), count(one.n))
        table.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in cells))
    return table


def bar(score: Score) -> Text:
    """The share as a bar, its interval as the lighter part."""
    if score.low is None or score.high is None:
        return Text("nobody could judge", style="dim")
    low, high = round(BAR * score.low), round(BAR * score.high)
    return (
        Text("█" * low, style="blue") + Text("▒" * (high - low), style="blue") + Text("·" * (BAR - high), style="dim")
    )


def step_table(facts: Facts) -> Table:
    table = plain("step", "state", "time", "result", "teacher tokens")
    for one in facts.steps:
        time = "" if one.seconds is None else duration(one.seconds)
        used = sum(usage.prompt + usage.completion for usage in one.usage if usage.role == "teacher")
        state = Text(one.state, style=STATES[one.state])
        table.add_row(Text(one.name), state, Text(time), Text(outcome(one)), Text(tokens(used) if used else ""))
    return table


def outcome(step: StepFact) -> str:
    counts = [f"{count(value)} {name.replace('_', ' ')}" for name, value in step.counts.items() if value]
    return ", ".join([*counts, step.message] if step.message else counts)


def token_table(facts: Facts) -> Table:
    table = plain("role", "purpose", "calls", "prompt", "cached", "completion")
    for one in facts.tokens:
        numbers = (count(value) for value in (one.calls, one.prompt, one.cached, one.completion))
        table.add_row(Text(one.role), Text(one.purpose), *numbers)
    return table


def dropped_table(facts: Facts) -> Table:
    table = plain("dropped in", "why", "count")
    for one in facts.dropped:
        table.add_row(Text(one.step), Text(one.why), count(one.count))
    return table


def plain(*header: str) -> Table:
    """A table without lines; columns of numbers to the right."""
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    numbers = {"solved", "judged", "time", "teacher tokens", "calls", "prompt", "cached", "completion", "count"}
    for name in header:
        table.add_column(name, justify="right" if name in numbers else "left")
    return table
