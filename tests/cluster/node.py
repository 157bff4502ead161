"""The whole cluster: a control plane and one real node (kubelet, containerd, runc, kube-proxy, CoreDNS).

Needs root, and one such cluster can be on a machine. Its addresses are in ``network.py``.
"""

import fcntl
import os
import shutil
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from kubernetes import client, utils
from tests.cluster import images, leftovers, network, settings
from tests.cluster.binaries import CLUSTER, built, cache
from tests.cluster.control_plane import ControlPlane, Where, control_plane
from tests.cluster.processes import run
from tests.cluster.waiting import eventually

NAME = "node-1"
PLACE = Path("/run/score-distill")
SOCKET = PLACE / "containerd.sock"
NEEDED = {
    **images.NEEDED,
    "runc": "runc",
    "nft": "nftables",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ethtool": "ethtool",
    "ip": "iproute2",
    str(settings.CNI_PROGRAMS / "ptp"): "containernetworking-plugins",
}
"""Programs from Debian's packages."""


class Cluster:
    """A cluster with one node, on which every image that a pod names must have been imported."""

    host = network.HOST
    """This machine, as pods see it."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane
        self.folder = plane.folder
        self._control = built("containerd") / "ctr"

    @property
    def admin(self) -> Path:
        return self.plane.admin

    def kubeconfig(self, user: str, groups: Sequence[str] = ()) -> Path:
        return self.plane.kubeconfig(user, groups)

    def client(self, kubeconfig: Path | None = None) -> client.ApiClient:
        return self.plane.client(kubeconfig)

    def import_image(self, archive: Path) -> None:
        """Import an OCI or docker archive, under the names that it gives."""
        self._ctr("images", "import", "--local", archive)

    def tag_image(self, image: str, name: str) -> None:
        """Let ``name`` stand for an imported image too."""
        self._ctr("images", "tag", "--force", image, name)

    def _ctr(self, *arguments: object) -> None:
        run(self._control, "--address", SOCKET, "--namespace", "k8s.io", *arguments)

    def start_node(self) -> None:
        """Start all of it and wait until pods can run and Services answer."""
        folder, keys = self.folder, self.plane.keys
        (folder / "cni").mkdir()
        (folder / "kubelet").mkdir()
        (folder / "resolv.conf").touch()
        certificate = self.plane.authority.issue(NAME, hosts=[NAME, network.NODE])
        certificate.write(keys, "node")
        (folder / "cni" / "pods.conflist").write_text(settings.cni(folder))
        leftovers.make_group()
        self._start_containerd()
        self.import_image(images.pause())
        kubernetes = self.plane.programs
        self.plane.run(
            kubernetes / "kubelet",
            f"--config={self._write('kubelet.yaml', settings.kubelet(folder, SOCKET, keys))}",
            f"--kubeconfig={self.kubeconfig(f'system:node:{NAME}', ['system:nodes'])}",
            f"--root-dir={folder / 'kubelet'}",
            f"--cert-dir={keys}",
            f"--hostname-override={NAME}",
            f"--node-ip={network.NODE}",
        )
        proxy = settings.kube_proxy(NAME, self.kubeconfig("system:kube-proxy"))
        self.plane.run(kubernetes / "kube-proxy", f"--config={self._write('kube-proxy.yaml', proxy)}")
        for one in settings.dns_objects():
            utils.create_from_dict(self.client(), one)
        names = settings.coredns(self.kubeconfig("coredns"))
        self.plane.run(built("coredns") / "coredns", "-conf", self._write("Corefile", names))
        self._wait_until_ready()

    def _write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    def _start_containerd(self) -> None:
        programs = built("containerd")
        configuration = self._write("containerd.toml", settings.containerd(self.folder, SOCKET))
        path = f"PATH={programs}:{os.environ['PATH']}"
        self.plane.run(programs / "containerd", "--config", configuration, environ=[path])

        def answers() -> None:
            self.plane.check()
            self._ctr("version")

        eventually(answers)

    def _wait_until_ready(self) -> None:
        core = client.CoreV1Api(self.client())

        def pods_can_run() -> None:
            self.plane.check()
            ready = next(one for one in core.read_node(NAME).status.conditions if one.type == "Ready")
            assert ready.status == "True", f"the node is not ready: {ready.message}"
            socket.create_connection((network.DNS, 53), timeout=2).close()

        eventually(pods_can_run, within=120)


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A whole cluster from nothing. What an earlier one left behind is cleared away first."""
    check_machine()
    PLACE.mkdir(exist_ok=True)
    folder = cache() / "state"
    programs = {name: built(name) for name in CLUSTER}
    with (PLACE / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RuntimeError("another cluster is up here; `python -m tests.cluster down` ends a person's") from None
        leftovers.clear(folder, SOCKET)
        folder.mkdir(parents=True)
        try:
            network.up()
            where = Where(network.NODE, 6443, 2379, 2380, network.INSIDE)
            with control_plane(folder, where=where, programs=programs["kubernetes"], scheduler=True) as plane:
                whole = Cluster(plane)
                whole.start_node()
                yield whole
        finally:
            leftovers.clear(folder, SOCKET)


def check_machine() -> None:
    if os.geteuid():
        raise RuntimeError("a cluster with a node needs root: it makes network namespaces, mounts and control groups")
    if lack := missing_packages():
        raise RuntimeError(f"not installed: apt-get install {' '.join(lack)}")


def missing_packages() -> list[str]:
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    return sorted({package for program, package in NEEDED.items() if not shutil.which(program, path=path)})
