"""The engine: DeepSpeed's state machine behind three verbs: `step`, `score`, `save`.

Everyone who calls it, on every rank, gives the packs of the whole step; the engine deals them to
the ranks and adds up. It does not know where packs come from, when to stop, or what weights are for.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import deepspeed
import torch
import torch.distributed as dist

from score_distill.train import config, model
from score_distill.train.batch import Batch, collate
from score_distill.train.checkpoints import Checkpoints
from score_distill.train.config import TrainConfig
from score_distill.train.errors import CheckpointError, DataError, DeviceMemoryError, DivergedError
from score_distill.train.launch import Process
from score_distill.train.losses import MAXIMA, SUMS, Loss, Scores, Terms
from score_distill.train.packing import deal
from score_distill.train.rows import Sample


@dataclass(frozen=True)
class Pack:
    """Samples of one forward pass and what they are to be scored by."""

    samples: Sequence[Sample]
    loss: Loss
    entropy: bool = False


@dataclass(frozen=True)
class Outcome:
    """Of one optimizer step, over all packs and ranks; the keys are those of `losses`."""

    step: int
    learning_rate: float
    gradient_norm: float
    sums: dict[str, float]
    maxima: dict[str, float]

    @property
    def loss(self) -> float:
        return self.sums["loss"]


def deepspeed_config(settings: TrainConfig) -> dict[str, Any]:
    """Gradient accumulation is ours: a step has as many packs as it has."""
    half = settings.dtype == "bfloat16"
    # DeepSpeed keeps float32 master weights and gradients beside bfloat16 ones from stage 1 on only.
    stage = max(1, settings.zero_stage) if half else settings.zero_stage
    zero: dict[str, Any] = {"stage": stage, "overlap_comm": False}
    if settings.zero_stage == 3:
        # Small parameters stay whole on every rank: gathering them costs more than keeping them.
        zero["stage3_param_persistence_threshold"] = 100_000
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": 0.0 if _clips_itself(settings) else settings.grad_clip,
        "zero_optimization": zero,
        "bf16": {"enabled": half},
        "data_types": {"grad_accum_dtype": "fp32"},
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 10**9,
    }


def _clips_itself(settings: TrainConfig) -> bool:
    """Plain float32 has no DeepSpeed optimizer around torch's that would report the norm."""
    return settings.zero_stage == 0 and settings.dtype == "float32"


class Engine:
    """One model in training on this rank; made by `start`, one at a time in a process."""

    def __init__(self, model_dir: Path, settings: TrainConfig, steps: int, me: Process, device: torch.device):
        """`steps` of the whole run is what the learning-rate schedule spans."""
        self.model_dir = model_dir
        self.config = settings
        self.steps = steps
        self.me = me
        self.device = device
        self.step_done = 0
        torch.manual_seed(settings.seed)
        with _partitioned_from_the_start(settings):
            self.scorer = model.load(model_dir, settings)
        known = model.limits(model_dir)
        self.longest = min(settings.pack_tokens, known.context)  # tokens of a sample
        self.vocabulary = known.vocabulary
        self.optimizer = _optimizer(self.scorer, settings)
        self._deepspeed, *_ = deepspeed.initialize(
            model=self.scorer, optimizer=self.optimizer, config=deepspeed_config(settings)
        )
        model.check_isolation(self._deepspeed, device, self.vocabulary)

    def step(self, packs: Sequence[Pack]) -> Outcome:
        """One optimizer step over the packs of all ranks.

        Raises DivergedError when the loss is not finite, before the weights are touched, or the gradient is not.
        """
        rate = config.learning_rate(self.config, self.step_done, self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        sums = torch.zeros(len(SUMS), dtype=torch.float64)
        maxima = torch.full((len(MAXIMA),), -torch.inf, dtype=torch.float64)
        self._deepspeed.train()
        rounds = deal(packs, self.me.rank, self.me.ranks)
        for turn, pack in enumerate(rounds, start=1):
            self._deepspeed.set_gradient_accumulation_boundary(turn == len(rounds))
            terms = self._backward(pack or packs[0], counts=pack is not None)
            if pack is not None:
                sums += torch.tensor([float(terms.sums.get(name, 0.0)) for name in SUMS])
                worst = [float(terms.maxima.get(name, -torch.inf)) for name in MAXIMA]
                maxima = torch.maximum(maxima, torch.tensor(worst, dtype=torch.float64))
        sums, maxima = self._over_ranks(sums, dist.ReduceOp.SUM), self._over_ranks(maxima, dist.ReduceOp.MAX)
        totals = dict(zip(SUMS, sums.tolist(), strict=True))
        if not torch.isfinite(sums).all():
            raise DivergedError(f"step {self.step_done}: the loss is {totals['loss']}; learning rate {rate:.3g}")
        norm = self._update()
        self.step_done += 1
        highest = {name: value for name, value in zip(MAXIMA, maxima.tolist(), strict=True) if value > -torch.inf}
        return Outcome(self.step_done - 1, rate, norm, totals, highest)

    def score(self, packs: Sequence[Sequence[Sample]]) -> list[torch.Tensor]:
        """Log-probabilities [M] of each pack's tokens to learn, on every rank, without gradient."""
        for samples in packs:
            self._check_length(samples)
        with self._memory_explained():
            return _score(self._deepspeed, packs, self.me, self.device)

    def save(self, checkpoints: Checkpoints, identity: str, extra: dict[str, Any] | None = None) -> Path:
        """A complete checkpoint of this step, or none; older ones than config keeps are removed.

        `identity` names what the run is made of; `resume` refuses a checkpoint with another one.
        """

        def write(folder: Path) -> None:
            self._deepspeed.save_checkpoint(str(folder), tag="deepspeed", save_latest=False)
            torch.save(_random_state(self.device), folder / f"random-{self.me.rank}.pt")

        kept = self.config.keep_checkpoints
        return checkpoints.save(self.me, self.step_done, identity, write, extra or {}, kept)

    def resume(self, checkpoints: Checkpoints, identity: str) -> dict[str, Any] | None:
        """Go back to the newest checkpoint of this identity; its `extra`, or None when there is none."""
        found = checkpoints.restore(self.me, self.device, identity)
        if found is None:
            return None
        if found.ranks != self.me.ranks and self.config.zero_stage > 0:
            raise CheckpointError(
                f"{found.path} was written by {found.ranks} processes and ZeRO {self.config.zero_stage} has split it "
                f"so; there are {self.me.ranks} now: use as many again, or remove {checkpoints.places}"
            )
        self._deepspeed.load_checkpoint(str(found.path), tag="deepspeed")
        random = found.path / f"random-{self.me.rank}.pt"
        if random.exists():
            _set_random_state(torch.load(random, weights_only=True), self.device)
        self.step_done = found.step
        return found.extra

    def whole_weights(self) -> dict[str, torch.Tensor]:
        """Every weight and buffer of the model on CPU, gathered; empty but on the leading rank."""
        trained = self.scorer.model
        if self.config.zero_stage < 3:
            state = trained.state_dict() if self.me.leads else {}
            return {name: tensor.detach().cpu() for name, tensor in state.items()}
        state = {}
        for name, parameter in trained.named_parameters():
            with deepspeed.zero.GatheredParameters([parameter]):
                if self.me.leads:
                    state[name] = parameter.detach().cpu().clone()
        return state | ({name: buffer.cpu() for name, buffer in trained.named_buffers()} if self.me.leads else {})

    def _backward(self, pack: Pack, counts: bool) -> Terms:
        batch, (logprobs, entropy) = self._forward(pack.samples, pack.entropy)
        terms = pack.loss(Scores(logprobs, entropy), batch)
        # DeepSpeed takes the mean over ranks; the loss is already normalised over the whole step.
        share = self.me.ranks if counts else 0
        with self._memory_explained():
            self._deepspeed.backward(terms.loss * share)
        return terms

    def _forward(self, samples: Sequence[Sample], entropy: bool) -> tuple[Batch, tuple[torch.Tensor, ...]]:
        self._check_length(samples)
        batch = collate(samples).to(self.device)
        with self._memory_explained():
            return batch, self._deepspeed(batch, entropy)

    def _check_length(self, samples: Sequence[Sample]) -> None:
        longest = max(len(sample.ids) for sample in samples)
        if longest > self.longest:
            raise DataError(f"a sample has {longest} tokens; the model and the pack take {self.longest}")

    def _update(self) -> float:
        own_clipping = _clips_itself(self.config)
        if own_clipping:
            limit = self.config.grad_clip or torch.inf
            norm = float(torch.nn.utils.clip_grad_norm_(self.scorer.parameters(), limit))
        else:
            self._deepspeed.step()
            norm = float(self._deepspeed.get_global_grad_norm())
        if not 0 <= norm < torch.inf:
            raise DivergedError(f"step {self.step_done}: the gradient norm is {norm}")
        if own_clipping:
            self._deepspeed.step()
        return norm

    def _over_ranks(self, values: torch.Tensor, operation: Any) -> torch.Tensor:
        values = values.to(self.device)
        dist.all_reduce(values, operation)
        return values.cpu()

    def _memory_explained(self) -> AbstractContextManager[None]:
        return _MemoryExplained(f"lower packTokens (now {self.config.pack_tokens}) or raise the ZeRO stage")


class _MemoryExplained(AbstractContextManager[None]):
    """Turns the device's and the host's ways of saying `no room` into one that says what to do."""

    def __init__(self, remedy: str):
        self._remedy = remedy

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        host = isinstance(error, RuntimeError) and "allocate memory" in str(error)
        if isinstance(error, torch.OutOfMemoryError) or host:
            raise DeviceMemoryError(f"no room for a pack: {self._remedy}") from error


class Reference:
    """A frozen model beside the engine's, for the KL to it; partitioned like the engine under ZeRO-3."""

    def __init__(self, model_dir: Path, engine: Engine):
        self._me, self._device = engine.me, engine.device
        settings = replace(engine.config, lora=None, activation_checkpointing=False)
        with _partitioned_from_the_start(settings):
            scorer = model.load(model_dir, settings)
        if settings.zero_stage == 3:
            scorer, *_ = deepspeed.initialize(model=scorer, config=deepspeed_config(settings))
        self._scorer = scorer.to(engine.device)

    def score(self, packs: Sequence[Sequence[Sample]]) -> list[torch.Tensor]:
        return _score(self._scorer, packs, self._me, self._device)


def _score(
    scorer: torch.nn.Module, packs: Sequence[Sequence[Sample]], me: Process, device: torch.device
) -> list[torch.Tensor]:
    scorer.eval()
    sizes = [sum(sample.learnt for sample in samples) for samples in packs]
    flat = torch.zeros(sum(sizes), device=device)
    spans = flat.split(sizes)
    with torch.no_grad():
        for index in deal(range(len(packs)), me.rank, me.ranks):
            logprobs, _ = scorer(collate(packs[index or 0]).to(device))
            if index is not None:
                spans[index].copy_(logprobs)
    dist.all_reduce(flat)
    return list(flat.cpu().split(sizes))


def start(model_dir: Path, settings: TrainConfig, steps: int, me: Process) -> Engine:
    """The engine on this rank's device; the process group must have been joined (`launch.join`)."""
    device = torch.device("cuda", me.local_rank) if torch.cuda.is_available() else torch.device("cpu")
    return Engine(model_dir, settings, steps, me, device)


def _partitioned_from_the_start(settings: TrainConfig) -> AbstractContextManager[object]:
    """Under ZeRO-3 transformers loads each weight straight into its partitions while this is alive."""
    if settings.zero_stage < 3:
        return nullcontext()
    from transformers.integrations import HfDeepSpeedConfig  # type: ignore[attr-defined]

    return nullcontext(HfDeepSpeedConfig(deepspeed_config(settings)))


def _optimizer(module: torch.nn.Module, settings: TrainConfig) -> torch.optim.Optimizer:
    """AdamW of torch itself: DeepSpeed's own CPU one would have to be compiled."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if _is_matrix(p)], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if not _is_matrix(p)], "weight_decay": 0.0},
    ]
    filled = [group for group in groups if group["params"]]
    return torch.optim.AdamW(filled, lr=settings.learning_rate, betas=settings.betas, fused=True)


def _is_matrix(parameter: torch.nn.Parameter) -> bool:
    """ZeRO-3 leaves a flat piece of a parameter and its true shape beside it."""
    return len(getattr(parameter, "ds_shape", parameter.shape)) > 1


def _random_state(device: torch.device) -> dict[str, torch.Tensor]:
    state = {"cpu": torch.get_rng_state()}
    return state | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def _set_random_state(state: dict[str, torch.Tensor], device: torch.device) -> None:
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)
