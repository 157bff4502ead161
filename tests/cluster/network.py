"""The network of the cluster with a node: a namespace joined to this machine by a pair of virtual cards.

This machine is 198.18.0.1 to all pods, whatever its own addresses are: what a test serves there, pods reach. From
here both pods and cluster IPs can be reached, by routes through the namespace. Nothing is forwarded further.
The node's control plane, DNS server and kubelet share the namespace and its address, 198.18.0.2.
"""

from contextlib import suppress
from pathlib import Path

from tests.cluster.control_plane import SERVICES
from tests.cluster.processes import run

HOST, NODE = "198.18.0.1", "198.18.0.2"
PODS = "10.244.0.0/24"
DNS = "10.96.0.10"
NAMESPACE, CARD = "score-distill", "score-distill0"
INSIDE = ("nsenter", f"--net=/run/netns/{NAMESPACE}")
"""Not ``ip netns exec``, which mounts a /sys without the control groups."""


def up() -> None:
    run("ip", "netns", "add", NAMESPACE)
    run("ip", "link", "add", CARD, "type", "veth", "peer", "name", "eth0", "netns", NAMESPACE)
    run("ip", "address", "add", f"{HOST}/24", "dev", CARD)
    run("ip", "link", "set", CARD, "up")
    run("ip", "link", "set", "lo", "up", inside=INSIDE)
    run("ip", "address", "add", f"{NODE}/24", "dev", "eth0", inside=INSIDE)
    run("ip", "link", "set", "eth0", "up", inside=INSIDE)
    run("ip", "route", "add", "default", "via", HOST, inside=INSIDE)
    run("sysctl", "-qw", "net.ipv4.ip_forward=1", inside=INSIDE)
    for addresses in (PODS, SERVICES):
        run("ip", "route", "add", addresses, "via", NODE, "dev", CARD)


def down() -> None:
    """All rules, bridges and cards in the namespace go with it, as do the routes with the card."""
    with suppress(RuntimeError):
        run("ip", "link", "delete", CARD)
    if Path("/run/netns", NAMESPACE).exists():
        run("ip", "netns", "delete", NAMESPACE)
