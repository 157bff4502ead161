"""Settings of a node's programs, and the objects that make its DNS server known.

They suit a container host too: control groups of version 1 or 2 without systemd, no right to lower a score of the
out-of-memory killer, no AppArmor.
"""

import json
import shutil
from pathlib import Path

import yaml
from tests.cluster import images, network

CGROUP = "score-distill"
CNI_PROGRAMS = Path("/usr/lib/cni")


def containerd(folder: Path, socket: Path) -> str:
    return f"""\
version = 3
root = "{folder}/containerd"
state = "{folder}/containerd-state"
oom_score = 0
disabled_plugins = ["io.containerd.nri.v1.nri"]
[grpc]
  address = "{socket}"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  disable_apparmor = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["{CNI_PROGRAMS}"]
    conf_dir = "{folder}/cni"
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
      BinaryName = "{shutil.which("runc")}"
      SystemdCgroup = false
[plugins."io.containerd.cri.v1.images"]
  snapshotter = "overlayfs"
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "{images.PAUSE}"
"""


def cni(folder: Path, pods: str) -> str:
    """Each pod has a routed card of its own, so that kube-proxy's rules hold between pods of one node too."""
    addresses = {
        "type": "host-local",
        "dataDir": f"{folder}/addresses",
        "ranges": [[{"subnet": pods}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    plugins = [{"type": "ptp", "ipMasq": False, "ipam": addresses}]
    return json.dumps({"cniVersion": "1.0.0", "name": "pods", "plugins": plugins})


def kubelet(node: str, folder: Path, socket: Path, keys: Path) -> str:
    return yaml.safe_dump(
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": f"{keys}/ca.crt"},
            },
            "authorization": {"mode": "Webhook"},
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{CGROUP}/{node}",
            "clusterDNS": [network.DNS],
            "clusterDomain": "cluster.local",
            "containerRuntimeEndpoint": f"unix://{socket}",
            "enforceNodeAllocatable": [],
            "evictionHard": {"memory.available": "100Mi"},
            "failCgroupV1": False,
            "failSwapOn": False,
            "imageGCHighThresholdPercent": 100,
            "imageMinimumGCAge": "24h",
            "maxPods": 110,
            "nodeLeaseDurationSeconds": 12,
            "nodeStatusReportFrequency": "10s",
            "nodeStatusUpdateFrequency": "2s",
            "oomScoreAdj": 0,
            "podLogsDir": f"{folder}/logs",
            "podPidsLimit": 4096,
            "resolvConf": f"{folder}/resolv.conf",
            "seccompDefault": True,
            "syncFrequency": "10s",
            "tlsCertFile": f"{keys}/{node}.crt",
            "tlsPrivateKeyFile": f"{keys}/{node}.key",
            "volumePluginDir": f"{folder}/plugins",
        }
    )


def kube_proxy(node: str, kubeconfig: Path) -> str:
    return yaml.safe_dump(
        {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "bindAddress": "0.0.0.0",
            "clientConnection": {"kubeconfig": f"{kubeconfig}"},
            "clusterCIDR": network.PODS,
            "conntrack": {"maxPerCore": 0, "min": 0, "tcpCloseWaitTimeout": "0s", "tcpEstablishedTimeout": "0s"},
            "hostnameOverride": node,
            "mode": "nftables",
        }
    )


def coredns(kubeconfig: Path) -> str:
    """Names of the cluster, and of nothing else."""
    return f"""\
cluster.local:53 in-addr.arpa:53 ip6.arpa:53 {{
  bind {network.FIRST.address}
  errors
  kubernetes cluster.local in-addr.arpa ip6.arpa {{
    kubeconfig {kubeconfig}
    pods insecure
    ttl 1
  }}
  cache 1
}}
.:53 {{
  bind {network.FIRST.address}
  errors
  template ANY ANY . {{
    rcode NXDOMAIN
  }}
}}
"""


def dns_objects() -> list[dict[str, object]]:
    """CoreDNS is no pod here: a Service without a selector leads to it."""
    metadata = {"name": "kube-dns", "namespace": "kube-system"}
    ports = [{"name": name, "port": 53, "protocol": name.upper()} for name in ("udp", "tcp")]
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "coredns"}
    user = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "coredns"}
    read = [("", ["namespaces", "pods", "services"]), ("discovery.k8s.io", ["endpointslices"])]
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"clusterIP": network.DNS, "ports": ports},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {**metadata, "labels": {"kubernetes.io/service-name": "kube-dns"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [network.FIRST.address], "conditions": {"ready": True}}],
            "ports": ports,
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "coredns"},
            "rules": [{"apiGroups": [group], "resources": kinds, "verbs": ["list", "watch"]} for group, kinds in read],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "coredns"},
            "roleRef": role,
            "subjects": [user],
        },
    ]
