"""On-policy distillation through the real trainer: with an advantage a token, the student comes to a fixed teacher."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from score_distill.train.advantage import towards_teacher
from score_distill.train.config import TrainConfig
from score_distill.train.engine import start
from score_distill.train.launch import Process
from score_distill.train.policy import Policy, PolicyConfig
from score_distill.train.rows import Sample

WORDS, LENGTH, ROLLOUTS, UPDATES = 97, 24, 64, 12
CONFIG = TrainConfig(learning_rate=5e-3, pack_tokens=256, checkpoint_every=0)
TEACHER = torch.randn(WORDS, WORDS, generator=torch.Generator().manual_seed(7)).log_softmax(-1)
"""Its log-probability of a token (column) after the one before (row)."""


@torch.no_grad()
def sampled(folder: Path, seed: int) -> list[Sample]:
    """Rollouts of the student in a folder, with its own log-probabilities of the tokens after the first."""
    student = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    dice = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, WORDS, (ROLLOUTS, 1), generator=dice)
    own = torch.empty(ROLLOUTS, 0)
    for _ in range(LENGTH):
        logprobs = student(ids).logits[:, -1].log_softmax(-1)
        token = torch.multinomial(logprobs.exp(), 1, generator=dice)
        ids, own = torch.cat([ids, token], 1), torch.cat([own, logprobs.gather(1, token)], 1)
    mask = np.arange(LENGTH + 1) > 0
    return [Sample(row, mask, said) for row, said in zip(ids.numpy().astype(np.int32), own.numpy(), strict=True)]


def taught(sample: Sample) -> Sample:
    return replace(sample, advantage=np.array(towards_teacher(said(sample), own(sample)), dtype=np.float32))


def said(sample: Sample) -> Sequence[float]:
    return TEACHER[sample.ids[:-1], sample.ids[1:]].tolist()


def own(sample: Sample) -> Sequence[float]:
    assert sample.logprobs is not None
    return list(map(float, sample.logprobs))


def reverse_kl(samples: Sequence[Sample]) -> float:
    return float(np.mean([np.subtract(own(one), said(one)) for one in samples]))


def spread(sample: Sample) -> Sample:
    """The same advantages, each at another token than its own."""
    return replace(sample, advantage=np.roll(sample.advantage, LENGTH // 2))


@pytest.mark.parametrize(("change", "falls"), [(taught, True), (lambda one: spread(taught(one)), False)])
def test_the_reverse_kl_to_the_teacher_falls_with_the_advantage_of_each_token_at_its_place(
    make_model: Callable[..., Path], me: Process, tmp_path: Path, change: Callable[[Sample], Sample], falls: bool
) -> None:
    policy = Policy(start(make_model(), CONFIG, UPDATES, me), PolicyConfig(minibatches=2))
    begun = reverse_kl(sampled(policy.engine.model_dir, 0))
    for update in range(UPDATES):
        policy.update(list(map(change, sampled(policy.export(tmp_path / f"{update}"), update))))
    ended = reverse_kl(sampled(policy.export(tmp_path / "last"), UPDATES))
    assert (ended < 0.6 * begun) is falls
