"""A probe proves which weights a server computes with: token ids, and the log-probability of each after the first.

Whoever made the weights wrote theirs beside them; a server that loaded them must give the same. vLLM reloads tied
embeddings wrongly and says nothing, so every load is followed by this.
"""

import json
import logging
from dataclasses import dataclass
from pathlib import Path

from score_distill import whole_file
from score_distill.agent.completer import OpenAIClient
from score_distill.agent.refusals import ContextOverflow, EndpointRefused, EndpointUnavailable
from score_distill.errors import Infrastructure, ModelFailure

PROBE = "probe.json"
MEAN_DIFFERENCE = {"float32": 1e-3, "bfloat16": 0.1, "float16": 0.1}
# A head left behind takes away two thirds of a change, not all of it. bfloat16 was measured at 0.012 for a small
# model; a large one has logits of 20 and more, where its numbers are 0.125 apart.
ROUNDING = {"float32": 1e-4, "bfloat16": 0.06, "float16": 0.01}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Probe:
    """``logprobs[i]`` is the log-probability of ``ids[i + 1]`` after ``ids[: i + 1]``."""

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]


def read_probe(checkpoint: Path) -> Probe:
    """Raises ModelFailure when the checkpoint has none."""
    try:
        data = json.loads((checkpoint / PROBE).read_text())
        probe = Probe(tuple(data["ids"]), tuple(data["logprobs"]))
        if not len(probe.ids) - 1 == len(probe.logprobs) > 0:
            raise ValueError(f"{len(probe.ids)} ids, {len(probe.logprobs)} log-probabilities")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelFailure(f"{checkpoint}: no usable {PROBE}; weights without one cannot be verified") from error
    return probe


async def record_probe(client: OpenAIClient, model: Path, into: Path | None = None) -> None:
    """Write the probe of a model that the server has just loaded by itself, beside it or ``into`` a folder."""
    config = json.loads((model / "config.json").read_text())
    vocabulary = config.get("text_config", config)["vocab_size"]
    tokens = [(7919 * n + 13) % vocabulary for n in range(64)]
    logprobs = await client.prompt_logprobs(tokens)
    whole_file.write((into or model) / PROBE, json.dumps({"ids": tokens, "logprobs": logprobs}))


async def difference(client: OpenAIClient, probe: Probe) -> float:
    """How far the server's log-probabilities are from the probe's in the mean; Infrastructure when it gives none."""
    try:
        given = await client.prompt_logprobs(probe.ids)
    except (EndpointRefused, EndpointUnavailable, ContextOverflow) as error:
        raise Infrastructure(f"after a load of weights: {error}") from error
    return sum(abs(a - b) for a, b in zip(given, probe.logprobs, strict=True)) / len(given)


def accept(off: float, before: float, dtype: str, server: str, checkpoint: object) -> float:
    """The difference again; ModelFailure when rounding does not explain it, or the weights of before the load do.

    ``before`` is how far the server was from the probe before the load. Weights that are so near those that rounding
    hides the change cannot be told apart by any probe: that is logged, and no proof.
    """
    if not off <= MEAN_DIFFERENCE[dtype]:
        raise ModelFailure(
            f"{server}: after the load of {checkpoint} its log-probabilities are off by {off:.3g} in the mean "
            f"(bound {MEAN_DIFFERENCE[dtype]} for {dtype}): it does not compute with these weights"
        )
    if off > before / 4:
        if off > ROUNDING[dtype]:
            raise ModelFailure(
                f"{server}: after the load of {checkpoint} its log-probabilities are off by {off:.3g} in the mean, "
                f"{before:.3g} before it: it computes with all or part of the weights that it had"
            )
        log.info("%s: %s is within rounding of the weights before it: no proof of the load", server, checkpoint)
    return off
