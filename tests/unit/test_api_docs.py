"""docs/api.md is what the generator writes now, and every field has a reason to be there."""

from pathlib import Path

from pydantic import BaseModel

from score_distill.api import Spec, Status
from score_distill.api_docs import render
from score_distill.manifest import model_of

PAGE = Path(__file__).parents[2] / "docs" / "api.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(), "run make generate"


def test_a_field_is_shown_with_bounds_default_and_reason() -> None:
    rows = render().splitlines()
    assert (
        "| `groupSize` | whole number ≥ 2, ≤ 256 | `16` | rollouts from one prefix; a group needs at least 2 rollouts |"
        in rows
    )
    assert "| `schedule` | `cosine`, `constant` | `cosine` | of the learning rate after its warm-up |" in rows
    assert (
        "| `uri` | text of 1 to 1024 characters, must not contain spaces | required | JSON Lines, plain or .gz |"
        in rows
    )


def test_every_field_says_what_it_is_for() -> None:
    assert undescribed("spec", Spec) + undescribed("status", Status) == []


def undescribed(path: str, model: type[BaseModel]) -> list[str]:
    found = []
    for name, field in model.model_fields.items():
        inner = model_of(field.annotation)
        if inner is not None:
            found += undescribed(f"{path}.{name}", inner)
        elif not field.description:
            found.append(f"{path}.{name}")
    return found
