"""The files of the pages, read once: nothing is looked up on disk for a request, so no path leads anywhere else."""

from __future__ import annotations

import hashlib
import mimetypes
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Final

TEXT: Final = ("text/", "application/javascript", "application/json", "image/svg+xml")
_KINDS: Final = {"js": "text/javascript", "yaml": "application/yaml"}
"""By ending, where systems' tables differ."""


@dataclass(frozen=True, slots=True)
class Asset:
    """A file."""

    content: bytes
    content_type: str
    etag: str
    is_page: bool


def load() -> Mapping[str, Asset]:
    """By the path that they are served under, below `/static/`."""
    root = resources.files("queue_manager.gateway") / "static"
    return {name: _asset(name, file.read_bytes()) for name, file in _files(root, "")}


def _files(folder: Traversable, prefix: str) -> Iterator[tuple[str, Traversable]]:
    for entry in folder.iterdir():
        name = f"{prefix}{entry.name}"
        if entry.is_dir():
            yield from _files(entry, f"{name}/")
        else:
            yield name, entry


def _asset(name: str, content: bytes) -> Asset:
    guessed = mimetypes.guess_type(name)[0] or "application/octet-stream"
    kind = _KINDS.get(name.rpartition(".")[2], guessed)
    is_text = kind.startswith(TEXT)
    digest = hashlib.sha256(content).hexdigest()[:16]
    return Asset(content, f"{kind}; charset=utf-8" if is_text else kind, f'"{digest}"', is_page=kind == "text/html")
