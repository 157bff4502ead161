"""The real DeepSpeed on tiny models: one curve whatever the ZeRO stage, ranks and interruptions."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from score_distill.train import checkpoint
from score_distill.train.checkpoints import Checkpoints
from score_distill.train.config import LoraConfig, TrainConfig
from score_distill.train.engine import Engine, Outcome, Pack, start
from score_distill.train.errors import CheckpointError, DataError, DivergedError, ModelError
from score_distill.train.launch import Process
from score_distill.train.losses import SftLoss
from score_distill.train.rows import Sample
from score_distill.train.sft import train_sft

MakeModel = Callable[..., Path]
CONFIG = TrainConfig(learning_rate=3e-3, pack_tokens=128, tokens_per_step=384, epochs=2, weight_decay=0.1)


class Killed(Exception):
    """Stands for the process dying right after a step."""


def weights(engine: Engine) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in engine.whole_weights().items()}


def kill_after(step: int):
    def on_progress(outcome: Outcome, steps: int) -> None:
        if outcome.step == step:
            raise Killed

    return on_progress


def test_training_learns_and_reports_what_it_did(make_model: MakeModel, rows_path: Path, tmp_path: Path, me: Process):
    losses: list[float] = []
    config = replace(CONFIG, epochs=6)
    _, summary = train_sft(
        make_model(),
        rows_path,
        config,
        Checkpoints(tmp_path / "c"),
        me,
        lambda outcome, steps: losses.append(outcome.loss),
    )
    assert losses[-1] < 0.7 * losses[0]
    assert (summary.rows, summary.steps, summary.resumed_at) == (40, len(losses), 0)
    assert summary.packing_efficiency > 0.9
    assert summary.learnt_tokens < summary.tokens


@pytest.mark.parametrize("steps", [3, 7, 9])
def test_steps_take_the_place_of_epochs_and_the_last_epoch_may_end_early(
    make_model: MakeModel, rows_path: Path, tmp_path: Path, me: Process, steps: int
):
    config, model = replace(CONFIG, schedule="cosine", checkpoint_every=2), make_model()
    _, whole = train_sft(model, rows_path, config, Checkpoints(tmp_path / "whole"), me)
    assert whole.steps // config.epochs not in (1, steps)
    seen: list[int] = []
    engine, summary = train_sft(
        model, rows_path, replace(config, steps=steps), Checkpoints(tmp_path / "c"), me, lambda *told: seen.append(1)
    )
    assert len(seen) == summary.steps == engine.step_done == steps
    with pytest.raises(Killed):
        train_sft(model, rows_path, replace(config, steps=steps), Checkpoints(tmp_path / "k"), me, kill_after(2))
    again, summary = train_sft(model, rows_path, replace(config, steps=steps), Checkpoints(tmp_path / "k"), me)
    assert summary.resumed_at == 2
    for name, tensor in weights(engine).items():
        assert torch.equal(again.whole_weights()[name], tensor), name


def test_zero_stages_and_ranks_give_the_same_curve(two_ranks: tuple[Path, Path, Path], tmp_path: Path, me: Process):
    model, rows_path, results = two_ranks
    curve: list[float] = []
    engine, _ = train_sft(
        model,
        rows_path,
        CONFIG,
        Checkpoints(tmp_path / "one"),
        me,
        lambda outcome, steps: curve.extend([outcome.loss, outcome.gradient_norm]),
    )
    alone = {name: tensor.float() for name, tensor in weights(engine).items()}
    for stage in (0, 2, 3):
        two_ranks = json.loads((results / f"curve-{stage}.json").read_text())
        assert two_ranks == pytest.approx(curve, rel=2e-5)
        exported = load_file(results / f"export-{stage}" / "model.safetensors")
        for name, tensor in alone.items():
            torch.testing.assert_close(exported[name], tensor, atol=2e-4, rtol=0)


@pytest.mark.parametrize(
    "change",
    [
        {"zero_stage": 0},
        {"zero_stage": 2},
        {"zero_stage": 3},
        {"lora": LoraConfig(rank=4)},
        {"dtype": "bfloat16", "zero_stage": 2},
        {"schedule": "cosine", "warmup": 0.3},
    ],
    ids=str,
)
def test_resumed_training_equals_unbroken_training_bit_for_bit(
    make_model: MakeModel, rows_path: Path, tmp_path: Path, me: Process, change: dict[str, object]
):
    model, config = make_model(), replace(CONFIG, **change, checkpoint_every=3)
    unbroken, _ = train_sft(model, rows_path, config, Checkpoints(tmp_path / "unbroken"), me)
    expected = weights(unbroken)
    for step in (3, 7):  # the second in the second epoch
        with pytest.raises(Killed):
            train_sft(model, rows_path, config, Checkpoints(tmp_path / "broken"), me, kill_after(step))
    resumed, summary = train_sft(model, rows_path, config, Checkpoints(tmp_path / "broken"), me)
    assert summary.resumed_at == 6
    got = weights(resumed)
    assert all(torch.equal(got[name], expected[name]) for name in expected)


def test_a_run_that_had_ended_is_found_ended(make_model: MakeModel, rows_path: Path, tmp_path: Path, me: Process):
    model = make_model()
    first, _ = train_sft(model, rows_path, CONFIG, Checkpoints(tmp_path / "c"), me)
    expected = weights(first)
    again, summary = train_sft(model, rows_path, CONFIG, Checkpoints(tmp_path / "c"), me)
    assert summary.last_loss is None and summary.resumed_at == summary.steps
    got = weights(again)
    assert all(torch.equal(got[name], expected[name]) for name in expected)


def test_resumed_training_draws_the_same_random_numbers(
    make_model: MakeModel, rows_path: Path, tmp_path: Path, me: Process
):
    model, config = make_model(dropout=0.3), replace(CONFIG, checkpoint_every=3)
    unbroken, _ = train_sft(model, rows_path, config, Checkpoints(tmp_path / "unbroken"), me)
    expected = weights(unbroken)
    with pytest.raises(Killed):
        train_sft(model, rows_path, config, Checkpoints(tmp_path / "broken"), me, kill_after(4))
    resumed, _ = train_sft(model, rows_path, config, Checkpoints(tmp_path / "broken"), me)
    got = weights(resumed)
    assert all(torch.equal(got[name], expected[name]) for name in expected)


def test_how_often_to_save_may_change_between_attempts(
    make_model: MakeModel, rows_path: Path, tmp_path: Path, me: Process
):
    model = make_model()
    with pytest.raises(Killed):
        train_sft(model, rows_path, replace(CONFIG, checkpoint_every=2), Checkpoints(tmp_path / "c"), me, kill_after(4))
    _, summary = train_sft(model, rows_path, replace(CONFIG, checkpoint_every=50), Checkpoints(tmp_path / "c"), me)
    assert summary.resumed_at == 4


def test_old_checkpoints_and_torsos_go_and_the_newest_stay(
    make_model: MakeModel, rows_path: Path, tmp_path: Path, me: Process
):
    folder = tmp_path / "c"
    checkpoint.unfinished(folder, 2).mkdir(parents=True)
    _, summary = train_sft(make_model(), rows_path, replace(CONFIG, checkpoint_every=2), Checkpoints(folder), me)
    last_even = summary.steps - summary.steps % 2
    kept = sorted({last_even, last_even - 2} | ({summary.steps} if summary.steps % 2 else set()))[-2:]
    assert sorted(path.name for path in folder.iterdir()) == [checkpoint.name(step) for step in kept]


def test_a_checkpoint_of_other_rows_is_refused(make_model: MakeModel, rows_path: Path, tmp_path: Path, me: Process):
    model = make_model()
    train_sft(model, rows_path, CONFIG, Checkpoints(tmp_path / "c"), me)
    rows_path.write_text(rows_path.read_text().split("\n", 1)[1])
    with pytest.raises(CheckpointError, match="another run"):
        train_sft(model, rows_path, CONFIG, Checkpoints(tmp_path / "c"), me)


def test_a_loss_that_is_not_finite_stops_before_the_weights_are_touched(make_model: MakeModel, me: Process):
    engine = start(make_model(), CONFIG, 10, me)
    good = Sample(np.arange(3, 20), np.ones(17, dtype=bool))
    engine.step([Pack([good], SftLoss(16))])
    before = weights(engine)
    with pytest.raises(DivergedError, match="step 1: the loss is nan"):
        engine.step([Pack([good], SftLoss(16, weight=float("nan")))])
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(engine).items())


def test_weight_decay_is_for_matrices_alone(make_model: MakeModel, me: Process):
    engine = start(make_model(), replace(CONFIG, learning_rate=0.1, weight_decay=0.5), 10, me)
    before = weights(engine)
    row = Sample(np.arange(3, 20), np.ones(17, dtype=bool))
    engine.step([Pack([row], SftLoss(16, weight=0.0))])
    for name, tensor in weights(engine).items():
        torch.testing.assert_close(tensor, before[name] * (1.0 if "norm" in name else 0.95))


def test_gradients_are_clipped_to_the_norm_asked_for(make_model: MakeModel, me: Process):
    """Adam does not care how long a gradient is, so what it has accumulated is looked at."""
    row = Sample(np.arange(3, 20), np.ones(17, dtype=bool))
    for stage in (0, 2):
        engine = start(make_model(), replace(CONFIG, grad_clip=0.01, zero_stage=stage), 10, me)
        outcome = engine.step([Pack([row], SftLoss(16))])
        moments = [state["exp_avg"] for state in engine.optimizer.state.values()]
        length = torch.nn.utils.get_total_norm(moments).item() / (1 - CONFIG.betas[0])
        assert outcome.gradient_norm > 1.0
        assert length == pytest.approx(0.01, rel=1e-3)


def test_a_sample_longer_than_the_context_is_an_error(make_model: MakeModel, me: Process):
    engine = start(make_model(context=16), CONFIG, 10, me)
    long = Sample(np.arange(3, 20), np.ones(17, dtype=bool))
    with pytest.raises(DataError, match="17 tokens; the model and the pack take 16"):
        engine.step([Pack([long], SftLoss(16))])


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("config.json", "no config.json"),
        ("tokenizer.json", "no tokenizer"),
        ("chat_template.jinja", "no chat template"),
        ("model.safetensors", "no weights"),
    ],
)
def test_an_incomplete_model_folder_is_named(
    make_model: MakeModel, rows_path: Path, tmp_path: Path, me: Process, missing: str, said: str
):
    model = make_model()
    (model / missing).unlink()
    with pytest.raises(ModelError, match=said):
        train_sft(model, rows_path, CONFIG, Checkpoints(tmp_path / "c"), me)


def test_adapters_alone_are_trained(make_model: MakeModel, rows_path: Path, tmp_path: Path, me: Process):
    model = make_model()
    engine, _ = train_sft(model, rows_path, replace(CONFIG, lora=LoraConfig(rank=4)), Checkpoints(tmp_path / "c"), me)
    before, after = load_file(model / "model.safetensors"), weights(engine)
    frozen = after["base_model.model.model.layers.0.mlp.up_proj.base_layer.weight"]
    assert torch.equal(frozen, before["model.layers.0.mlp.up_proj.weight"])
    assert after["base_model.model.model.layers.0.mlp.up_proj.lora_B.default.weight"].abs().max() > 0
