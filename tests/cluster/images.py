"""Images as OCI archives, made without a registry and kept in the cache folder of the cluster's programs.

``WORKER`` has what the project's virtual environment needs of a system; the environment itself is mounted.
``OPERATOR`` is what the project's Dockerfile makes.
"""

import hashlib
import io
import json
import os
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
OPERATOR = "registry.invalid/operator:1"
PYTHON = "docker.io/library/python:3.11-slim-bookworm"
ROOT = Path(__file__).parents[2]
RELEASE = "bookworm"
PACKAGES = ("python3", "ca-certificates", "libnuma1", "libstdc++6", "libseccomp2")
NEEDED = {"gcc": "gcc", "mmdebstrap": "mmdebstrap", "buildah": "buildah"}
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_OCI = "application/vnd.oci.image"
_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"


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
    layer = _debian("worker", PACKAGES)
    archive = layer.with_suffix(".tar")
    with alone(archive):
        if not archive.exists():
            write_archive(archive, WORKER, [layer], ["python3"])
    return archive


def operator(folder: Path) -> Path:
    """The operator's image, as its Dockerfile makes it, as an archive in ``folder``; a minute."""
    archive = folder / "operator.tar"
    storage = folder / "buildah"
    buildah = ("buildah", "--storage-driver=vfs", f"--root={storage / 'root'}", f"--runroot={storage / 'run'}")
    base = run(*buildah, "from", "scratch").strip()
    run(*buildah, "add", "--quiet", base, _python(), "/")
    run(*buildah, "commit", "--quiet", "--rm", base, PYTHON)
    how = ("--isolation=chroot", "--network=host", "--pull=never", *_trust(folder))
    run(*buildah, "build", *how, f"--tag={OPERATOR}", ROOT)
    run(*buildah, "push", "--quiet", OPERATOR, f"docker-archive:{archive}:{OPERATOR}")
    return archive


def _python() -> Path:
    """A root file system that stands for the base image that the Dockerfiles name."""
    return _debian("python", ("python3", "python3-venv", "ca-certificates"))


def _trust(folder: Path) -> list[str]:
    """What lets pip and uv inside a build trust what pip trusts here, where a machine has certificates of its own."""
    given = os.environ.get("PIP_CERT")
    if given is None:
        return []
    (folder / "pip.conf").write_text(f"[global]\ncert = {_CERTIFICATES}\n")
    (folder / "uv.toml").write_text("system-certs = true\n")
    mounts = {folder / "pip.conf": "/etc/pip.conf", folder / "uv.toml": "/etc/uv/uv.toml", given: _CERTIFICATES}
    return [f"--volume={here}:{there}:ro" for here, there in mounts.items()]


def _debian(name: str, packages: Sequence[str]) -> Path:
    """A minimal Debian with these packages, as a tar; made once."""
    layer = cache() / f"{name}-{_hash(RELEASE, *packages, *(path.read_text() for path in _apt_sources()))}.layer"
    with alone(layer):
        if not layer.exists():
            print(f"making a Debian {RELEASE} for {name}: a minute or two, once ...", file=sys.stderr)
            partial = layer.with_name(f".{layer.name}.tar")
            run(
                "mmdebstrap",
                "--variant=minbase",
                "--mode=root",
                f"--include={','.join(packages)}",
                "--dpkgopt=path-exclude=/usr/share/doc/*",
                "--dpkgopt=path-exclude=/usr/share/man/*",
                RELEASE,
                partial,
                *_apt_sources(),
            )
            partial.rename(layer)
    return layer


def _apt_sources() -> list[Path]:
    """This machine's own list of Debian's packages if it is of the release, else none: mmdebstrap has a default."""
    found = [Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list")]
    return [path for path in found if path.exists() and RELEASE in path.read_text()][:1]


def write_archive(
    archive: Path, name: str, layers: Sequence[Path], command: Sequence[str], environ: Sequence[str] = ()
) -> None:
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
