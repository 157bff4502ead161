"""Turns a matplotlib figure into an SVG that lives inside a page: its colours follow the page's theme.

Figures are drawn with stand-in colours, one for each CSS variable of the page, which are replaced in the text of the
SVG; so one drawing serves light and dark. Text stays text, in the font of the page. The same figure gives the same
bytes: ids come from a fixed salt and carry the name of the chart, so that charts on one page do not share them.
"""

import io
import re
from contextlib import AbstractContextManager
from typing import Any

import matplotlib
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from score_distill.api import kind_of

VARIABLES = (
    *("ink", "soft", "line", "card", "good", "bad", "accent"),
    *("base", "init", "imitation", "sft", "full-horizon", "distil-on-policy", "rl", "teacher"),
)
STAND_IN = {name: f"#0{index:x}0b0c" for index, name in enumerate(VARIABLES)}

SETTINGS: dict[Any, Any] = {
    "text.parse_math": False,
    "svg.hashsalt": "score-distill",
    "svg.fonttype": "none",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "font.size": 11.5,
    "axes.titlesize": 11.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": STAND_IN["line"],
    "axes.labelcolor": STAND_IN["soft"],
    "axes.axisbelow": True,
    "text.color": STAND_IN["ink"],
    "xtick.color": STAND_IN["soft"],
    "ytick.color": STAND_IN["soft"],
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "grid.color": STAND_IN["line"],
    "grid.linewidth": 0.8,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
}


def colour(name: str) -> str:
    """The stand-in of a CSS variable; a later round has that of its kind, a model outside the pipeline the accent."""
    return STAND_IN.get(kind_of(name), STAND_IN["accent"])


def style() -> AbstractContextManager[None]:
    """Charts are drawn inside this; it leaves the settings of the process as they were."""
    return matplotlib.rc_context(SETTINGS)


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty drawing of so many CSS pixels, and its only pair of axes."""
    figure = Figure(figsize=(width / 72, height / 72), layout="constrained")
    return figure, figure.add_subplot()


def svg(figure: Figure, name: str, label: str) -> Markup:
    """The figure as an inline SVG that scales with its box; ``label`` is what a screen reader says."""
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    opening = f'<svg role="img" aria-label="{escape(label)}" viewBox="{view_box(text)}"'
    text = opening + text[text.index(">") :]
    text = re.sub(r'(?<= )id="|(?<=url\(#)|(?<=href="#)', lambda found: f"{found[0]}{name}-", text)
    for variable, stand_in in STAND_IN.items():
        text = text.replace(stand_in, f"var(--{variable})")
    return Markup(re.sub(r"\s*\n\s*", " ", text))


def view_box(text: str) -> str:
    found = re.search(r'viewBox="([^"]*)"', text)
    if found is None:
        raise ValueError("matplotlib wrote an SVG without a viewBox")
    return found[1]
