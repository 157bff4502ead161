"""Keys on one machine: those of the store, and files that only the user can read."""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path


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
