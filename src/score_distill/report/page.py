"""The report as one HTML file: facts in, text out. Nothing in it is fetched, run or remembered by the browser.

The template decides the order; this gives it the charts and the formats. All text goes through autoescape; the only
markup that is trusted are the drawings of `ink`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from score_distill.api import kind_of, round_of
from score_distill.contract import ON_POLICY
from score_distill.report import charts, wording
from score_distill.report.answer import costs
from score_distill.report.charts import Chart, Series
from score_distill.report.facts import Comparison, Facts, StepFact, Usage
from score_distill.report.theme import style

LOSS = (
    ("warmup", "Warm-up: loss", "init"),
    ("sft", "SFT on corrections: loss", "sft"),
    ("imitate", "SFT of the control: loss", "imitation"),
)
RL_RATES = (
    Series("reward", "reward", "rl"),
    Series("final_rate", "right", "good"),
    Series("key_rate", "key step", "teacher"),
)
RL_HEALTH = (
    ("kl", "RL: KL to the SFT student", "How far the policy has moved, in nats a token."),
    ("entropy", "RL: entropy", "How undecided the student is, in nats a token."),
    ("importance", "RL: trainer over server", "Probability of the sampled tokens; 1 means that both agree."),
    ("staleness", "RL: staleness", "Updates between the sampling of a rollout and its use."),
    ("zero_variance", "RL: groups without signal", "Share of groups in which all rollouts earned the same."),
)


@dataclass(frozen=True)
class EvalSection:
    name: str
    scores: Chart
    differences: Chart | None
    comparisons: list[Comparison]


@dataclass(frozen=True)
class Bar:
    """Where a step stands on the time line of the run, in percent of it."""

    left: float
    width: float


def page(facts: Facts) -> str:
    """The whole HTML document; the same facts give the same text."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": wording.count,
        "tokens": wording.tokens,
        "duration": wording.duration,
        "moment": wording.moment,
        "percent": wording.percent,
        "rounded": wording.rounded,
        "unbroken": wording.unbroken,
    }
    with style():
        template = environment.get_template("page.html.j2")
        return template.render(
            facts=facts,
            control=facts.control and costs(facts.control),
            evals=list(eval_sections(facts)),
            mentoring=present(
                charts.first_error_chart(facts.first_errors, "first-errors"),
                charts.corrections_chart(facts.corrections_per_task, "corrections"),
            ),
            learning=list(learning_charts(facts)),
            lengths=list(length_charts(facts)),
            in_short=list(in_short(facts)),
            endings=list(dict.fromkeys(name for one in facts.endings for name in one.counts)),
            bars=time_line(facts.steps),
            totals={role: total(facts.tokens, role) for role in ("teacher", "student")},
        )


def present(*found: Chart | None) -> list[Chart]:
    return [chart for chart in found if chart is not None]


def eval_sections(facts: Facts) -> Iterator[EvalSection]:
    for index, name in enumerate(dict.fromkeys(one.eval for one in facts.scores)):
        scores = charts.score_chart([one for one in facts.scores if one.eval == name], f"scores{index}")
        compared = [one for one in facts.comparisons if one.eval == name]
        if scores:
            yield EvalSection(name, scores, charts.difference_chart(compared, f"differences{index}"), compared)


def length_charts(facts: Facts) -> Iterator[Chart]:
    for index, name in enumerate(dict.fromkeys(one.eval for one in facts.accuracy_by_length)):
        found = [one for one in facts.accuracy_by_length if one.eval == name]
        yield from present(charts.length_chart(found, f"length{index}"))


def learning_charts(facts: Facts) -> Iterator[Chart]:
    curves = facts.curves
    losses = [(step, title, colour, getattr(curves, step)) for step, title, colour in LOSS]
    later = [(step, f"SFT of round {round_of(step)}: loss", step, points) for step, points in curves.rounds.items()]
    for step, title, colour, points in (*losses[:2], *later, *losses[2:]):
        series = (Series("loss", "loss", colour),)
        caption = "Per token of the student's own turns, by optimizer step."
        yield from present(charts.curve_chart(points, "step", series, title, caption, f"loss-{step}"))
    yield from present(charts.dev_chart(curves.dev, "dev"))
    caption = "Mean over the rollouts of an update; many start from a prefix."
    yield from present(charts.curve_chart(curves.rl, "update", RL_RATES, "RL: what rollouts earn", caption, "rates"))
    for column, title, caption in RL_HEALTH:
        series = (Series(column, column.replace("_", " "), "rl"),)
        yield from present(charts.curve_chart(curves.rl, "update", series, title, caption, f"rl-{column}"))
    gap = (Series("reverse_kl", "reverse KL", ON_POLICY),)
    title, caption = "On-policy distillation: reverse KL", "From student to teacher, in nats a sampled token."
    yield from present(charts.curve_chart(curves.distil_on_policy, "update", gap, title, caption, "reverse-kl"))


def in_short(facts: Facts) -> Iterator[tuple[str, str]]:
    """How the mentored tasks ended, as shares, and what a corrected one cost."""
    found = facts.corrections_per_task
    alone = found.right_after.get(0, 0)
    corrected = sum(found.right_after.values()) - alone
    wrong = found.unsolved + found.unfinished + found.set_aside
    tasks = alone + corrected + wrong
    if tasks == 0:
        return
    yield "tasks", f"{tasks:,}"
    for name, count in (("solved alone", alone), ("right after corrections", corrected), ("not right", wrong)):
        yield name, f"{count:,} ({wording.percent(count / tasks)})"
    yield "corrections", f"{sum(facts.first_errors.values()):,}"
    mentoring = (one.usage for one in facts.steps if kind_of(one.name) == "mentor")
    spent = total(tuple(chain.from_iterable(mentoring)), "teacher")
    if spent and corrected:
        yield "teacher tokens read for a corrected task", wording.tokens(round(spent.prompt / corrected))
        yield "teacher tokens written for a corrected task", wording.tokens(round(spent.completion / corrected))


def time_line(steps: tuple[StepFact, ...]) -> dict[str, Bar]:
    """A bar for each step that is done, on the time from the first start to the last end."""
    done = [(one.name, one.started, one.finished) for one in steps if one.started and one.finished]
    if not done:
        return {}
    begin, end = min(start for _, start, _ in done), max(stop for _, _, stop in done)
    whole = max((end - begin).total_seconds(), 1e-9)
    return {
        name: Bar(100 * (start - begin).total_seconds() / whole, 100 * (stop - start).total_seconds() / whole)
        for name, start, stop in done
    }


def total(usages: tuple[Usage, ...], role: str) -> Usage | None:
    """All that a role used, for every purpose together."""
    mine = [one for one in usages if one.role == role]
    if not mine:
        return None
    return Usage(
        role=mine[0].role,
        purpose="all",
        calls=sum(one.calls for one in mine),
        prompt=sum(one.prompt for one in mine),
        cached=sum(one.cached for one in mine),
        completion=sum(one.completion for one in mine),
    )
