"""Workers as processes of this machine, for the embedded default; docs/local-workers.md explains it as a whole."""

from queue_manager.server.adapters.local.runner import LocalRunner, LocalSettings

__all__ = ["LocalRunner", "LocalSettings"]
