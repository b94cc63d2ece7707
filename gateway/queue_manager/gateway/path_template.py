"""Path templates of `google.api.http`: their grammar, and reading what a request's path has put into their variables.

    Template = "/" Segments [ Verb ] ;
    Segments = Segment { "/" Segment } ;
    Segment  = "*" | "**" | LITERAL | Variable ;
    Variable = "{" FieldPath [ "=" Segments ] "}" ;
    FieldPath = IDENT { "." IDENT } ;
    Verb     = ":" LITERAL ;

`*` stands for one segment that is not empty, `**` for any number of them, and only at the end. Paths are taken as they
were sent, so that an encoded `/` or `:` never separates; what a variable has caught is decoded afterwards, except `%2F`
where it may catch several segments. Source: the comments of `google/api/http.proto`. Which template a path belongs to is
in `router`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, unquote_to_bytes

ONE: Final = "*"
REST: Final = "**"

_TOKEN: Final = re.compile(
    r"(?P<wildcard>\*\*?)|\{(?P<field>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)(?P<shape>=)?"
    r"|(?P<literal>(?:[A-Za-z0-9\-._~!$&'()+,;@]|%[0-9A-Fa-f]{2})+)",
    re.ASCII,
)
_STRAY_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_SLASH: Final = re.compile(r"(%2[Ff])")


class TemplateError(ValueError):
    """A template that the grammar does not have; the message says what is wrong and where."""


class BadPath(ValueError):
    """A path that cannot be decoded; the message says why."""


@dataclass(frozen=True, slots=True)
class Variable:
    """A part of the path that becomes a field: the segments from `begin` to before `end` (None: to the last)."""

    field_path: str
    begin: int
    end: int | None
    several: bool
    """Whether it may catch more than one segment; then an encoded slash stays as it is."""

    def value(self, segments: Sequence[str]) -> str:
        """What it has caught, decoded. Raises `BadPath`."""
        caught = "/".join(segments[self.begin : self.end])
        if self.several:
            return "".join(part if _SLASH.fullmatch(part) else decode(part) for part in _SLASH.split(caught))
        return decode(caught)


@dataclass(frozen=True, slots=True)
class PathTemplate:
    """A template, taken apart."""

    text: str
    segments: tuple[str, ...]
    """Literals (decoded) and wildcards, variables dissolved into theirs."""
    verb: str
    """Without its colon; empty where there is none."""
    variables: tuple[Variable, ...]

    @classmethod
    def parse(cls, text: str) -> PathTemplate:
        """Raises `TemplateError`."""
        return _Parser(text).template()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._segments: list[str] = []
        self._variables: list[Variable] = []

    def template(self) -> PathTemplate:
        self._expect("/")
        self._parts(inside=False)
        verb = ""
        if self._take(":"):
            found = _TOKEN.match(self._text, self._at)
            if found is None or not found["literal"]:
                raise self._error("a literal must follow ':'")
            verb, self._at = unquote(found["literal"]), found.end()
        if self._at < len(self._text):
            raise self._error(f"{self._text[self._at]!r} is not expected")
        if REST in self._segments[:-1]:
            raise TemplateError(f"{self._text}: nothing may follow '**' but a verb")
        names = [variable.field_path for variable in self._variables]
        if repeated := {name for name in names if names.count(name) > 1}:
            raise TemplateError(f"{self._text}: {', '.join(sorted(repeated))} is bound more than once")
        return PathTemplate(self._text, tuple(self._segments), verb, tuple(self._variables))

    def _parts(self, *, inside: bool) -> None:
        self._part(inside=inside)
        while self._take("/"):
            self._part(inside=inside)

    def _part(self, *, inside: bool) -> None:
        found = _TOKEN.match(self._text, self._at)
        if found is None:
            raise self._error("a literal, '*', '**' or a variable is expected")
        self._at = found.end()
        if found["field"] is None:
            self._segments.append(found["wildcard"] or unquote(found["literal"]))
            return
        if inside:
            raise self._error("a variable cannot have variables in it")
        begin = len(self._segments)
        if found["shape"]:
            self._parts(inside=True)
        else:
            self._segments.append(ONE)
        self._expect("}")
        caught = self._segments[begin:]
        rest = caught[-1] == REST
        self._variables.append(
            Variable(found["field"], begin, None if rest else len(self._segments), several=rest or len(caught) > 1)
        )

    def _take(self, character: str) -> bool:
        if self._text.startswith(character, self._at):
            self._at += 1
            return True
        return False

    def _expect(self, character: str) -> None:
        if not self._take(character):
            raise self._error(f"{character!r} is expected")

    def _error(self, what: str) -> TemplateError:
        return TemplateError(f"{self._text}: at {self._at}: {what}")


def decode(text: str) -> str:
    """Percent-decoded. Raises `BadPath` where an escape is none, or where it is not UTF-8."""
    if "%" not in text:
        return text
    if _STRAY_PERCENT.search(text):
        raise BadPath("a '%' must be followed by two hexadecimal digits; send a literal '%' as '%25'")
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        raise BadPath("its percent-encoded bytes are not UTF-8") from None
