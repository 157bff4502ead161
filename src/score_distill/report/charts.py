"""The charts of the report, each with the table of its numbers: facts in, drawings out.

Drawn narrow, so that three stand side by side on a desk and one fills a phone, with letters of the same size. A chart
without numbers is None. What a chart means is said in its title and caption.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from score_distill.api import kind_of, round_of
from score_distill.report.facts import Comparison, CorrectionsPerTask, DevScore, LengthScore, Point, Score
from score_distill.report.theme import canvas, colour, svg
from score_distill.report.wording import count, number, percent, span

NARROW = 340
WIDE = 600
HEIGHT = 210
TABLE_ROWS = 12
SMOOTH_FROM = 40
T = TypeVar("T")
MEANING = {
    "base": "the student as given",
    "init": "after demonstrations",
    "imitation": "after more demonstrations for what the corrections cost",
    "sft": "after corrections",
    "full-horizon": "after reinforcement of whole tasks alone",
    "distil-on-policy": "after on-policy distillation of whole tasks",
    "rl": "after reinforcement",
}
RULED = {"better": "good", "worse": "bad", "unclear": "soft"}


def meaning(model: str) -> str:
    rounds = round_of(model)
    return MEANING[kind_of(model)] + (f" of {rounds} rounds" if rounds > 1 else "")


@dataclass(frozen=True)
class Chart:
    """A drawing and its numbers; ``wide`` is the same for a wide screen, where the chart fills the page."""

    title: str
    caption: str
    drawing: Markup
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    wide: Markup | None = None


@dataclass(frozen=True)
class Series:
    column: str
    label: str
    colour: str


def score_chart(scores: Sequence[Score], name: str) -> Chart | None:
    """A dot and its interval for each model on one eval set."""
    known = [one for one in scores if one.score is not None]
    if not known:
        return None
    label = f"Scores on {known[0].eval}: " + ", ".join(f"{one.model} {percent(one.score)}" for one in known)
    return Chart(
        title=f"Solved on {known[0].eval}, first attempt",
        caption=f"Dot: share of the judged tasks; bar: 95 % Wilson interval. {explained(known)}",
        drawing=svg(_scores(known, NARROW), name, label),
        wide=svg(_scores(known, WIDE), f"{name}-wide", label),
        header=("model", "solved", "95 % interval", "right", "judged", "not judged"),
        rows=tuple(
            (one.model, percent(one.score), span(one.low, one.high), *map(count, (one.right, one.n, one.unjudged)))
            for one in scores
        ),
    )


def _scores(scores: Sequence[Score], width: int) -> Figure:
    figure, axes = canvas(width, 44 + 38 * len(scores))
    for row, one in enumerate(scores):
        low, middle, high = (100 * (value or 0) for value in (one.low, one.score, one.high))
        axes.plot([low, high], [row, row], color=colour(one.model), linewidth=8, alpha=0.4)
        axes.plot([middle], [row], "o", color=colour(one.model), markersize=8)
        axes.annotate(
            percent(one.score), (high, row), (9, 0), textcoords="offset points", va="center", weight="bold", size=13
        )
    axes.set_yticks(range(len(scores)), [one.model for one in scores], fontsize=12.5, color=colour("ink"))
    axes.set_ylim(len(scores) - 0.4, -0.6)
    axes.set_xlim(0, 120 if width == NARROW else 108)
    axes.set_xticks(range(0, 101, 20 if width == NARROW else 10))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f} %"))
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    return figure


def explained(scores: Sequence[Score]) -> str:
    """What the names of the models mean, as far as they are the pipeline's."""
    known = [f"{one.model}: {meaning(one.model)}" for one in scores if kind_of(one.model) in MEANING]
    return f"{'; '.join(known)}." if known else ""


def difference_chart(comparisons: Sequence[Comparison], name: str) -> Chart | None:
    """The paired differences on one eval set against the line of no difference."""
    if not comparisons:
        return None
    figure, axes = canvas(NARROW, 44 + 34 * len(comparisons))
    for row, one in enumerate(comparisons):
        shade = colour(RULED[one.ruling])
        axes.plot([100 * one.low, 100 * one.high], [row, row], color=shade, linewidth=6, alpha=0.4)
        axes.plot([100 * one.difference], [row], "o", color=shade, markersize=7)
    axes.axvline(0, color=colour("ink"), linewidth=1.2)
    labels = [f"{one.new} − {one.old}" for one in comparisons]
    axes.set_yticks(range(len(comparisons)), labels, color=colour("ink"))
    axes.set_ylim(len(comparisons) - 0.4, -0.6)
    axes.set_xlabel("points")
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    return Chart(
        title=f"Differences on {comparisons[0].eval}, same tasks",
        caption="Grey: the two models cannot be told apart (exact McNemar test, p ≥ 0.05).",
        drawing=svg(figure, name, "; ".join(one.sentence for one in comparisons)),
        header=("new", "old", "points", "95 % interval", "only new right", "only old right", "p"),
        rows=tuple(
            (
                one.new,
                one.old,
                f"{100 * one.difference:+.1f}",
                f"{100 * one.low:.1f} to {100 * one.high:.1f}",
                count(one.only_new),
                count(one.only_old),
                f"{one.p:.2g}",
            )
            for one in comparisons
        ),
    )


def curve_chart(
    points: Sequence[Point], position: str, series: Sequence[Series], title: str, caption: str, name: str
) -> Chart | None:
    """Columns of a learning curve over ``position``; a long one also as its running mean, one of zeros not at all."""
    drawn = [one for one in series if any(point.get(one.column) for point in points)]
    if not drawn:
        return None
    figure, axes = canvas(NARROW, HEIGHT)
    for one in drawn:
        pairs = [(point[position], point[one.column]) for point in points if point.get(one.column) is not None]
        xs, ys = [x or 0.0 for x, _ in pairs], [y or 0.0 for _, y in pairs]
        long = len(ys) >= SMOOTH_FROM
        axes.plot(xs, ys, color=colour(one.colour), alpha=0.3 if long else 1, linewidth=1 if long else 1.8)
        if long:
            axes.plot(xs, running_mean(ys, len(ys) // 16), color=colour(one.colour))
    if len(drawn) > 1:
        lines = [axes.plot([], [], color=colour(one.colour), label=one.label)[0] for one in drawn]
        axes.legend(
            handles=lines, loc="lower left", bbox_to_anchor=(-0.02, 1), ncols=3, fontsize=10.5, handlelength=1.1
        )
    _curve_axes(axes, position)
    last = ", ".join(f"{one.label} {number(_last(points, one.column))}" for one in drawn)
    return Chart(
        title=title,
        caption=caption,
        drawing=svg(figure, name, f"{title}; at the end: {last}"),
        header=(position, *(one.label for one in drawn)),
        rows=tuple(
            (number(point.get(position)), *(number(point.get(one.column)) for one in drawn))
            for point in spread(points, TABLE_ROWS)
        ),
    )


def dev_chart(dev: Sequence[DevScore], name: str) -> Chart | None:
    """Whole tasks of the dev split during RL, with their intervals."""
    if not dev:
        return None
    figure, axes = canvas(NARROW, HEIGHT)
    updates = [one.update for one in dev]
    axes.fill_between(
        updates, [100 * d.low for d in dev], [100 * d.high for d in dev], color=colour("rl"), alpha=0.2, linewidth=0
    )
    axes.plot(updates, [100 * one.score for one in dev], "o-", color=colour("rl"), markersize=4)
    kept = [one for one in dev if one.kept]
    axes.plot([one.update for one in kept], [100 * one.score for one in kept], "D", color=colour("good"), markersize=8)
    _curve_axes(axes, "update")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f} %"))
    return Chart(
        title="RL: dev split, whole tasks",
        caption="Diamond: the student that is kept, the first or one that beat it by more than chance explains; "
        "no benchmark is looked at. Band: 95 % Wilson interval.",
        drawing=svg(
            figure,
            name,
            f"Dev score from {percent(dev[0].score)}"
            + "".join(f", kept {percent(one.score)} at {one.update}" for one in kept),
        ),
        header=("update", "solved", "95 % interval", "tasks"),
        rows=tuple(
            (str(one.update), percent(one.score), span(one.low, one.high), count(one.n))
            for one in spread(dev, TABLE_ROWS)
        ),
    )


def length_chart(found: Sequence[LengthScore], name: str) -> Chart | None:
    """A line for each model over the length of the tasks of one eval set."""
    if not found:
        return None
    figure, axes = canvas(NARROW, HEIGHT)
    models = list(dict.fromkeys(one.model for one in found))
    for model in models:
        mine = [one for one in found if one.model == model]
        lengths, scores = [one.length for one in mine], [100 * one.score for one in mine]
        axes.fill_between(
            lengths,
            [100 * m.low for m in mine],
            [100 * m.high for m in mine],
            color=colour(model),
            alpha=0.12,
            linewidth=0,
        )
        axes.plot(lengths, scores, "o-", color=colour(model), markersize=3.5, label=model)
    axes.legend(
        loc="lower left", bbox_to_anchor=(-0.02, 1), ncols=5, fontsize=10.5, handlelength=0.9, columnspacing=0.8
    )
    axes.set_ylim(-3, 103)
    _curve_axes(axes, "steps")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f} %"))
    whose = "the teacher's attempt at it" if found[0].length_of == "teacher" else "the model's own attempt"
    return Chart(
        title=f"Solved by length of the task ({found[0].eval})",
        caption=f"Length: steps of {whose}. Bands: 95 % Wilson intervals.",
        drawing=svg(figure, name, f"Share solved by number of steps for {', '.join(models)}"),
        header=("model", "steps", "solved", "95 % interval", "tasks"),
        rows=tuple(
            (one.model, str(one.length), percent(one.score), span(one.low, one.high), count(one.n)) for one in found
        ),
    )


def first_error_chart(first_errors: dict[int, int], name: str) -> Chart | None:
    if not first_errors:
        return None
    bars = [(str(k), first_errors.get(k, 0), "accent") for k in range(1, max(first_errors) + 1)]
    return bar_chart(
        bars, "step", "Where first errors fall", "Each correction stands at the first error of one attempt.", name
    )


def corrections_chart(found: CorrectionsPerTask, name: str) -> Chart | None:
    bars = [(str(k), tasks, "good") for k, tasks in found.right_after.items()]
    rest = {"never": found.unsolved, "no answer": found.unfinished, "set aside": found.set_aside}
    bars += [(label, tasks, "soft") for label, tasks in rest.items() if tasks]
    if not bars:
        return None
    caption = "Right after so many corrections (0: the student alone); grey: not right."
    return bar_chart(bars, "corrections", "Corrections per task", caption, name)


def bar_chart(bars: Sequence[tuple[str, int, str]], unit: str, title: str, caption: str, name: str) -> Chart:
    """Counts as bars (label, count, colour) with the count above each when there are few."""
    figure, axes = canvas(NARROW, HEIGHT)
    found = axes.bar([b[0] for b in bars], [b[1] for b in bars], color=[colour(b[2]) for b in bars], width=0.72)
    if len(bars) <= TABLE_ROWS:
        axes.bar_label(found, [count(b[1]) for b in bars], padding=2, fontsize=10)
    axes.xaxis.set_major_locator(MaxNLocator(12)) if len(bars) > TABLE_ROWS else None
    axes.set_xlabel(unit)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    total = sum(b[1] for b in bars)
    return Chart(
        title=title,
        caption=caption,
        drawing=svg(figure, name, f"{title}: " + ", ".join(f"{label}: {height}" for label, height, _ in bars)),
        header=(unit, "count", "share"),
        rows=tuple((label, count(height), percent(height / total)) for label, height, _ in bars),
    )


def _curve_axes(axes: Axes, unit: str) -> None:
    axes.set_xlabel(unit)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.margins(x=0.02)
    axes.grid(axis="y")
    axes.spines["left"].set_visible(False)


def running_mean(values: Sequence[float], reach: int) -> list[float]:
    """Mean over the neighbours up to ``reach`` away on both sides, fewer at the ends."""
    windows = (values[max(0, i - reach) : i + reach + 1] for i in range(len(values)))
    return [sum(window) / len(window) for window in windows]


def spread(rows: Sequence[T], limit: int) -> list[T]:
    """At most ``limit`` of the rows, evenly apart, the first and the last among them."""
    if len(rows) <= limit:
        return list(rows)
    return [rows[round(i * (len(rows) - 1) / (limit - 1))] for i in range(limit)]


def _last(points: Sequence[Point], column: str) -> float | None:
    return next((point[column] for point in reversed(points) if point.get(column) is not None), None)
