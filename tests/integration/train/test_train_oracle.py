"""The same batch through TRL and through our engine: loss and every gradient within 1e-5 in float32."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

from score_distill.train.config import TrainConfig
from score_distill.train.engine import Engine, Pack, start
from score_distill.train.launch import Process
from score_distill.train.losses import PolicyLoss, SftLoss
from score_distill.train.policy import packed
from score_distill.train.rows import Sample

MakeModel = Callable[..., Path]
Gradients = dict[str, torch.Tensor]
CONFIG = TrainConfig(learning_rate=1e-3, pack_tokens=64, checkpoint_every=0)
TRL = {"use_cpu": True, "report_to": [], "save_strategy": "no", "logging_steps": 1, "gradient_checkpointing": False}


def samples(count: int = 8, seed: int = 0) -> list[Sample]:
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        length = int(rng.integers(8, 40))
        mask = rng.random(length) < 0.6
        mask[:2] = False, True
        made.append(Sample(rng.integers(3, 97, length), mask, advantage=float(rng.normal())))
    return made


def capture(module: torch.nn.Module) -> Gradients:
    """Filled with each parameter's accumulated gradient, before clipping, as backward passes go by."""
    found: Gradients = {}
    for name, parameter in module.named_parameters():

        def keep(leaf: torch.Tensor, name: str = name) -> None:
            found[name] = leaf.grad.clone()

        parameter.register_post_accumulate_grad_hook(keep)
    return found


def plain(folder: Path) -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def assert_same(ours: tuple[float, Gradients], theirs: tuple[float, Gradients]) -> None:
    assert ours[0] == pytest.approx(theirs[0], abs=1e-5)
    assert ours[1].keys() == theirs[1].keys()
    for name, gradient in theirs[1].items():
        torch.testing.assert_close(ours[1][name], gradient, atol=1e-5, rtol=0)
    assert max(gradient.abs().max() for gradient in theirs[1].values()) > 1e-2


def our_step(engine: Engine, packs: list[Pack]) -> tuple[float, Gradients]:
    found = capture(engine.scorer.model)
    return engine.step(packs).loss, found


@pytest.fixture
def folder(make_model: MakeModel) -> Path:
    return make_model()


def test_sft_as_in_trl(folder: Path, tmp_path: Path, me: Process):
    rows = samples()
    packs = packed(rows, CONFIG.pack_tokens)
    assert len(packs) > 2
    loss = SftLoss(sum(sample.learnt for sample in rows))
    ours = our_step(start(folder, CONFIG, 1, me), [Pack(pack, loss) for pack in packs])

    data = Dataset.from_list(
        [{"input_ids": row.ids.tolist(), "assistant_masks": row.mask.astype(int).tolist()} for row in rows]
    )
    settings = SFTConfig(
        output_dir=str(tmp_path),
        per_device_train_batch_size=2,
        gradient_accumulation_steps=4,
        max_steps=1,
        max_length=None,
        bf16=False,
        **TRL,
    )
    model = plain(folder)
    trainer = SFTTrainer(model, settings, train_dataset=data, processing_class=AutoTokenizer.from_pretrained(folder))
    found = capture(model)
    trainer.train()
    logged = next(entry["loss"] for entry in trainer.state.log_history if "loss" in entry)
    assert_same(ours, (logged, found))


@pytest.mark.parametrize(
    "settings",
    [
        PolicyLoss(0),
        PolicyLoss(0, clip_low=0.1, clip_high=0.28, dual_clip=1.5, truncate=1.3, kl_coefficient=0.3),
    ],
    ids=["defaults", "everything"],
)
def test_grpo_as_in_trl(folder: Path, tmp_path: Path, me: Process, settings: PolicyLoss):
    """With old log-probabilities off the present ones, so that every kind of clip is met."""
    rng = np.random.default_rng(1)
    engine = start(folder, CONFIG, 1, me)
    plain_rows = samples()
    present = [engine.score([[row]])[0] for row in plain_rows]
    old = [logprobs + torch.from_numpy(rng.normal(0, 0.5, len(logprobs))).float() for logprobs in present]
    reference = [logprobs + torch.from_numpy(rng.normal(0, 0.5, len(logprobs))).float() for logprobs in present]
    rows = [
        replace(row, logprobs=(logprobs + torch.from_numpy(rng.normal(0, 0.3, len(logprobs)))).numpy())
        for row, logprobs in zip(plain_rows, old, strict=True)
    ]
    tokens = sum(row.learnt for row in rows)
    loss = replace(settings, tokens=tokens)
    with_reference = settings.kl_coefficient > 0

    def work(places: list[int]) -> Pack:
        def scored(scores, batch):
            kl_to = torch.cat([reference[i] for i in places]) if with_reference else None
            return loss(scores, batch, old_M=torch.cat([old[i] for i in places]), reference_M=kl_to)

        return Pack([rows[i] for i in places], scored)

    found = capture(engine.scorer.model)
    outcome = engine.step([work([0, 1]), work([2]), work([3, 4]), work([5, 6]), work([7])])
    assert outcome.sums["clipped"] > 5
    assert outcome.sums["weight_truncated"] > 0
    assert (outcome.sums["dual_clipped"] > 0) == with_reference

    model = plain(folder)
    trainer = grpo_trainer(model, folder, tmp_path, settings)
    theirs = capture(model)
    inputs = as_trl(rows, old, reference, settings)
    trainer.model.train()
    value = trainer._compute_loss(model, inputs)
    value.backward()
    assert_same((outcome.loss, found), (value.item(), theirs))


def grpo_trainer(model: torch.nn.Module, folder: Path, tmp_path: Path, settings: PolicyLoss) -> GRPOTrainer:
    arguments = GRPOConfig(
        output_dir=str(tmp_path),
        loss_type="bnpo",  # the mean over all tokens of the batch
        beta=settings.kl_coefficient,
        epsilon=settings.clip_low,
        epsilon_high=settings.clip_high,
        delta=settings.dual_clip,
        per_device_train_batch_size=8,
        num_generations=8,
        bf16=False,
        **TRL,
    )
    trainer = GRPOTrainer(
        model,
        reward_funcs=lambda completions, **kwargs: [0.0] * len(completions),
        args=arguments,
        train_dataset=Dataset.from_list([{"prompt": "w5"}] * 8),
        processing_class=AutoTokenizer.from_pretrained(folder),
    )
    trainer.use_vllm = True  # what switches the importance weights on; nothing is generated here
    trainer.current_gradient_accumulation_steps = 1
    return trainer


def as_trl(
    rows: list[Sample], old: list[torch.Tensor], reference: list[torch.Tensor], settings: PolicyLoss
) -> dict[str, torch.Tensor]:
    """The first token as prompt, the rest as completion padded on the right, observations masked as tools' are."""
    width = max(len(row.ids) for row in rows) - 1

    def padded(values: list[torch.Tensor], fill: float) -> torch.Tensor:
        return torch.stack([torch.nn.functional.pad(value, (0, width - len(value)), value=fill) for value in values])

    def spread(values: list[torch.Tensor], fill: float) -> torch.Tensor:
        table = torch.full((len(rows), width), fill)
        for line, row, value in zip(table, rows, values, strict=True):
            line[: len(row.ids) - 1][torch.from_numpy(row.mask[1:])] = value
        return table

    weights = [
        (logprobs - torch.from_numpy(row.logprobs).float()).exp().clamp(max=settings.truncate)
        for row, logprobs in zip(rows, old, strict=True)
    ]
    return {
        "prompt_ids": torch.tensor([[int(row.ids[0])] for row in rows]),
        "prompt_mask": torch.ones(len(rows), 1, dtype=torch.long),
        "completion_ids": padded([torch.from_numpy(row.ids[1:]) for row in rows], 2),
        "completion_mask": padded([torch.ones(len(row.ids) - 1, dtype=torch.long) for row in rows], 0),
        "tool_mask": padded([torch.from_numpy(row.mask[1:].astype(np.int64)) for row in rows], 0),
        "advantages": torch.tensor([row.advantage for row in rows]),
        "old_per_token_logps": spread(old, 0.0),
        "ref_per_token_logps": spread(reference, 0.0),
        "importance_sampling_ratio": spread(weights, 1.0),
    }
