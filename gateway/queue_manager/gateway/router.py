"""Finds what a request's method and path are bound to. Built once, then only read.

A literal segment wins over `*`, that over `**`, from left to right; a template with the path's verb wins over one that
takes the verb for a part of its last segment. So `/queues/list` is never a queue called `list`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

from queue_manager.gateway.path_template import ONE, REST, PathTemplate, decode

B = TypeVar("B")


class RouteConflict(ValueError):
    """Two bindings that no request could be told apart by."""


class _Node(Generic[B]):
    __slots__ = ("bindings", "literals", "one", "rest")

    def __init__(self) -> None:
        self.literals: dict[str, _Node[B]] = {}
        self.one: _Node[B] | None = None
        self.rest: _Node[B] | None = None
        self.bindings: dict[str, dict[str, B]] = {}
        """By verb, then by HTTP method."""


class Router(Generic[B]):
    """Bindings by HTTP method and template."""

    def __init__(self) -> None:
        """Without any."""
        self._root: _Node[B] = _Node()

    def add(self, http_method: str, template: PathTemplate, binding: B) -> None:
        """Raises `RouteConflict` where the method and a template of the same shape have one already."""
        node = self._root
        for segment in template.segments:
            if segment == ONE:
                node.one = node.one or _Node()
                node = node.one
            elif segment == REST:
                node.rest = node.rest or _Node()
                node = node.rest
            else:
                node = node.literals.setdefault(segment, _Node())
        methods = node.bindings.setdefault(template.verb, {})
        if http_method in methods:
            raise RouteConflict(f"{http_method} {template.text} is bound twice")
        methods[http_method] = binding

    def resolve(self, http_method: str, raw_path: str) -> tuple[B, Sequence[str]] | frozenset[str]:
        """The binding and the segments that its variables are read from; else the methods that the path does have.

        Raises `path_template.BadPath` where the path is not well percent-encoded.
        """
        segments = raw_path.split("/")[1:]
        readings: list[tuple[list[str], str]] = [(segments, "")]
        head, colon, verb = segments[-1].rpartition(":")
        if colon and head and verb:
            readings.insert(0, ([*segments[:-1], head], decode(verb)))
        others: set[str] = set()
        for read, read_verb in readings:
            nodes: list[_Node[B]] = []
            _collect(self._root, read, 0, nodes)
            for node in nodes:
                methods = node.bindings.get(read_verb, {})
                if http_method in methods:
                    return methods[http_method], read
                others.update(methods)
        return frozenset(others)


def _collect(node: _Node[B], segments: Sequence[str], index: int, found: list[_Node[B]]) -> None:
    """All nodes that the segments lead to, the best first."""
    if index == len(segments):
        found.append(node)
    elif segment := segments[index]:
        if literal := node.literals.get(decode(segment)):
            _collect(literal, segments, index + 1, found)
        if node.one:
            _collect(node.one, segments, index + 1, found)
    if node.rest and all(segments[index:]):
        found.append(node.rest)
