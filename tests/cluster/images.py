"""Images as OCI archives, made without a registry and kept in the cache folder of the cluster's programs.

``WORKER`` has what the project's virtual environment needs of a system; the environment itself is mounted.
"""

import hashlib
import io
import json
import platform
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.cluster.binaries import alone, cache
from tests.cluster.processes import run

PAUSE = "registry.invalid/pause:1"
WORKER = "registry.invalid/worker:1"
RELEASE = "bookworm"
PACKAGES = ("python3", "ca-certificates", "libnuma1", "libstdc++6", "libseccomp2")
NEEDED = {"gcc": "gcc", "mmdebstrap": "mmdebstrap"}
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_OCI = "application/vnd.oci.image"


def pause() -> Path:
    source = Path(__file__).with_name("pause.c")
    archive = cache() / f"pause-{_hash(source.read_text())}.tar"
    with alone(archive):
        if not archive.exists():
            with tempfile.TemporaryDirectory(dir=archive.parent) as folder:
                program, layer = Path(folder) / "pause", Path(folder) / "layer.tar"
                run("gcc", "-static", "-Os", "-s", "-o", program, source)
                with tarfile.open(layer, "w") as tar:
                    tar.add(program, "pause")
                write_archive(archive, PAUSE, [layer], ["/pause"])
    return archive


def worker() -> Path:
    """Debian with Python and the libraries of torch and vLLM; takes a minute or two the first time, and root."""
    recipe = [RELEASE, *PACKAGES, *(path.read_text() for path in _apt_sources())]
    archive = cache() / f"worker-{_hash(*recipe)}.tar"
    with alone(archive):
        if not archive.exists():
            print(f"making the tests' worker image of Debian {RELEASE}: a minute or two, once ...", file=sys.stderr)
            with tempfile.TemporaryDirectory(dir=archive.parent) as folder:
                layer = Path(folder) / "layer.tar"
                run(
                    "mmdebstrap",
                    "--variant=minbase",
                    "--mode=root",
                    f"--include={','.join(PACKAGES)}",
                    "--dpkgopt=path-exclude=/usr/share/doc/*",
                    "--dpkgopt=path-exclude=/usr/share/man/*",
                    RELEASE,
                    layer,
                    *_apt_sources(),
                )
                write_archive(archive, WORKER, [layer], ["python3"])
    return archive


def _apt_sources() -> list[Path]:
    """This machine's own list of Debian's packages if it is of the release, else none: mmdebstrap has a default."""
    found = [Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list")]
    return [path for path in found if path.exists() and RELEASE in path.read_text()][:1]


def write_archive(archive: Path, name: str, layers: Sequence[Path], command: Sequence[str]) -> None:
    """An OCI archive of uncompressed layers, oldest first; it appears whole or not at all."""
    digests = [_digest(layer) for layer in layers]
    configuration = _json(
        architecture={"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()],
        os="linux",
        created="2020-01-01T00:00:00Z",
        config={"Env": [_PATH], "Cmd": list(command)},
        rootfs={"type": "layers", "diff_ids": digests},
    )
    manifest = _json(
        schemaVersion=2,
        mediaType=f"{_OCI}.manifest.v1+json",
        config=_described(f"{_OCI}.config.v1+json", configuration),
        layers=[
            {"mediaType": f"{_OCI}.layer.v1.tar", "digest": digest, "size": layer.stat().st_size}
            for digest, layer in zip(digests, layers, strict=True)
        ],
    )
    names = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name.rpartition(":")[2]}
    entry = {**_described(f"{_OCI}.manifest.v1+json", manifest), "annotations": names}
    partial = archive.with_name(f".{archive.name}")
    with tarfile.open(partial, "w") as tar:
        _add(tar, "oci-layout", _json(imageLayoutVersion="1.0.0"))
        _add(tar, "index.json", _json(schemaVersion=2, manifests=[entry]))
        for blob in (configuration, manifest):
            _add(tar, f"blobs/sha256/{hashlib.sha256(blob).hexdigest()}", blob)
        for digest, layer in dict(zip(digests, layers, strict=True)).items():
            tar.add(layer, f"blobs/sha256/{digest.removeprefix('sha256:')}")
    partial.rename(archive)


def _described(kind: str, blob: bytes) -> dict[str, object]:
    return {"mediaType": kind, "digest": f"sha256:{hashlib.sha256(blob).hexdigest()}", "size": len(blob)}


def _add(tar: tarfile.TarFile, name: str, blob: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(blob)
    tar.addfile(member, io.BytesIO(blob))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _json(**parts: object) -> bytes:
    return json.dumps(parts).encode()


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
