"""The whole cluster: a control plane and real nodes (kubelet, containerd, runc, kube-proxy), and CoreDNS.

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
from tests.cluster.network import FIRST, Place
from tests.cluster.processes import Daemon, run, start
from tests.cluster.waiting import eventually

PLACE = Path("/run/score-distill")
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


class Node:
    """One node. Every image that a pod on it names must have been imported."""

    def __init__(self, plane: ControlPlane, place: Place) -> None:
        self.plane, self.place, self.name = plane, place, place.name
        self._folder = plane.folder / self.name
        self._socket = PLACE / f"{self.name}.sock"
        self._control = built("containerd") / "ctr"
        self._daemons: list[Daemon] = []

    def import_image(self, archive: Path) -> None:
        """Import an OCI or docker archive, under the names that it gives."""
        self._ctr("images", "import", "--local", archive)

    def tag_image(self, image: str, name: str) -> None:
        """Let ``name`` stand for an imported image too."""
        self._ctr("images", "tag", "--force", image, name)

    def start(self) -> None:
        """Start all of it and wait until pods can run and Services answer; its network is up."""
        folder, kubernetes = self._folder, self.plane.programs
        for inside in ("cni", "kubelet"):
            (folder / inside).mkdir(parents=True)
        (folder / "resolv.conf").touch()
        hosts = [self.name, self.place.address]
        self.plane.authority.issue(self.name, hosts=hosts).write(self.plane.keys, self.name)
        (folder / "cni" / "pods.conflist").write_text(settings.cni(folder, self.place.pods))
        leftovers.make_group(self.name)
        self._start_containerd()
        self.import_image(images.pause())
        kubelet = settings.kubelet(self.name, folder, self._socket, self.plane.keys)
        self._run(
            kubernetes / "kubelet",
            f"--config={self._write('kubelet.yaml', kubelet)}",
            f"--kubeconfig={self.plane.kubeconfig(f'system:node:{self.name}', ['system:nodes'])}",
            f"--root-dir={folder / 'kubelet'}",
            f"--cert-dir={self.plane.keys}",
            f"--hostname-override={self.name}",
            f"--node-ip={self.place.address}",
        )
        proxy = settings.kube_proxy(self.name, self.plane.kubeconfig("system:kube-proxy"))
        self._run(kubernetes / "kube-proxy", f"--config={self._write('kube-proxy.yaml', proxy)}")
        eventually(self._is_ready, within=120)

    def vanish(self) -> None:
        """As when its power is cut: nothing of it ends in order, and nobody is told."""
        self.place.down()
        self.kill()

    def kill(self) -> None:
        while self._daemons:
            self._daemons.pop().kill()

    def check(self) -> None:
        """Raise with the end of its log if one of its programs has ended."""
        for daemon in self._daemons:
            daemon.check()

    def _run(self, *command: object, environ: Sequence[str] = ()) -> None:
        name = f"{self.name}-{Path(str(command[0])).name}"
        inside = [*self.place.inside, *(["env", *environ] if environ else [])]
        self._daemons.append(start(command, self.plane.folder / "log" / f"{name}.log", name, inside))

    def _ctr(self, *arguments: object) -> None:
        run(self._control, "--address", self._socket, "--namespace", "k8s.io", *arguments)

    def _write(self, name: str, text: str) -> Path:
        path = self._folder / name
        path.write_text(text)
        return path

    def _start_containerd(self) -> None:
        programs = built("containerd")
        configuration = self._write("containerd.toml", settings.containerd(self._folder, self._socket))
        path = f"PATH={programs}:{os.environ['PATH']}"
        self._run(programs / "containerd", "--config", configuration, environ=[path])

        def answers() -> None:
            self.check()
            self._ctr("version")

        eventually(answers)

    def _is_ready(self) -> None:
        self.check()
        node = client.CoreV1Api(self.plane.client()).read_node(self.name)
        ready = next(one for one in node.status.conditions if one.type == "Ready")
        assert ready.status == "True", f"{self.name} is not ready: {ready.message}"


class Cluster:
    """A cluster with one node, to which others can be added."""

    host = network.HOST
    """This machine, as pods see it."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane
        self.folder = plane.folder
        self.nodes = [Node(plane, FIRST)]

    @property
    def admin(self) -> Path:
        return self.plane.admin

    def kubeconfig(self, user: str, groups: Sequence[str] = ()) -> Path:
        return self.plane.kubeconfig(user, groups)

    def client(self, kubeconfig: Path | None = None) -> client.ApiClient:
        return self.plane.client(kubeconfig)

    def import_image(self, archive: Path) -> None:
        """Import an archive on the nodes that there are."""
        for node in self.nodes:
            node.import_image(archive)

    def start(self) -> None:
        """Start the DNS server and the first node, and wait until pods can run and Services answer."""
        for one in settings.dns_objects():
            utils.create_from_dict(self.client(), one)
        configuration = self.folder / "Corefile"
        configuration.write_text(settings.coredns(self.kubeconfig("coredns")))
        self.plane.run(built("coredns") / "coredns", "-conf", configuration)
        self.nodes[0].start()

        def services_answer() -> None:
            self.plane.check()
            socket.create_connection((network.DNS, 53), timeout=2).close()

        eventually(services_answer)

    def add_node(self) -> Node:
        """Another node that is ready."""
        node = Node(self.plane, Place(len(self.nodes) + 1))
        self.nodes.append(node)
        node.place.up()
        node.start()
        return node

    def kill(self) -> None:
        for node in self.nodes:
            node.kill()


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
        leftovers.clear(folder, PLACE)
        folder.mkdir(parents=True)
        try:
            FIRST.up()
            where = Where(FIRST.address, 6443, 2379, 2380, FIRST.inside)
            with control_plane(folder, where=where, programs=programs["kubernetes"], scheduler=True) as plane:
                whole = Cluster(plane)
                try:
                    whole.start()
                    yield whole
                finally:
                    whole.kill()
        finally:
            leftovers.clear(folder, PLACE)


def check_machine() -> None:
    if os.geteuid():
        raise RuntimeError("a cluster with a node needs root: it makes network namespaces, mounts and control groups")
    if lack := missing_packages():
        raise RuntimeError(f"not installed: apt-get install {' '.join(lack)}")


def missing_packages() -> list[str]:
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    return sorted({package for program, package in NEEDED.items() if not shutil.which(program, path=path)})
