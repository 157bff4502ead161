"""What the manifests of finished steps say, in the plan's words."""

from collections.abc import Mapping

from score_distill.artifacts.steps import Manifest
from score_distill.control.plan import Done, done_with
from score_distill.stages.context import summary_of


def done_of(manifests: Mapping[str, Manifest]) -> dict[str, Done]:
    return {name: _done(manifest) for name, manifest in manifests.items()}


def _done(manifest: Manifest) -> Done:
    return done_with(manifest.step, manifest.attempt, manifest.counts, summary_of(manifest).tokens)
