"""A model of the manifest in a pod's own folder, whole or not there at all, so that a container killed meanwhile
begins again."""

import fcntl
import shutil
from collections.abc import Mapping
from pathlib import Path

from score_distill.artifacts.models import check_model, model_folder
from score_distill.artifacts.store import room_needed
from score_distill.artifacts.uris import UriResolver
from score_distill.serving.untie import copy, untie


def fetch(uri: str, folder: Path, environ: Mapping[str, str], claims: Path, *, untied: bool) -> None:
    """Make ``folder``, unless it is there. It must not be a mount itself: it comes to be by being renamed.

    What is downloaded lies beside it meanwhile, on the same disk, and is linked rather than copied from there.
    """
    folder = folder.absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    cache, part = folder.with_name(f".{folder.name}.cache"), folder.with_name(f".{folder.name}.part")
    with folder.with_name(f".{folder.name}.lock").open("w") as lock, room_needed(str(folder)):
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            shutil.rmtree(part, ignore_errors=True)
            source = model_folder(uri, UriResolver(base=Path.cwd(), cache=cache, claims=claims, environ=environ))
            check_model(source, uri)
            if untied:
                untie(source, part, copy)
            else:
                part.mkdir()
                for path in source.iterdir():
                    if path.is_file() and not path.name.startswith("."):
                        copy(path.resolve(), part / path.name)
            part.rename(folder)
        shutil.rmtree(cache, ignore_errors=True)
