"""A pack is only a way to compute: the samples in it neither see nor change one another."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from score_distill.train import attention, model
from score_distill.train.batch import collate
from score_distill.train.config import TrainConfig
from score_distill.train.errors import ModelError
from score_distill.train.losses import PolicyLoss, Scores, SftLoss
from score_distill.train.model import Scorer, check_isolation
from score_distill.train.rows import Sample

MakeModel = Callable[..., Path]
WORDS = 97


def samples(count: int = 6, seed: int = 0) -> list[Sample]:
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        length = int(rng.integers(4, 30))
        mask = rng.random(length) < 0.6
        mask[0], mask[-1] = False, True
        logprobs = -rng.exponential(3.0, int(mask.sum()))
        made.append(Sample(rng.integers(0, WORDS, length), mask, logprobs, float(rng.normal())))
    return made


@pytest.fixture
def scorer(make_model: MakeModel) -> Scorer:
    return model.load(make_model(), TrainConfig(learning_rate=1.0))


def gradients(module: torch.nn.Module) -> torch.Tensor:
    found = torch.cat([parameter.grad.flatten() for parameter in module.parameters()])
    module.zero_grad()
    return found


@pytest.mark.parametrize("loss", [SftLoss(tokens=50), PolicyLoss(tokens=50, truncate=5.0)], ids=["sft", "policy"])
def test_packed_loss_and_gradients_equal_unpacked_ones(scorer: Scorer, loss: Callable):
    def total(packs: list[list[Sample]]) -> tuple[float, torch.Tensor]:
        terms = [loss(Scores(*scorer(batch)), batch) for batch in map(collate, packs)]
        value = sum(term.loss for term in terms)
        value.backward()
        return value.item(), gradients(scorer)

    alone, together = total([[sample] for sample in samples()]), total([samples()])
    assert together[0] == pytest.approx(alone[0], abs=1e-5)
    torch.testing.assert_close(together[1], alone[1], atol=1e-5, rtol=1e-4)
    assert alone[1].abs().max() > 1e-3


def test_packed_scores_equal_transformers_own_one_by_one(scorer: Scorer, make_model: MakeModel):
    plain = AutoModelForCausalLM.from_pretrained(make_model("again"), dtype=torch.float32, attn_implementation="eager")
    expected = []
    for sample in samples():
        ids = torch.from_numpy(sample.ids)
        logprobs = torch.log_softmax(plain(ids[None]).logits[0, :-1], -1).gather(1, ids[1:, None])[:, 0]
        expected.append(logprobs[torch.from_numpy(sample.mask[1:])])
    torch.testing.assert_close(scorer(collate(samples()))[0], torch.cat(expected), atol=1e-5, rtol=0)


def test_changing_one_sample_leaves_the_others_scores_bit_for_bit(scorer: Scorer):
    pack = samples()
    changed = [*pack]
    changed[2] = Sample((pack[2].ids + 1) % WORDS, pack[2].mask)
    before, after = (scorer(collate(made))[0].split([sample.learnt for sample in pack]) for made in (pack, changed))
    for place in (0, 1, 3, 4, 5):
        assert torch.equal(before[place], after[place])
    assert not torch.allclose(before[2], after[2])


def test_the_order_in_the_pack_does_not_matter(scorer: Scorer):
    pack = samples()
    forwards = scorer(collate(pack))[0].split([sample.learnt for sample in pack])
    backwards = scorer(collate(pack[::-1]))[0].split([sample.learnt for sample in pack[::-1]])
    for one, other in zip(forwards, backwards[::-1], strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


def test_recomputed_activations_give_the_same_gradients(scorer: Scorer, make_model: MakeModel):
    saving = model.load(make_model("again"), TrainConfig(learning_rate=1.0, activation_checkpointing=True)).train()
    found = []
    for module in (scorer, saving):
        batch = collate(samples())
        SftLoss(50)(Scores(*module(batch)), batch).loss.backward()
        found.append(gradients(module))
    torch.testing.assert_close(found[0], found[1], atol=1e-7, rtol=0)


SIZES = {"vocab_size": WORDS, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "initializer_range": 0.3}


@pytest.mark.parametrize(
    "make",
    [
        lambda: MistralForCausalLM(MistralConfig(**SIZES, **HEADS, sliding_window=5)),
        lambda: Qwen3ForCausalLM(Qwen3Config(**SIZES, **HEADS)),
        lambda: OPTForCausalLM(
            OPTConfig(vocab_size=WORDS, hidden_size=32, ffn_dim=48, word_embed_proj_dim=32, num_attention_heads=4)
        ),
    ],
    ids=["sliding window", "normed heads", "learned positions"],
)
def test_other_architectures_score_as_transformers_does(make: Callable[[], torch.nn.Module]):
    torch.manual_seed(0)
    attention.register()
    inner = make().eval()
    expected = []
    for sample in samples():
        ids = torch.from_numpy(sample.ids)
        logprobs = torch.log_softmax(inner(ids[None]).logits[0, :-1], -1).gather(1, ids[1:, None])[:, 0]
        expected.append(logprobs[torch.from_numpy(sample.mask[1:])])
    inner.set_attn_implementation(attention.NAME)
    scorer = Scorer(inner)
    torch.testing.assert_close(scorer(collate(samples()))[0], torch.cat(expected), atol=1e-5, rtol=0)
    check_isolation(scorer, torch.device("cpu"), WORDS)


def test_a_model_whose_state_runs_on_from_sample_to_sample_is_refused():
    torch.manual_seed(0)
    mixing = MambaForCausalLM(
        MambaConfig(vocab_size=WORDS, hidden_size=32, num_hidden_layers=1, state_size=4, initializer_range=0.3)
    )
    with pytest.raises(ModelError, match="mixes the samples"):
        check_isolation(Scorer(mixing), torch.device("cpu"), WORDS)


def test_unknown_kinds_of_attention_are_refused():
    states = torch.zeros(1, 2, 4, 8)
    with pytest.raises(ModelError, match="softcap"):
        attention.packed_attention(
            torch.nn.Identity(), states, states, states, None, bounds=torch.tensor([0, 4]), longest=4, softcap=50.0
        )
