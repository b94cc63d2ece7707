"""The gateway's own paths, which are in no contract: whether it is alive, ready, started."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from queue_manager.gateway.openapi.forms import Schema

TAG: Final = {"name": "health", "description": "Whether the gateway works, for probes. No credentials are needed."}

PROBES: Final[Mapping[str, tuple[str, str]]] = {
    "/health/live": ("Liveness", "Whether the gateway works at all; a server that is away does not count"),
    "/health/ready": ("Readiness", "Whether calls would succeed now"),
    "/health/startup": ("Startup", "Whether the server has started"),
}
"""Each path's operation and what it tells."""

_STATUSES: Final = ("SERVING", "NOT_SERVING")

SCHEMA: Final = "gateway.Health"
"""The name of the component; no message of a contract is called so."""
HEALTH: Final[Schema] = {
    "type": "object",
    "description": "How it stands.",
    "properties": {
        "status": {"type": "string", "enum": [*_STATUSES]},
        "parts": {
            "type": "object",
            "description": "The gateway; except of liveness the server, too, and each of its parts.",
            "additionalProperties": {
                "type": "object",
                "properties": {
                    "status": {"type": "string", "enum": [*_STATUSES, "UNKNOWN", "SERVICE_UNKNOWN"]},
                    "message": {"type": "string", "description": "Why it is down."},
                },
                "required": ["status"],
            },
        },
    },
    "required": ["status", "parts"],
}


def paths() -> dict[str, Schema]:
    """The probes as path items."""
    return {path: {"get": _probe(name, summary)} for path, (name, summary) in PROBES.items()}


def _probe(name: str, summary: str) -> Schema:
    content: Schema = {"application/json": {"schema": {"$ref": f"#/components/schemas/{SCHEMA}"}}}
    return {
        "operationId": name,
        "tags": [TAG["name"]],
        "summary": summary,
        "security": [],
        "responses": {
            "200": {"description": "Yes.", "content": content},
            "503": {"description": "No; `parts` says why.", "content": content},
            "405": {"$ref": "#/components/responses/MethodNotAllowed"},
            "default": {"$ref": "#/components/responses/Error"},
        },
    }
