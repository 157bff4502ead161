import math

import numpy as np
import pytest
import torch

from score_distill.train.batch import collate
from score_distill.train.errors import DataError
from score_distill.train.losses import PolicyLoss, Scores, SftLoss, clipped_surrogate, k3, score
from score_distill.train.rows import Sample


def sample(ids: list[int], mask: list[int], logprobs: list[float] | None = None, advantage: float = 0.0) -> Sample:
    given = None if logprobs is None else np.array(logprobs)
    return Sample(np.array(ids), np.array(mask, dtype=bool), given, advantage)


PACK = [sample([4, 5, 6, 7], [0, 1, 0, 1], [-1.0, -2.0], 0.5), sample([8, 9, 3], [0, 1, 1], [-3.0, -0.5], -2.0)]


def test_a_pack_token_by_token():
    batch = collate(PACK)
    assert batch.ids_T.tolist() == [4, 5, 6, 7, 8, 9, 3]
    assert batch.positions_T.tolist() == [0, 1, 2, 3, 0, 1, 2]
    assert batch.bounds.tolist() == [0, 4, 7]
    assert batch.longest == 4
    assert batch.targets_M.tolist() == [5, 7, 9, 3]
    assert batch.at_M.tolist() == [0, 2, 4, 5]
    assert batch.behaviour_M.tolist() == [-1.0, -2.0, -3.0, -0.5]
    assert batch.advantages_M.tolist() == [0.5, 0.5, -2.0, -2.0]


def test_the_first_token_of_a_sample_is_never_learnt_from_the_sample_before():
    batch = collate([sample([4, 5], [1, 1]), sample([6, 7], [1, 1])])
    assert batch.targets_M.tolist() == [5, 7]
    assert batch.at_M.tolist() == [0, 2]


def test_advantages_may_differ_by_token():
    per_token = Sample(np.array([1, 2, 3]), np.array([0, 1, 1], bool), advantage=np.array([0.25, -0.75]))
    assert collate([per_token]).advantages_M.tolist() == [0.25, -0.75]


def test_a_wrong_number_of_logprobs_is_an_error():
    with pytest.raises(DataError, match="3 values for a sample with 2 tokens"):
        collate([sample([1, 2, 3], [0, 1, 1], [-1.0, -1.0, -1.0])])


def test_scores_are_the_log_softmax_at_the_targets():
    logits = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0]])
    scores = score(logits, torch.tensor([1, 0]), entropy=True)
    assert scores.logprobs_M.tolist() == pytest.approx([math.log(0.75), math.log(0.5)])
    assert scores.entropy_M.tolist() == pytest.approx(
        [-0.75 * math.log(0.75) - 0.25 * math.log(0.25), math.log(2.0)], abs=1e-6
    )


def test_sft_loss_is_the_mean_over_the_whole_step():
    scores = Scores(torch.tensor([-1.0, -2.0, -4.0, -5.0]))
    terms = SftLoss(tokens=8, weight=0.5)(scores, collate(PACK))
    assert terms.loss.item() == pytest.approx(0.5 * 12.0 / 8)
    assert (terms.sums["nll"].item(), terms.sums["sft_tokens"].item()) == (12.0, 4.0)


@pytest.mark.parametrize(
    ("ratio", "advantage", "surrogate", "clipped", "dual"),
    [
        (1.0, 2.0, 2.0, False, False),
        (1.1, 2.0, 2.2, False, False),
        (1.5, 2.0, 2.4, True, False),  # gained enough: min(3, 2.4)
        (0.5, 2.0, 1.0, False, False),  # worse than before: keep pulling up
        (0.5, -1.0, -0.8, True, False),  # pushed down enough: min(-.5, -.8)
        (1.5, -1.0, -1.5, False, False),  # grew although bad: full gradient
        (5.0, -1.0, -3.0, False, True),  # but never below c A
        (5.0, 1.0, 1.2, True, False),
    ],
)
def test_clip_and_dual_clip(ratio: float, advantage: float, surrogate: float, clipped: bool, dual: bool):
    got = clipped_surrogate(torch.tensor([ratio]), torch.tensor([advantage]), 0.2, 0.2, 3.0)
    assert got[0].item() == pytest.approx(surrogate)
    assert (got[1].item(), got[2].item()) == (clipped, dual)


def test_clip_bounds_may_differ():
    surrogate, _, _ = clipped_surrogate(torch.tensor([1.5, 0.5]), torch.tensor([1.0, -1.0]), 0.2, 0.28, 3.0)
    assert surrogate.tolist() == pytest.approx([1.28, -0.8])


def test_policy_loss_and_gradient_by_hand():
    """One update a batch: the ratio is 1, so the gradient of token t is -A w / tokens."""
    new = torch.tensor([-1.0, -2.0 + math.log(1.5), -3.0, -0.5 + math.log(4.0)], requires_grad=True)
    terms = PolicyLoss(tokens=5, truncate=2.0)(Scores(new), collate(PACK))
    terms.loss.backward()
    weights = [1.0, 1.5, 1.0, 2.0]  # exp(new - behaviour) cut at 2
    advantages = [0.5, 0.5, -2.0, -2.0]
    by_hand = [-a * w / 5 for a, w in zip(advantages, weights, strict=True)]
    assert new.grad.tolist() == pytest.approx(by_hand, abs=1e-6)
    assert terms.loss.item() == pytest.approx(sum(by_hand), abs=1e-6)
    assert terms.sums["weight"].item() == pytest.approx(5.5)
    assert terms.sums["weight_truncated"].item() == 1.0
    assert terms.maxima["weight_max"].item() == pytest.approx(4.0)
    assert terms.maxima["ratio_max"].item() == 1.0


def test_policy_gradient_with_old_logprobs_by_hand():
    old = torch.tensor([-1.0, -2.0, -3.0, -0.5])
    log_ratio = torch.log(torch.tensor([1.1, 1.5, 5.0, 0.5]))
    new = (old + log_ratio).requires_grad_()
    terms = PolicyLoss(tokens=4)(Scores(new), collate(PACK), old_M=old)
    terms.loss.backward()
    # A = .5, .5, -2, -2: inside; clipped at 1.2; dual-clipped at 3; clipped at .8
    assert new.grad.tolist() == pytest.approx([-0.5 * 1.1 / 4, 0.0, 0.0, 0.0], abs=1e-6)
    assert terms.loss.item() == pytest.approx(-(0.55 + 0.6 - 6.0 - 1.6) / 4, abs=1e-6)
    assert terms.sums["clipped"].item() == 2.0
    assert terms.sums["dual_clipped"].item() == 1.0


def test_weights_use_the_old_policy_and_not_the_new_one():
    old = torch.tensor([-1.0, -2.0, -3.0, -0.5]) + math.log(1.25)
    terms = PolicyLoss(tokens=4)(Scores(old + 0.1), collate(PACK), old_M=old)
    assert terms.sums["weight"].item() == pytest.approx(5.0)


def test_reference_kl_by_hand():
    new = torch.tensor([-1.0, -2.0, -3.0, -0.5], requires_grad=True)
    reference = torch.tensor([-1.0, -2.0 + math.log(2.0), -3.0, -0.5 - math.log(2.0)])
    terms = PolicyLoss(tokens=4, kl_coefficient=0.1)(Scores(new), collate(PACK), reference_M=reference)
    plain = PolicyLoss(tokens=4)(Scores(new), collate(PACK))
    kl = (2 - math.log(2) - 1) + (0.5 + math.log(2) - 1)
    assert terms.sums["kl_reference"].item() == pytest.approx(kl, abs=1e-6)
    assert terms.loss.item() - plain.loss.item() == pytest.approx(0.1 * kl / 4, abs=1e-6)
    (with_kl,), (without,) = (torch.autograd.grad(term.loss, new) for term in (terms, plain))
    by_hand = [0.1 * gap / 4 for gap in (0.0, -math.log(2), 0.0, math.log(2))]  # of reverse KL: new - reference
    assert (with_kl - without).tolist() == pytest.approx(by_hand, abs=1e-6)


def test_k3_is_never_negative_and_its_mean_is_the_divergence():
    p, q = torch.tensor([0.7, 0.3]), torch.tensor([0.4, 0.6])
    estimate = k3(q.log(), p.log())
    assert (estimate >= 0).all()
    assert (p * estimate).sum().item() == pytest.approx((p * (p / q).log()).sum().item(), abs=1e-6)
