"""The weights that a gateway has on disk: the base model, the version loaded last, and the one before it.

Which was loaded last is written down, so a gateway that was restarted knows what its vLLM must compute with.
"""

import asyncio
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

from score_distill import whole_file
from score_distill.serving.parcel import BadParcel, digest, unpack
from score_distill.serving.probe import PROBE, Probe, read_probe
from score_distill.serving.weights import BASE

VERSION = re.compile(r"[0-9a-f]{32}")
BOUND = 4  # times the base model: the same numbers, in a format of more bytes


class Shelf:
    """``base`` may be read-only: its probe is kept in ``folder`` when it brought none."""

    def __init__(self, folder: Path, base: Path) -> None:
        self.folder, self.base = folder, base
        (folder / BASE).mkdir(parents=True, exist_ok=True)

    @property
    def current(self) -> str:
        """The version that was loaded last."""
        path = self.folder / "current"
        version = path.read_text() if path.exists() else BASE
        return version if self.has(version) else BASE

    def loaded(self, version: str) -> None:
        whole_file.write(self.folder / "current", version)

    def has(self, version: str) -> bool:
        return version == BASE or (VERSION.fullmatch(version) is not None and (self.folder / version).is_dir())

    def model(self, version: str) -> Path:
        return self.base if version == BASE else self.folder / version

    def probe(self, version: str) -> Probe | None:
        """None for a base model whose probe nobody recorded yet."""
        if version != BASE or (self.base / PROBE).exists():
            return read_probe(self.model(version))
        kept = self.folder / BASE
        return read_probe(kept) if (kept / PROBE).exists() else None

    async def receive(self, version: str, chunks: AsyncIterator[bytes]) -> None:
        """Take a version in, whole or not at all; all but the one loaded last make room for it."""
        if not VERSION.fullmatch(version):
            raise BadParcel(f"{version}: a version is 32 hexadecimal digits")
        for old in self.folder.iterdir():
            if old.is_dir() and old.name not in (BASE, self.current):
                await asyncio.to_thread(shutil.rmtree, old)
        part = self.folder / f"{version}.part"
        try:
            await unpack(chunks, part, BOUND * _size(self.base) + (1 << 20))
            if await asyncio.to_thread(digest, part) != version:
                raise BadParcel(f"{version} is not the digest of what arrived")
            read_probe(part)
            if not self.has(version):
                part.rename(self.folder / version)
        finally:
            await asyncio.to_thread(shutil.rmtree, part, ignore_errors=True)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
