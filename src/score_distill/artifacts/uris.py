"""Which local path a URI of the manifest means. Pure: touches no file.

`file:///abs`, a path (relative to a base folder) and `pvc://claim/path` (below the folder where claims are mounted)
are local; `s3://` and `hf://` are fetched by `models` and `data`, which take the same `UriResolver`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True)
class UriResolver:
    """`base` resolves relative paths, `cache` keeps what was fetched, claims are mounted at `claims`/CLAIM."""

    base: Path
    cache: Path
    claims: Path
    environ: Mapping[str, str]


def scheme(uri: str) -> str:
    """The part before '://', or "" for a plain path."""
    return uri.partition("://")[0] if "://" in uri else ""


def local_path(uri: str, base: Path, claims: Path | None = None) -> Path:
    """The path that a local URI names; ValueError when it is not local or leaves its claim."""
    kind = scheme(uri)
    if not kind:
        return base / uri
    parts = urlsplit(uri)
    path = unquote(parts.path)
    if kind == "file":
        if parts.netloc not in ("", "localhost"):
            raise ValueError(f"{uri}: a file URI has three slashes, file:///{parts.netloc}{parts.path}")
        return Path(path)
    if kind == "pvc" and claims is not None:
        inside = Path(parts.netloc, path.lstrip("/"))
        if not parts.netloc or ".." in inside.parts:
            raise ValueError(f"{uri}: write pvc://CLAIM/path, without '..'")
        return claims / inside
    remote = ("s3",) if claims is None else ("hf", "s3", "pvc")
    known = ", ".join(f"{one}://" for one in (*remote, "file") if one != kind)
    raise ValueError(f"{uri}: {kind}:// does not work here; use {known} or a path")
