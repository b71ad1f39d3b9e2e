"""deploy/: the same services and settings as compose.yaml, as manifests for Kubernetes.

`scripts/weft kubernetes` writes deploy/base/, deploy/postgres/cluster.yaml and deploy/nats/values.yaml;
overlays are a person's. docs/kubernetes.md tells how they are used.
"""
