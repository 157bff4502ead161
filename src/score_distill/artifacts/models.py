"""A model URI of the manifest as a local folder that vLLM and transformers can load, or a clear reason why not.

`hf://org/name[@revision]` and `s3://bucket/prefix` are fetched into the cache once; local URIs are used in place. No
weights are read here: whether they fit the config shows when the model is loaded.
"""

import fcntl
import hashlib
import json
from pathlib import Path
from typing import Any

from score_distill.artifacts.places import Places, local_path, scheme
from score_distill.artifacts.store import room_needed
from score_distill.errors import BadInput

_BESIDE_WEIGHTS = ["*.json", "*.model", "*.jinja", "*.txt"]
_NOT_NEEDED = ["*/*", "consolidated*", "training_args.bin", "optimizer*.bin", "scheduler*.bin"]


class ModelNotUsable(BadInput):
    """No model can be loaded from the URI; the message names every fault and what would be right."""


def model_folder(uri: str, places: Places) -> Path:
    """Where the model is, after fetching it if need be; `check_model` says whether it is complete."""
    match scheme(uri):
        case "hf":
            return _from_hub(uri, places)
        case "s3":
            return _from_s3(uri, places)
    try:
        folder = local_path(uri, places.base, places.claims)
    except ValueError as error:
        raise ModelNotUsable(str(error)) from error
    if not folder.is_dir():
        raise ModelNotUsable(f"{uri}: no folder {folder}; give a folder as save_pretrained writes it")
    return folder


def check_model(folder: Path, uri: str, *, chat_template: bool) -> None:
    """Raise ModelNotUsable with all that is missing: config, tokenizer, weights and, when asked for, chat template."""
    faults = [*_config_faults(folder), *_tokenizer_faults(folder), *_weight_faults(folder)]
    if chat_template and not _has_chat_template(folder):
        faults.append("no chat template; add chat_template.jinja, or chat_template in tokenizer_config.json")
    if faults:
        raise ModelNotUsable(f"{uri}: {'; '.join(faults)}")


def _config_faults(folder: Path) -> list[str]:
    config = _read_json(folder / "config.json")
    if config is None:
        return ["no config.json that is a JSON object; model.save_pretrained writes it"]
    if "model_type" not in config:
        return ["config.json has no model_type; name the architecture, such as llama"]
    return []


def _tokenizer_faults(folder: Path) -> list[str]:
    if (folder / "tokenizer.json").is_file():
        broken = _read_json(folder / "tokenizer.json") is None
        return ["tokenizer.json is not a JSON object; tokenizer.save_pretrained writes it"] if broken else []
    if (folder / "tokenizer.model").is_file():
        return []
    return ["no tokenizer.json; tokenizer.save_pretrained writes it beside the weights (tokenizer.model also works)"]


def _weight_faults(folder: Path) -> list[str]:
    for kind in ("model.safetensors", "pytorch_model.bin"):
        index = folder / f"{kind}.index.json"
        if index.is_file():
            shards = set(((_read_json(index) or {}).get("weight_map") or {}).values())
            lost = sorted(shard for shard in shards if not (folder / shard).is_file())
            if not shards:
                return [f"{index.name} names no weights; save the model again"]
            return [f"{len(lost)} of {len(shards)} weight files are missing, the first is {lost[0]}"] if lost else []
        if (folder / kind).is_file():
            return [] if (folder / kind).stat().st_size else [f"{kind} is empty; copy it again"]
    return ["no weights; model.safetensors, or model.safetensors.index.json with its files, is needed"]


def _has_chat_template(folder: Path) -> bool:
    in_config = (_read_json(folder / "tokenizer_config.json") or {}).get("chat_template")
    return bool(in_config) or any((folder / name).is_file() for name in ("chat_template.jinja", "chat_template.json"))


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _from_hub(uri: str, places: Places) -> Path:
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
            for weights in ("*.safetensors", "*.bin"):
                found = snapshot_download(
                    name,
                    revision=revision or None,
                    cache_dir=places.cache / "hub",
                    token=places.environ.get("HF_TOKEN"),
                    endpoint=places.environ.get("HF_ENDPOINT"),
                    allow_patterns=[*_BESIDE_WEIGHTS, weights],
                    ignore_patterns=_NOT_NEEDED,
                )
                if any(Path(found).glob(weights)):
                    break
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


def _from_s3(uri: str, places: Places) -> Path:
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
            if not (folder / key).exists():
                store.download(key, folder / ".part")
                (folder / ".part").rename(folder / key)
    return folder
