"""Makes the run of `starts.py`, and takes the gradients of its groups: `python -m science.gradients`.

Each is that of the policy loss at the SFT student, taken by right answers alone, so that starts are compared by
nothing but where they are. Writes docs/science/starts.md.
"""

import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import torch
import yaml
from science import horizons
from science.cells import manifest_of
from science.finished import finished
from science.starts import CHANGES, Group, table
from transformers import AutoModelForCausalLM

from score_distill.agent.chat import ChatFormat, trained
from score_distill.agent.rl_starts import Item
from score_distill.agent.trajectory import Step
from score_distill.stages.context import StageContext
from score_distill.stages.openings import opening_ids

TOP = Path(__file__).parent.parent
PLACE = TOP / "docs" / "science"


class Gradients:
    """Of the policy loss at the SFT student, for the rollouts of one group."""

    def __init__(self, frame: StageContext) -> None:
        folder = frame.model("sft")
        self._frame, self._chat = frame, ChatFormat(folder)
        self._model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        self._weights = [one for one in self._model.parameters() if one.requires_grad]

    def spread(self, item: Item, rollouts: Sequence[Sequence[Step]], right: Sequence[bool]) -> tuple[float, float]:
        """The trace of the covariance of a rollout's gradient, and the squared norm of the mean without its bias."""
        base, count = mean(right), len(rollouts)
        total, squares = torch.zeros(sum(one.numel() for one in self._weights)), 0.0
        for steps, one in zip(rollouts, right, strict=True):
            gradient = (one - base) * self._score(item, steps)
            total += gradient
            squares += float(gradient @ gradient)
        whole = float(total @ total)
        return (squares - whole / count) / (count - 1), (whole - squares) / (count * (count - 1))

    def _score(self, item: Item, steps: Sequence[Step]) -> torch.Tensor:
        """The gradient of the log-probability of a rollout's steps, over its prefix."""
        opening = opening_ids(self._chat, self._frame, item.task)
        before = len(trained(self._chat, opening, item.prefix).ids) if item.prefix else len(opening)
        whole = trained(self._chat, opening, (*item.prefix, *steps))
        ids = torch.tensor([whole.ids])
        learnt = torch.tensor(whole.mask).bool()
        learnt[:before] = False
        logits = self._model(ids).logits[0, :-1]
        logprobs = torch.log_softmax(logits, -1).gather(1, ids[0, 1:, None])[:, 0]
        return torch.cat([one.flatten() for one in torch.autograd.grad(logprobs[learnt[1:]].sum(), self._weights)])


def groups(frame: StageContext) -> Iterator[Group]:
    """Of a run that is finished, in the order of its rollouts."""
    done, gradients = frame.input("rl"), Gradients(frame)
    items = {
        item.id: item
        for name in ("prefixed", "full")
        for item in map(Item.model_validate, done.open_rows(f"items/{name}.jsonl"))
    }
    found = defaultdict[str, list[Mapping[str, Any]]](list)
    for row in done.open_rows("rollouts.jsonl"):
        if not row["lost"]:
            found[row["item"]].append(row)
    for name, rows in found.items():
        item = items[name]
        right = [row["correct"] is True for row in rows]
        made = [[Step.model_validate(step) for step in row["steps"]] for row in rows]
        speaks = len(set(right)) == 2
        noise, signal = gradients.spread(item, made, right) if speaks else (None, None)
        steps = mean(map(len, made))
        yield Group(len(item.prefix), steps, tuple(right), tuple(row["reward"] for row in rows), noise, signal)


def main() -> int:
    torch.set_num_threads(1)
    horizons.make(TOP)
    file = PLACE / "manifests" / "starts.yaml"
    base = yaml.safe_load((TOP / "science" / "base.yaml").read_text())
    file.write_text(yaml.safe_dump(manifest_of(base, "starts", CHANGES), sort_keys=False))
    ran = subprocess.run([Path(sys.executable).with_name("score-distill"), "run", file], check=False)
    if ran.returncode:
        return ran.returncode
    with finished(file) as frame:
        (PLACE / "starts.md").write_text(table(groups(frame)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
