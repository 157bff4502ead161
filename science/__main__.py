"""`make science`: run every cell that has no result yet, and write the table anew after each.

Takes hours; stop it at any time, the same command goes on. ``python -m science NAME...`` runs the cells whose names
contain one of the words.
"""

import json
import subprocess
import sys
from pathlib import Path

import yaml
from science import horizons, plots
from science.cells import HORIZON, TAUGHT, cells
from science.results import result, table

TOP = Path(__file__).parent.parent
PLACE = TOP / "docs" / "science"


def main(words: list[str]) -> int:
    for cell in cells(yaml.safe_load(Path(__file__).with_name("base.yaml").read_text())):
        kept = PLACE / "results" / f"{cell.name}.json"
        if kept.exists() or (words and not any(word in cell.name for word in words)):
            continue
        if cell.dial in (HORIZON, TAUGHT):
            horizons.make(TOP)
        manifest = PLACE / "manifests" / f"{cell.name}.yaml"
        write(manifest, yaml.safe_dump(dict(cell.manifest), sort_keys=False))
        done = subprocess.run([Path(sys.executable).with_name("score-distill"), "run", manifest], check=False)
        if done.returncode:
            return done.returncode
        report = json.loads((TOP / "runs" / "science" / cell.name / "report" / "report.json").read_text())
        write(kept, json.dumps(result(cell.dial, cell.value, cell.seed, report), indent=1) + "\n")
        found = [json.loads(path.read_text()) for path in sorted((PLACE / "results").glob("*.json"))]
        write(PLACE / "results.md", table(found) + plots.draw(found, PLACE))
    return 0


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(text)
    part.replace(path)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
