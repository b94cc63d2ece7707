"""Finds what a request's method and path are bound to. Built once, then only read.

A literal segment wins over `*`, that over `**`, from left to right; a template with the path's verb wins over one that
takes the verb for a part of its last segment. So `/queues/list` is never a queue called `list`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
        allowed: set[str] = set()
        for segments, methods in self._all(raw_path.split("/")[1:]):
            if http_method in methods:
                return methods[http_method], segments
            allowed.update(methods)
        return frozenset(allowed)

    def _all(self, segments: list[str]) -> Iterator[tuple[Sequence[str], Mapping[str, B]]]:
        head, colon, verb = segments[-1].rpartition(":")
        if colon and head:
            named = [*segments[:-1], head]
            for bindings in self._at(self._root, named, 0):
                if verb and (methods := bindings.get(decode(verb))):
                    yield named, methods
        for bindings in self._at(self._root, segments, 0):
            if methods := bindings.get(""):
                yield segments, methods

    def _at(self, node: _Node[B], segments: Sequence[str], index: int) -> Iterator[Mapping[str, dict[str, B]]]:
        if index == len(segments):
            if node.bindings:
                yield node.bindings
        elif segment := segments[index]:
            if literal := node.literals.get(decode(segment)):
                yield from self._at(literal, segments, index + 1)
            if node.one:
                yield from self._at(node.one, segments, index + 1)
        if node.rest and all(segments[index:]):
            yield node.rest.bindings
