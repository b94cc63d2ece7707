"""YAML without its surprises: a plain word is a string, whatever it looks like.

YAML's usual rules make a day of `2024-06-01`, a number of `1e3` and false of `off`, and a request's strings would not be
what was typed. Here only an empty value, `null` and `~` are null, and `<<` merges; the contract gives the rest its type.
"""

from __future__ import annotations

import json
from typing import Any, Final

import yaml

from queue_manager.client.cli.strict_json import TOO_DEEP

LARGEST: Final = 16 * 1024 * 1024
"""Characters of JSON that a document may stand for."""
_NULL: Final = "tag:yaml.org,2002:null"
_MERGE: Final = "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """Safe, with two implicit types, and no key twice."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own declaration
        first: [(tag, pattern) for tag, pattern in resolvers if tag in {_NULL, _MERGE}]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Also refuses what JSON files may not have: which of two values is meant nobody can say."""
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
                if key.value in seen:
                    words = f"the key {key.value!r} stands twice in one object"
                    raise yaml.composer.ComposerError(None, None, words, key.start_mark)
                seen.add(key.value)
        return node


def loads(text: str) -> Any:
    """The value of a YAML text of one document, which JSON could hold, too. Raises `ValueError` with the place."""
    try:
        value = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
        _check(value)
    except RecursionError as e:
        raise ValueError(TOO_DEEP) from e
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ValueError(place + ", ".join(part for part in (e.context, e.problem) if part)) from e
    except yaml.reader.ReaderError as e:
        raise ValueError(f"character {e.position + 1}: {e.reason}") from e
    return value


def _check(value: Any) -> None:
    """Aliases can make a circle, or a text of megabytes from a few lines; and tags can make what JSON does not have."""
    size = 0
    try:
        for part in json.JSONEncoder().iterencode(value):
            size += len(part)
            if size > LARGEST:
                raise ValueError(f"its aliases make more than {LARGEST >> 20} MiB of it")
    except TypeError as e:
        raise ValueError("a tag makes something of it that JSON does not have") from e
