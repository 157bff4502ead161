"""The network of the cluster: for each node a namespace, the first joined to this machine by a pair of virtual cards.

This machine is 198.18.0.1 to all pods, whatever its own addresses are: what a test serves there, pods reach. From
here both pods and cluster IPs can be reached, by routes through the first node. Nothing is forwarded further.
The control plane and the DNS server share the first node's namespace and its address, 198.18.0.2. Further nodes hang
on the first as it hangs on this machine.
"""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.control_plane import SERVICES
from tests.cluster.processes import run

PODS = "10.244.0.0/16"
DNS = "10.96.0.10"
PREFIX = "score-distill"


@dataclass(frozen=True)
class Place:
    """Where node ``number``, from 1, is in the network."""

    number: int

    @property
    def name(self) -> str:
        return f"node-{self.number}"

    @property
    def namespace(self) -> str:
        return f"{PREFIX}-{self.number}"

    @property
    def card(self) -> str:
        """The end of its cable that is not in its namespace."""
        return f"{PREFIX}{self.number}"

    @property
    def gateway(self) -> str:
        return f"198.18.{self.number - 1}.1"

    @property
    def address(self) -> str:
        return f"198.18.{self.number - 1}.2"

    @property
    def pods(self) -> str:
        return f"10.244.{self.number - 1}.0/24"

    @property
    def inside(self) -> tuple[str, ...]:
        """Enters its network; not ``ip netns exec``, which mounts a /sys without the control groups."""
        return "nsenter", f"--net=/run/netns/{self.namespace}"

    def up(self) -> None:
        """Join it to this machine if it is the first, else to the first."""
        first = self.number == 1
        outside = () if first else FIRST.inside
        run("ip", "netns", "add", self.namespace)
        peer = ("peer", "name", "eth0", "netns", self.namespace)
        run("ip", "link", "add", self.card, "type", "veth", *peer, inside=outside)
        run("ip", "address", "add", f"{self.gateway}/24", "dev", self.card, inside=outside)
        run("ip", "link", "set", self.card, "up", inside=outside)
        run("ip", "link", "set", "lo", "up", inside=self.inside)
        run("ip", "address", "add", f"{self.address}/24", "dev", "eth0", inside=self.inside)
        run("ip", "link", "set", "eth0", "up", inside=self.inside)
        run("ip", "route", "add", "default", "via", self.gateway, inside=self.inside)
        run("sysctl", "-qw", "net.ipv4.ip_forward=1", inside=self.inside)
        for addresses in (PODS, SERVICES) if first else (self.pods,):
            run("ip", "route", "add", addresses, "via", self.address, "dev", self.card, inside=outside)

    def down(self) -> None:
        """All rules, bridges and cards in the namespace go with it, as do the routes with the card."""
        with suppress(RuntimeError):
            run("ip", "link", "delete", self.card, inside=() if self.number == 1 else FIRST.inside)
        if Path("/run/netns", self.namespace).exists():
            run("ip", "netns", "delete", self.namespace)


FIRST = Place(1)
HOST = FIRST.gateway


def down() -> None:
    """Take all of it away, as far as it is there."""
    found = [int(path.name.removeprefix(f"{PREFIX}-")) for path in Path("/run/netns").glob(f"{PREFIX}-*")]
    for number in sorted({1, *found}, reverse=True):
        Place(number).down()
