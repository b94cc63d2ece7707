"""A whole server inside another program: for people's own tests (`queue_manager.client.testing` is its face).

Real are the core, the rules, gRPC on a loopback port. In memory are the store and the bus, and no process is started:
workers are entries in a table, and somebody says what they do (`director`, `launches`). Beside `app`, this is the other
place that puts parts together. It's no server to keep: nothing survives it.
"""

from queue_manager.server.embedded.server import EmbeddedServer

__all__ = ["EmbeddedServer"]
