"""The report of a run: one HTML file for people, report.json with the same facts for programs, a summary for terminals.

gather reads the artifacts into facts (through the folds of scores, mentoring and curves), significance and answer say
what they allow one to say; page (charts, ink) and terminal show them.
"""

from pathlib import Path

from score_distill import whole_file
from score_distill.artifacts.store import Store
from score_distill.report.facts import Facts
from score_distill.report.gather import gather
from score_distill.report.page import page
from score_distill.report.terminal import print_report

__all__ = ["Facts", "gather", "page", "print_report", "write_report"]


def write_report(store: Store, run_key: str, out_dir: Path) -> Path:
    """Write report.json and report.html into ``out_dir``; each appears whole. Returns the path of the page."""
    facts = gather(store, run_key)
    out_dir.mkdir(parents=True, exist_ok=True)
    whole_file.write(out_dir / "report.json", facts.model_dump_json(indent=1))
    return whole_file.write(out_dir / "report.html", page(facts))
