"""Workers as Kubernetes Jobs."""

from queue_manager.server.adapters.kubernetes.api import Api
from queue_manager.server.adapters.kubernetes.diagnosis import Patience
from queue_manager.server.adapters.kubernetes.runner import KubernetesRunner

__all__ = ["Api", "KubernetesRunner", "Patience"]
