"""RUNS a plan in a cluster: from what is observed to the objects that should be, and all Kubernetes IO.

``observe`` reads children, ``pods``, ``models`` and ``steps`` build them, ``reconcile`` puts it together, all pure;
``waiting`` and ``admission`` say why something waits; ``cluster`` alone talks to the API server.
"""
