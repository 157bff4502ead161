"""A model URI of the manifest as a local folder that vLLM and transformers can load, or a clear reason why not.

`hf://org/name[@revision]` and `s3://bucket/prefix` are fetched into the cache once; local URIs are used in place.
"""

import fcntl
import hashlib
import json
from fnmatch import fnmatch
from pathlib import Path

from score_distill.artifacts.store import room_needed
from score_distill.artifacts.uris import UriResolver, local_path, scheme
from score_distill.errors import BadInput
from score_distill.model_folder import faults

_BESIDE_WEIGHTS = ["*.json", "*.model", "*.jinja", "*.txt"]
_NOT_NEEDED = ["*/*", "consolidated*"]


class ModelNotUsable(BadInput):
    """No model can be loaded from the URI; the message names every fault and what would be right."""


def model_folder(uri: str, places: UriResolver, *, weights: bool = True) -> Path:
    """Where the model is, after fetching it if need be; `check_model` says whether it is complete.

    Without ``weights`` only what stands beside them is sure to be there, such as the tokenizer.
    """
    match scheme(uri):
        case "hf":
            return _from_hub(uri, places, weights)
        case "s3":
            return _from_s3(uri, places, weights)
    try:
        folder = local_path(uri, places.base, places.claims)
    except ValueError as error:
        raise ModelNotUsable(str(error)) from error
    if not folder.is_dir():
        raise ModelNotUsable(f"{uri}: no folder {folder}; give a folder as save_pretrained writes it")
    return folder


def check_model(folder: Path, uri: str) -> None:
    """Raise ModelNotUsable with all that is missing."""
    if found := faults(folder):
        raise ModelNotUsable(f"{uri}: {'; '.join(found)}")


def _from_hub(uri: str, places: UriResolver, weights: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    name, _, revision = uri.removeprefix("hf://").partition("@")
    try:
        with room_needed(str(places.cache)):
            found = snapshot_download(
                name,
                revision=revision or None,
                cache_dir=places.cache / "hub",
                token=places.environ.get("HF_TOKEN"),
                endpoint=places.environ.get("HF_ENDPOINT"),
                allow_patterns=[*_BESIDE_WEIGHTS, *["*.safetensors"] * weights],
                ignore_patterns=_NOT_NEEDED,
            )
            return Path(found)
    except GatedRepoError:
        reason = "the model is gated; accept its terms on the hub and set HF_TOKEN"
    except RevisionNotFoundError:
        reason = f"the model has no revision {revision}"
    except RepositoryNotFoundError:
        reason = "no such model on the hub, or HF_TOKEN does not open it; write hf://ORG/NAME or hf://ORG/NAME@REVISION"
    except LocalEntryNotFoundError:
        reason = "the hub does not answer and the model is not in the cache; check network, HF_ENDPOINT, HF_HUB_OFFLINE"
    except HFValidationError:
        reason = "not the name of a model; write hf://ORG/NAME or hf://ORG/NAME@REVISION"
    except HfHubHTTPError as error:
        reason = f"the hub refused (HTTP {error.response.status_code})"
    raise ModelNotUsable(f"{uri}: {reason}")


def _from_s3(uri: str, places: UriResolver, weights: bool) -> Path:
    """The folder is named by what is stored now, so a changed model is fetched anew; StoreError rises as it is."""
    from score_distill.artifacts.s3 import open_s3

    try:
        store = open_s3(uri, places.environ)
    except ValueError as error:
        raise ModelNotUsable(str(error)) from error
    found = {key: version for key, version in store.versions("") if "/" not in key}
    if not found:
        raise ModelNotUsable(f"{uri}: nothing is stored there; give the folder that holds config.json")
    identity = hashlib.sha256(json.dumps([uri, found], sort_keys=True).encode()).hexdigest()[:16]
    folder = places.cache / "s3" / identity
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for key in found:
            wanted = weights or any(fnmatch(key, pattern) for pattern in _BESIDE_WEIGHTS)
            if wanted and not (folder / key).exists():
                store.download(key, folder / ".part")
                (folder / ".part").rename(folder / key)
    return folder
