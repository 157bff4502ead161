"""One RL update through the real DeepSpeed, against the same sums done plainly and sample by sample."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from score_distill.api import Rl
from score_distill.stages.training import policy_config
from score_distill.train.config import TrainConfig
from score_distill.train.engine import Engine, start
from score_distill.train.errors import DataError
from score_distill.train.launch import Process
from score_distill.train.policy import Policy, PolicyConfig
from score_distill.train.rows import Sample

MakeModel = Callable[..., Path]
CONFIG = TrainConfig(learning_rate=1e-3, pack_tokens=64, checkpoint_every=0)


def rollouts(count: int = 9, seed: int = 0, words: int = 97) -> list[Sample]:
    rng = np.random.default_rng(seed)
    samples = []
    for place in range(count):
        length = int(rng.integers(8, 40))
        mask = rng.random(length) < 0.6
        mask[:2] = False, True
        logprobs = -rng.exponential(2.0, int(mask.sum()))
        samples.append(Sample(rng.integers(0, words, length), mask, logprobs, (-1.0) ** place * (0.5 + place)))
    return samples


def plain_logprobs(model: torch.nn.Module, sample: Sample) -> torch.Tensor:
    ids = torch.from_numpy(sample.ids)
    logprobs = torch.log_softmax(model(ids[None]).logits[0, :-1].float(), -1)
    return logprobs.gather(1, ids[1:, None])[:, 0][torch.from_numpy(sample.mask[1:])]


def plain(folder: Path) -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


@pytest.fixture
def engine(make_model: MakeModel, me: Process) -> Engine:
    return start(make_model(), CONFIG, 10, me)


def test_an_update_is_the_gradient_of_the_objective(engine: Engine):
    samples, replay = rollouts(), rollouts(4, seed=1)
    update = Policy(engine, PolicyConfig(truncate=2.0, replay_weight=0.5)).update(samples, replay)

    model = plain(engine.model_dir)
    objective, tokens = torch.zeros(()), sum(sample.learnt for sample in samples)
    for sample in samples:
        new = plain_logprobs(model, sample)
        weight = (new.detach() - torch.from_numpy(sample.logprobs).float()).exp().clamp(max=2.0)
        objective = objective - ((new - new.detach()).exp() * sample.advantage * weight).sum() / tokens
    nll = -torch.cat([plain_logprobs(model, sample) for sample in replay])
    objective = objective + 0.5 * nll.mean()
    objective.backward()
    norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters()])
    assert update.loss == pytest.approx(objective.item(), abs=1e-5)
    assert update.gradient_norm == pytest.approx(norm.item(), rel=1e-5)
    assert update.replay_nll == pytest.approx(nll.mean().item(), rel=1e-5)
    assert update.ratio_mean == update.ratio_max == 1.0
    assert update.tokens == tokens


def test_without_replay_the_weights_follow_the_advantages(engine: Engine):
    samples = rollouts()
    policy = Policy(engine, PolicyConfig())
    before = torch.cat(engine.score([samples]))
    for _ in range(5):
        policy.update(samples)
    rose = (torch.cat(engine.score([samples])) - before).split([sample.learnt for sample in samples])
    advantages = np.array([sample.advantage for sample in samples])
    assert np.corrcoef([float(gain.mean()) for gain in rose], advantages)[0, 1] > 0.8


def test_minibatches_keep_the_old_policy_of_the_batch(make_model: MakeModel, me: Process):
    engine = start(make_model(), replace(CONFIG, learning_rate=2e-2), 10, me)
    update = Policy(engine, policy_config(Rl(minibatches=3))).update(rollouts())
    assert update.step == 3
    assert update.ratio_max > 1.0
    assert update.clip_fraction > 0.0


@pytest.mark.parametrize(("minibatches", "clips"), [(1, False), (2, True)])
def test_the_clip_of_a_manifest_acts_from_two_minibatches_on(
    make_model: MakeModel, me: Process, minibatches: int, clips: bool
):
    rl = Rl(minibatches=minibatches, clip=0.01)
    engine = start(make_model(), replace(CONFIG, learning_rate=2e-2), 10, me)
    update = Policy(engine, policy_config(rl)).update(rollouts())
    assert (update.ratio_max > 1.01, update.clip_fraction > 0) == (clips, clips)
    assert Rl().minibatches > 1


@pytest.mark.parametrize("stage", [0, 3])
def test_the_reference_is_where_the_divergence_is_zero(make_model: MakeModel, me: Process, stage: int):
    folder = make_model()
    engine = start(folder, replace(CONFIG, learning_rate=1e-2, zero_stage=stage), 10, me)
    policy = Policy(engine, PolicyConfig(kl_coefficient=0.1), reference_dir=folder)
    first, second = policy.update(rollouts()), policy.update(rollouts())
    assert first.kl_reference == pytest.approx(0.0, abs=1e-9)
    assert second.kl_reference > 1e-4


def test_samples_scored_by_the_trainer_itself_have_weight_one(engine: Engine):
    samples = rollouts()
    own = [
        replace(sample, logprobs=logprobs.numpy())
        for sample, (logprobs,) in ((sample, engine.score([[sample]])) for sample in samples)
    ]
    update = Policy(engine, PolicyConfig()).update(own)
    assert update.weight_mean == pytest.approx(1.0, abs=1e-5)
    assert update.logprob_gap_max < 1e-5
    assert update.kl_behaviour == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"logprobs": None}, "sample 1: the log-probabilities of the sampling server are missing"),
        ({"logprobs": np.array([float("nan")])}, "missing or not finite"),
        ({"logprobs": np.array([-1.0])}, "sample 1: 1 log-probabilities for"),
        ({"mask": np.zeros(40, dtype=bool), "logprobs": np.array([])}, "no token of it is masked"),
        ({"advantage": float("nan")}, "advantage is not finite"),
        ({"ids": np.zeros(65, dtype=int), "mask": np.arange(65) == 3, "logprobs": np.array([-1.0])}, "65 tokens"),
    ],
)
def test_a_sample_that_cannot_be_learnt_from_is_named(engine: Engine, change: dict[str, object], said: str):
    good, bad = rollouts(2)
    with pytest.raises(DataError, match=said):
        Policy(engine, PolicyConfig()).update([good, replace(bad, **change)])


def test_no_samples_is_an_error(engine: Engine):
    with pytest.raises(DataError, match="needs samples"):
        Policy(engine, PolicyConfig()).update([], replay=rollouts(2))


def test_two_ranks_led_by_the_first_do_what_one_does(two_ranks: tuple[Path, Path, Path], tmp_path: Path, me: Process):
    folder, _, results = two_ranks
    policy = Policy(start(folder, CONFIG, 10, me), PolicyConfig())
    alone = [policy.update(rollouts(), rollouts(4, seed=1)), policy.update(rollouts(seed=2))]
    together = json.loads((results / "updates.json").read_text())
    for one, two in zip(alone, together, strict=True):
        assert two == pytest.approx(asdict(one), rel=1e-4, abs=1e-6)
    policy.export(tmp_path / "alone")
    exported = [plain(path).state_dict() for path in (tmp_path / "alone", results / "policy")]
    for name, tensor in exported[0].items():
        torch.testing.assert_close(exported[1][name], tensor, atol=1e-4, rtol=0)
