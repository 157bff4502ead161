"""Whether two models mean the same by the same token ids, so that one can score what the other sampled.

Told by tokenizer.json alone: the token of each id, added ones included. How text is cut into tokens is of no matter
for ids that were sampled. No weights are fetched.
"""

import json
from pathlib import Path

from score_distill.artifacts.models import ModelNotUsable, model_folder
from score_distill.artifacts.uris import UriResolver
from score_distill.errors import BadInput


def check_vocabularies(student: str, teacher: str, places: UriResolver) -> None:
    """Raise BadInput unless the teacher has each token of the student under the same id."""
    folders = [model_folder(uri, places, weights=False) for uri in (student, teacher)]
    if found := disagreement(*folders):
        raise BadInput(
            f"spec.method.rl.controls: OnPolicyDistillation; the teacher must have the student's vocabulary: {found}"
        )


def disagreement(student: Path, teacher: Path) -> str:
    """The first id of the student's that is another token of the teacher's, or none; empty where there is no such."""
    mine, other = tokens(student), tokens(teacher)
    foreign = sorted(number for number, token in mine.items() if other.get(number) != token)
    if not foreign:
        return ""
    number = foreign[0]
    theirs = f"{other[number]!r} in {teacher.name}" if number in other else f"missing in {teacher.name}"
    return f"{len(foreign):,} of {len(mine):,} ids differ, such as {number}: {mine[number]!r}, {theirs}"


def tokens(folder: Path) -> dict[int, str]:
    """The token of each id. Raises ModelNotUsable when there is no tokenizer that can be read."""
    path = folder / "tokenizer.json"
    try:
        found = json.loads(path.read_bytes())
        words = found["model"]["vocab"]
        pairs = words.items() if isinstance(words, dict) else ((word, place) for place, (word, _) in enumerate(words))
        added = {one["id"]: one["content"] for one in found.get("added_tokens", ())}
        return {number: word for word, number in pairs} | added
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ModelNotUsable(f"{path}: no vocabulary that can be read ({type(error).__name__}: {error})") from error
