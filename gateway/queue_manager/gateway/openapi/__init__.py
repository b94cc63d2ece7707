"""The contract as an OpenAPI 3.1 document.

`document` makes it from descriptors with their comments and annotations; nothing in it is written for a method but its
`examples`. What the gateway's JSON looks like beside that is in `forms` (single values), `schemas` (messages, enums),
`parameters` (path, query, headers), `streams` and `errors`.
"""

from __future__ import annotations

from queue_manager.gateway.openapi.document import as_yaml, document

__all__ = ["as_yaml", "document"]
