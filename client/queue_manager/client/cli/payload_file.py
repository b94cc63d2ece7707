"""Reads the file that `queuectl start -f` names: JSON or YAML. What stands in it is the client's and server's to judge."""

from __future__ import annotations

import json
import os
import select
import sys
from pathlib import Path
from typing import Any, Final

from queue_manager.client.cli import strict_json

LARGEST: Final = 16 * 1024 * 1024
"""Bytes that are read; a server takes 1 MiB unless it is told otherwise."""
CTRL_C_WITHIN: Final = 0.25
"""Seconds."""
EXPECTED: Final = "one object, with symbol and requests"


class UnreadablePayload(Exception):
    """The file cannot be read, or holds no object; the message says where and why."""


def read_payload(path: str) -> dict[str, Any]:
    """The object in a UTF-8 file, or on standard input for `-`. Raises `UnreadablePayload`.

    A file is YAML that is named so, and one that begins otherwise than JSON does and is not named `.json`.
    """
    name = "standard input" if path == "-" else path or "''"
    raw = _read(path, name)
    if len(raw) > LARGEST:
        raise UnreadablePayload(f"{name} is larger than {LARGEST >> 20} MiB; that is no request")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise UnreadablePayload(f"{name} is not UTF-8 text (byte {e.start + 1}); it must be JSON or YAML") from e
    if not text.strip():
        raise UnreadablePayload(f"{name} is empty; it must hold {EXPECTED}")
    payload = _from_yaml(name, text) if _is_yaml(path, text) else _from_json(name, text)
    if not isinstance(payload, dict):
        raise UnreadablePayload(f"{name} must hold {EXPECTED}")
    return payload


def _read(path: str, name: str) -> bytes:
    try:
        if path != "-":
            with open(path, "rb") as file:  # noqa: PTH123 - of an empty name, Path would make the working directory
                return file.read(LARGEST + 1)
        if sys.stdin.isatty():
            print("type or paste the request, then Ctrl-D on a line of its own", file=sys.stderr)  # noqa: T201
            return _typed()
        return sys.stdin.buffer.read(LARGEST + 1)
    except OSError as e:
        raise UnreadablePayload(f"cannot read {name}: {e.strerror or e}") from e


def _typed() -> bytes:
    """What somebody types, until Ctrl-D. In short waits: Python sees no Ctrl-C that comes just before a read begins."""
    typed = bytearray()
    while len(typed) <= LARGEST:
        while not select.select([sys.stdin], [], [], CTRL_C_WITHIN)[0]:
            pass
        chunk = os.read(sys.stdin.fileno(), 65536)
        if not chunk:
            break
        typed += chunk
    return bytes(typed)


def _is_yaml(path: str, text: str) -> bool:
    suffix = Path(path).suffix.lower()
    return suffix in {".yaml", ".yml"} or (suffix != ".json" and not text.lstrip().startswith(("{", "[")))


def _from_json(name: str, text: str) -> Any:
    try:
        return strict_json.loads(text)
    except json.JSONDecodeError as e:
        raise UnreadablePayload(f"{name}, line {e.lineno}, column {e.colno}: no JSON: {e.msg}") from e
    except ValueError as e:
        raise UnreadablePayload(f"{name}: {e}") from e


def _from_yaml(name: str, text: str) -> Any:
    from queue_manager.client.cli import field_values, yaml_text
    from queue_manager.v1.service_pb2 import StartQueueRequest

    try:
        return field_values.with_types(yaml_text.loads(text), StartQueueRequest.DESCRIPTOR)
    except ValueError as e:
        raise UnreadablePayload(f"{name}: no YAML: {e}") from e
