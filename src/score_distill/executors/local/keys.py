"""Keys on one machine: where a Secret of the manifest is found, and files that only the user can read.

A key is looked for in the file $SCORE_SECRETS/NAME/KEY, then in the variable NAME_KEY (upper case, anything but
letters and digits as _). No message shows one.
"""

import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

from score_distill.api import SecretKey
from score_distill.errors import BadInput


def variable(secret: SecretKey) -> str:
    return re.sub(r"[^A-Z0-9]", "_", f"{secret.name}_{secret.key}".upper())


def find(secret: SecretKey, environ: Mapping[str, str]) -> str:
    """The key; BadInput says where it was looked for."""
    places = []
    if folder := environ.get("SCORE_SECRETS"):
        path = Path(folder, secret.name, secret.key)
        places.append(f"file {path}")
        try:
            return path.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            pass
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"secret {secret.name}, key {secret.key}: {path} cannot be read") from error
    places.append(f"variable {variable(secret)}")
    if key := environ.get(variable(secret), "").strip():
        return key
    raise BadInput(f"secret {secret.name}, key {secret.key}: not found; give it as {' or '.join(places)}")


def store_environ(secret: str | None, environ: Mapping[str, str]) -> dict[str, str]:
    """``environ`` with the AWS_ variables that are files of the store's Secret; those given already stay."""
    folder = Path(environ.get("SCORE_SECRETS", ""), secret or "")
    files = folder.glob("AWS_*") if secret and environ.get("SCORE_SECRETS") else ()
    return {path.name: path.read_text(encoding="utf-8").strip() for path in files} | dict(environ)


def keep(path: Path, key: str) -> Path:
    """Write a key where only this user can read it."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(handle, "w", encoding="utf-8") as file:
        file.write(key)
    return path


def fresh() -> str:
    return secrets.token_urlsafe(32)
