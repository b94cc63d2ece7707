"""The kinds of values that settings have, each with how it is written: durations, sizes, addresses, topics, secrets.

A kind's error says the rule and an example, never the value of a secret. Which settings there are is `settings`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import AfterValidator, BeforeValidator, SecretStr

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_SIZES: Final = {"": 1, "B": 1, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_TOPIC: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")
_HOST_AND_PORT: Final = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%\w]+\]|[^\s\[\]:,/]+):(?P<port>\d{1,5})")
_NAMESPACE: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_SECRET_NAME: Final = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9.-]*[a-z0-9])?")


def parse_duration(value: object) -> float:
    """Seconds: a number, or parts like `90m`, `1h30m`, `200ms`. Raises `ValueError`."""
    text = str(value).strip()
    try:
        seconds = float(text)
    except ValueError:
        if not text or _PART.sub("", text).strip():
            raise ValueError(f"{text!r} is not a duration; write seconds (30) or 200ms, 30s, 90m, 12h, 30d") from None
        seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError(f"{text!r} is not a duration; write a number of seconds that is not negative, e.g. 30")
    return seconds


def format_duration(seconds: float) -> str:
    """The shortest way to write it: `30d`, `90m`, `200ms`."""
    for unit, length in reversed(_UNITS.items()):
        if seconds >= length and (seconds / length).is_integer():
            return f"{seconds / length:.0f}{unit}"
    return f"{seconds:.6f}".rstrip("0").rstrip(".") + "s"


def _positive(seconds: float) -> float:
    if seconds <= 0:
        raise ValueError("must be more than 0 seconds, e.g. 30")
    return seconds


def parse_size(value: object) -> int:
    """Bytes: a whole number, or one of KiB, MiB, GiB. Raises `ValueError`."""
    match = re.fullmatch(r"(\d+)\s*([A-Za-z]*)", str(value).strip())
    if match is None or match[2].upper() not in _SIZES:
        raise ValueError(f"{value!r} is not a size; write bytes (1048576) or 512KiB, 4MiB")
    return int(match[1]) * _SIZES[match[2].upper()]


def format_size(size: int) -> str:
    """The shortest way to write it: `1MiB`."""
    for unit in ("GiB", "MiB", "KiB"):
        if size >= (length := _SIZES[unit.upper()]) and size % length == 0:
            return f"{size // length}{unit}"
    return str(size)


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """Where a server listens. Port 0 lets the system pick one."""

    host: str
    port: int

    def __str__(self) -> str:
        """As it is written: `127.0.0.1:9090`, `[::1]:9090`."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def on_this_machine(self) -> str:
        """How a client on the same machine reaches it."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 - all interfaces, loopback too
        return str(ListenAddress(host, self.port))

    @classmethod
    def parse(cls, value: object) -> Self:
        """Raises `ValueError`."""
        if isinstance(value, cls):
            return value
        match = _HOST_AND_PORT.fullmatch(str(value).strip())
        if match is None or int(match["port"]) > 65535:
            raise ValueError(
                f"{value!r} is not an address to listen on; write host:port, e.g. 127.0.0.1:50051, "
                "or 0.0.0.0:50051 for all interfaces"
            )
        return cls(match["host"].strip("[]"), int(match["port"]))


def _servers(value: str) -> str:
    servers = [server.strip() for server in value.split(",") if server.strip()]
    wrong = [server for server in servers if not _HOST_AND_PORT.fullmatch(server)]
    if wrong or not servers:
        raise ValueError(f"{', '.join(wrong) or value!r} is not host:port; write e.g. kafka-0:9093,kafka-1:9093")
    return ",".join(servers)


def _topic(value: str) -> str:
    if not _TOPIC.fullmatch(value) or value in {".", ".."}:
        raise ValueError(f"{value!r} is no topic name; use up to 249 letters, digits, '.', '_' and '-'")
    return value


def _namespace(value: str) -> str:
    if not _NAMESPACE.fullmatch(value):
        raise ValueError(f"{value!r} is no namespace; use up to 63 lower-case letters, digits and '-'")
    return value


def _secret_name(value: str) -> str:
    if not _SECRET_NAME.fullmatch(value):
        raise ValueError(f"{value!r} is no name of a Secret; use up to 253 lower-case letters, digits, '-' and '.'")
    return value


def _url(value: str) -> str:
    if not re.match(r"https?://[^/\s]", value):
        raise ValueError("must be a URL like http://arangodb:8529")
    if "@" in value.split("/")[2]:
        # It is handed to workers in the clear and shown in plans.
        raise ValueError("must not hold credentials; put them into ARANGO_USER and ARANGO_PASSWORD")
    return value


def _secret(value: SecretStr) -> SecretStr:
    if value.get_secret_value() != value.get_secret_value().strip():
        raise ValueError("begins or ends with a space or a line break; remove it (from a file, use `echo -n`)")
    return value


Lowered = BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value)
"""Case does not matter."""
Duration = Annotated[float, BeforeValidator(parse_duration)]
"""Seconds, 0 or more."""
PositiveDuration = Annotated[float, BeforeValidator(parse_duration), AfterValidator(_positive)]
"""Seconds, more than 0."""
Size = Annotated[int, BeforeValidator(parse_size)]
"""Bytes."""
Listen = Annotated[ListenAddress, BeforeValidator(ListenAddress.parse)]
Servers = Annotated[str, AfterValidator(_servers)]
Topic = Annotated[str, AfterValidator(_topic)]
Namespace = Annotated[str, AfterValidator(_namespace)]
SecretName = Annotated[str, AfterValidator(_secret_name)]
Url = Annotated[str, AfterValidator(_url)]
UserPath = Annotated[Path, AfterValidator(Path.expanduser)]
"""A path; `~` is the user's home, which no shell has replaced in a `.env` file."""
Secret = Annotated[SecretStr, AfterValidator(_secret)]
