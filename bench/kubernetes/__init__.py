"""How fast and how large with Jobs of a real Kubernetes control plane: `make bench-kubernetes`.

`queue-manager serve` is measured as it is, from outside: by its gRPC interface, by its metrics, and by a watch of Jobs of
the benchmark's own. The Jobs are `managedBy` the benchmark, so Kubernetes' own controller leaves them alone, no pod is
scheduled, and what is measured is the control plane's and the manager's work alone.
"""
