from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch

from score_distill.train.broadcast import broadcast, flatten, unflatten
from score_distill.train.config import TrainConfig
from score_distill.train.engine import Engine
from score_distill.train.errors import DataError
from score_distill.train.launch import Process
from score_distill.train.packing import epoch_plan
from score_distill.train.policy import Policy, PolicyConfig, packed, replayed
from score_distill.train.rows import Rows, Sample

SAMPLES = [
    Sample(np.array([1, 2, 3]), np.array([False, True, True]), np.array([-1.5, -0.25]), 0.5),
    Sample(np.array([4, 5]), np.array([False, True])),
    Sample(np.array([6, 7, 8]), np.array([False, False, True]), np.array([-2.0]), np.array([-0.75])),
    Sample(np.array([9, 1, 2]), np.array([False, True, True]), None, np.array([1.0, 2.0])),
]


def test_samples_survive_the_way_from_rank_to_rank():
    for before, after in zip(SAMPLES, unflatten(flatten(SAMPLES)), strict=True):
        assert after.ids.tolist() == before.ids.tolist()
        assert after.mask.tolist() == before.mask.tolist()
        assert (after.logprobs is None) == (before.logprobs is None)
        if before.logprobs is not None:
            assert after.logprobs.tolist() == before.logprobs.tolist()
        assert np.array_equal(after.advantage, before.advantage)
        assert np.ndim(after.advantage) == np.ndim(before.advantage)


def test_no_sample_survives_as_none():
    assert unflatten(flatten([])) == []


def test_one_process_sends_nothing():
    header, arrays = broadcast(Process(), torch.device("cpu"), {"do": "stop"}, {"x": np.arange(3)})
    assert header == {"do": "stop"} and arrays["x"].tolist() == [0, 1, 2]


def test_packs_respect_the_capacity():
    assert [[len(sample.ids) for sample in pack] for pack in packed(SAMPLES, 5)] == [[3], [3], [3, 2]]
    assert packed([], 5) == []
    with pytest.raises(DataError, match="3 tokens; a pack holds 2"):
        packed(SAMPLES, 2)


def test_replay_goes_through_all_rows_and_begins_again_in_another_order():
    rows = Rows(np.arange(60, dtype=np.int32), np.ones(60, dtype=bool), np.arange(0, 61, 3))
    config = TrainConfig(learning_rate=1.0, pack_tokens=6, tokens_per_step=12)
    steps = len(epoch_plan(rows.lengths, config, 0))
    first, second = (
        [int(sample.ids[0]) for update in range(begin, begin + steps) for sample in replayed(rows, config, update)]
        for begin in (0, steps)
    )
    assert sorted(first) == sorted(second) == list(range(0, 60, 3))
    assert first != second


def test_a_reference_model_is_there_only_where_its_divergence_counts(tmp_path: Path):
    for settings, folder in ((PolicyConfig(), tmp_path), (PolicyConfig(kl_coefficient=0.1), None)):
        with pytest.raises(ValueError, match="a KL coefficient needs a reference model"):
            Policy(cast(Engine, None), settings, folder)
