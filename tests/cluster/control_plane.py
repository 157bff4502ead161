"""etcd, kube-apiserver and kube-controller-manager on free ports of 127.0.0.1, without a node and without root.

The same class runs the control plane of the cluster that has a node, there inside a network namespace.
"""

import json
import ssl
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from kubernetes import client, config
from tests.cluster.binaries import control_plane_programs
from tests.cluster.certificates import Authority, kubeconfig, signing_key
from tests.cluster.processes import Daemon, free_ports, start
from tests.cluster.waiting import eventually

from score_distill.executors.local.processes import last_lines

SERVICES, FIRST_SERVICE = "10.96.0.0/16", "10.96.0.1"
AUDITED = "audited"
AUDIT = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "Metadata", "userGroups": [AUDITED], "verbs": ["create", "update", "patch", "delete"]},
        {"level": "None"},
    ],
}
NAMES = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]


@dataclass(frozen=True)
class Where:
    """Addresses of a control plane, and the command that enters its network, if it has one of its own."""

    address: str
    apiserver: int
    etcd: int
    etcd_peer: int
    inside: tuple[str, ...] = ()

    @classmethod
    def on_this_machine(cls) -> "Where":
        apiserver, etcd, etcd_peer = free_ports(3)
        return cls("127.0.0.1", apiserver, etcd, etcd_peer)


class ControlPlane:
    """A running API server with all that belongs to it. RBAC is on; the admin may do everything."""

    def __init__(self, folder: Path, where: Where, programs: Path) -> None:
        self.folder, self.where, self.programs = folder, where, programs
        self.server = f"https://{where.address}:{where.apiserver}"
        self.authority = Authority("kubernetes")
        self.keys = folder / "keys"
        self.authority.pair.write(self.keys, "ca")
        self.admin = self.kubeconfig("admin", ["system:masters"])
        self._daemons: dict[str, Daemon] = {}
        self._audit = folder / "audit.log"
        self._front = Authority("front-proxy")
        self._front.pair.write(self.keys, "front-proxy-ca")
        self._front.issue("front-proxy").write(self.keys, "front-proxy")
        hosts = [*NAMES, "127.0.0.1", where.address, FIRST_SERVICE]
        self.authority.issue("kube-apiserver", hosts=hosts).write(self.keys, "apiserver")
        self.authority.issue("kube-apiserver", ["system:masters"]).write(self.keys, "to-kubelet")
        (self.keys / "accounts.key").write_bytes(signing_key())

    def kubeconfig(self, user: str, groups: Sequence[str] = ()) -> Path:
        """The path of a kubeconfig for this user, known by a client certificate; rights must be bound to it."""
        path = self.folder / f"{user.replace(':', '-').replace('/', '-')}.kubeconfig"
        path.write_text(kubeconfig(self.server, self.authority, self.authority.issue(user, groups)))
        path.chmod(0o600)
        return path

    def client(self, kubeconfig: Path | None = None) -> client.ApiClient:
        """The admin's, if no kubeconfig is given."""
        made: client.ApiClient = config.new_client_from_config(str(kubeconfig or self.admin))
        return made

    @property
    def kubectl(self) -> Path:
        return self.programs / "kubectl"

    @property
    def _manager(self) -> Path:
        return self.programs / "kube-controller-manager"

    def start_etcd(self) -> None:
        peer, clients = (f"http://127.0.0.1:{port}" for port in (self.where.etcd_peer, self.where.etcd))
        self.run(
            self.programs / "etcd",
            "--name=test",
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={clients}",
            f"--advertise-client-urls={clients}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=test={peer}",
            "--unsafe-no-fsync",
        )

    def start_apiserver(self) -> None:
        """Start it and wait until it is ready."""
        keys, local = self.keys, self.where.address == "127.0.0.1"
        policy = self.folder / "audit.json"
        policy.write_text(json.dumps(AUDIT))
        self.run(
            self.programs / "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{self.where.etcd}",
            f"--bind-address={self.where.address if local else '0.0.0.0'}",
            f"--advertise-address={self.where.address}",
            *(["--endpoint-reconciler-type=none"] if local else []),
            f"--secure-port={self.where.apiserver}",
            f"--tls-cert-file={keys / 'apiserver.crt'}",
            f"--tls-private-key-file={keys / 'apiserver.key'}",
            f"--client-ca-file={keys / 'ca.crt'}",
            f"--service-account-key-file={keys / 'accounts.key'}",
            f"--service-account-signing-key-file={keys / 'accounts.key'}",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--kubelet-client-certificate={keys / 'to-kubelet.crt'}",
            f"--kubelet-client-key={keys / 'to-kubelet.key'}",
            f"--kubelet-certificate-authority={keys / 'ca.crt'}",
            "--kubelet-preferred-address-types=InternalIP",
            f"--requestheader-client-ca-file={keys / 'front-proxy-ca.crt'}",
            "--requestheader-allowed-names=front-proxy",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            f"--proxy-client-cert-file={keys / 'front-proxy.crt'}",
            f"--proxy-client-key-file={keys / 'front-proxy.key'}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            *([] if self._manager.exists() else ["--disable-admission-plugins=ServiceAccount"]),
            f"--service-cluster-ip-range={SERVICES}",
            f"--audit-policy-file={policy}",
            f"--audit-log-path={self._audit}",
            "--allow-privileged=true",
            "--profiling=false",
        )
        self._wait_until_ready()

    def writes_by(self, user: str) -> list[tuple[datetime, str]]:
        """When each write of a user of the group AUDITED came, and of what it was, refused ones too."""
        told = [json.loads(line) for line in self._audit.read_text().splitlines()]
        return [
            (datetime.fromisoformat(one["requestReceivedTimestamp"]), one["objectRef"]["resource"])
            for one in told
            if one["user"]["username"] == user
        ]

    def stop_apiserver(self) -> None:
        self._daemons.pop("kube-apiserver").stop()

    def restart_apiserver(self) -> None:
        """Return when it is ready again. What was open to it is cut; its port stays."""
        self.stop_apiserver()
        self.start_apiserver()

    def start_controllers(self, controllers: Sequence[str]) -> None:
        if self._manager.exists():
            ca = self.keys / "ca"
            self.run(
                self._manager,
                *self._as("system:kube-controller-manager"),
                f"--controllers={','.join(controllers)}",
                f"--service-account-private-key-file={self.keys / 'accounts.key'}",
                f"--root-ca-file={ca}.crt",
                f"--cluster-signing-cert-file={ca}.crt",
                f"--cluster-signing-key-file={ca}.key",
                "--use-service-account-credentials=true",
                "--node-monitor-period=2s",
                "--node-monitor-grace-period=20s",
            )
            core = client.CoreV1Api(self.client())

            def accounts_are_made() -> None:
                self.check()
                core.read_namespaced_service_account("default", "default")

            eventually(accounts_are_made)

    def start_scheduler(self) -> None:
        self.run(self.programs / "kube-scheduler", *self._as("system:kube-scheduler"))

    def run(self, *command: object, environ: Sequence[str] = ()) -> Daemon:
        """Start a program that belongs to the control plane; ``environ`` has what ``env`` takes."""
        name = Path(str(command[0])).name
        inside = [*self.where.inside, *(["env", *environ] if environ else [])]
        started = start(command, self.folder / "log" / f"{name}.log", name, inside)
        self._daemons[name] = started
        return started

    def check(self) -> None:
        """Raise with the end of its log if one has ended."""
        for daemon in self._daemons.values():
            daemon.check()

    def log(self, name: str, lines: int = 40) -> str:
        return "\n".join(last_lines(self.folder / "log" / f"{name}.log", lines))

    def kill(self) -> None:
        while self._daemons:
            self._daemons.popitem()[1].kill()

    def _as(self, user: str) -> list[str]:
        path = self.kubeconfig(user)
        names = ["kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"]
        return [*(f"--{name}={path}" for name in names), "--leader-elect=false", "--secure-port=0"]

    def _wait_until_ready(self) -> None:
        trust = ssl.create_default_context(cafile=str(self.keys / "ca.crt"))
        trust.load_cert_chain(self.keys / "to-kubelet.crt", self.keys / "to-kubelet.key")

        def answers() -> None:
            self.check()
            urllib.request.urlopen(f"{self.server}/readyz", context=trust, timeout=5).close()

        eventually(answers, within=120, every=0.1)


@contextmanager
def control_plane(
    folder: Path | None = None,
    *,
    where: Where | None = None,
    programs: Path | None = None,
    controllers: Sequence[str] = ("*",),
    scheduler: bool = False,
) -> Iterator[ControlPlane]:
    """A control plane from nothing, state in ``folder`` or a temporary one.

    ``controllers`` are those of kube-controller-manager, none of them if it is empty or not among the programs.
    """
    with tempfile.TemporaryDirectory(prefix="control-plane-") as temporary:
        plane = ControlPlane(
            folder or Path(temporary), where or Where.on_this_machine(), programs or control_plane_programs()
        )
        try:
            plane.start_etcd()
            plane.start_apiserver()
            if controllers:
                plane.start_controllers(controllers)
            if scheduler:
                plane.start_scheduler()
            yield plane
        finally:
            plane.kill()
