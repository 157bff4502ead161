"""The pretraining script: what is learnt, the optimizer, and a folder that reads back right."""

import random
from itertools import islice

import pytest
import torch
from examples.ledger.family import WHOLE
from examples.ledger.muon import Muon
from examples.ledger.pretrain import IGNORED, Recipe, batches, create, rows, save, schedule, train
from examples.ledger.tokenizer import build

TINY = Recipe(layers=1, width=32, mlp=32, part=WHOLE, wandering=0.5, updates=6, batch=4, warmup=2)


def test_only_assistant_turns_are_learnt():
    tokenizer = build()
    row = next(rows(random.Random(0), tokenizer, Recipe(1, 32, 32, WHOLE, wandering=0.0, updates=1)))
    learnt = tokenizer.decode([token for token, mine in zip(row.ids, row.learnt, strict=True) if mine])
    rest = tokenizer.decode([token for token, mine in zip(row.ids, row.learnt, strict=True) if not mine])
    turns = learnt.removesuffix("<|end|>").split("<|end|>")
    assert all(turn.startswith("<thought>") and turn.endswith("</code>") for turn in turns)
    assert "<thought>" not in rest
    assert rest.count("<|assistant|>") == len(turns)


def test_batches_carry_labels_for_learnt_tokens_only():
    tokenizer = build()
    ids, labels = next(batches(random.Random(0), rows(random.Random(0), tokenizer, TINY), 4, tokenizer.pad_token_id))
    kept = labels != IGNORED
    assert ids.shape == labels.shape
    assert torch.equal(ids[kept], labels[kept])
    assert not (labels == tokenizer.pad_token_id).any()


def test_muon_is_torchs_up_to_its_lower_precision():
    torch.manual_seed(0)
    ours = [torch.randn(shape) for shape in ((16, 16), (48, 16), (16, 48))]
    theirs = [matrix.clone() for matrix in ours]
    first, second = Muon(ours, lr=0.02), torch.optim.Muon(theirs, lr=0.02, weight_decay=0.1)
    for _ in range(3):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        first.step()
        second.step()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=2e-3, rtol=0)


def test_schedule_warms_up_stays_and_decays_to_nothing():
    recipe = Recipe(1, 32, 32, WHOLE, wandering=0.0, updates=100, warmup=10, decay_share=0.4)
    assert [schedule(u, recipe) for u in (0, 4, 9, 30, 60, 80)] == pytest.approx([0.1, 0.5, 1, 1, 1, 0.5])
    assert schedule(100, recipe) == 0


def test_training_is_reproducible_and_the_saved_folder_reads_back(tmp_path):
    tokenizer = build()
    models = []
    for _ in range(2):
        torch.manual_seed(0)
        model = create(TINY, tokenizer)
        rng = random.Random(0)
        train(model, TINY, batches(rng, rows(rng, tokenizer, TINY), TINY.batch, tokenizer.pad_token_id))
        models.append(model)
    for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(a, b)
    probe = next(islice(batches(rng, rows(rng, tokenizer, TINY), 2, tokenizer.pad_token_id), 1))[0]
    save(models[0], tokenizer, tmp_path, probe)
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"} <= {
        path.name for path in tmp_path.iterdir()
    }
