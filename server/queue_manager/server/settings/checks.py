"""What the variables mean together: groups that must be set as a whole, choices that this version does not have yet.

These look at which variables are present, not at parsed values, so that everything that is wrong is found in one go.
Nothing here ever quotes the value of a secret.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from dotenv import dotenv_values
from pydantic_core import ErrorDetails

from queue_manager.server.domain.errors import QueueManagerError

_ARANGO: Final = ("ARANGO_URL", "ARANGO_DB", "ARANGO_USER", "ARANGO_PASSWORD")
_KAFKA_SECURITY: Final = ("KAFKA_USER", "KAFKA_PASSWORD", "CA_PATH")
_KAFKA_OWN: Final = (
    *("QM_KAFKA_PROTOCOL", "QM_KAFKA_MECHANISM", "QM_KAFKA_PASSWORD_FILE", "QM_KAFKA_CERTIFICATE"),
    "QM_KAFKA_KEY",
)
_CA: Final = (
    "file with the brokers' CA, PEM; for a public one the system's bundle, e.g. /etc/ssl/certs/ca-certificates.crt"
)
_KAFKA_FILES: Final = {
    "CA_PATH": "the PEM file with the brokers' CA",
    "QM_KAFKA_PASSWORD_FILE": "the file with the password of KAFKA_USER",
    "QM_KAFKA_CERTIFICATE": "the PEM file with the server's own certificate",
    "QM_KAFKA_KEY": "the PEM file with the key of QM_KAFKA_CERTIFICATE",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a variable, and the remedy."""

    variable: str
    what: str
    remedy: str

    def __str__(self) -> str:
        """A line for people."""
        return f"{self.variable}: {self.what}; {self.remedy}"

    @classmethod
    def from_pydantic(cls, details: ErrorDetails) -> Self:
        """The problem that a value of its own has."""
        context = details.get("ctx", {})
        what = {
            "literal_error": f"must be {context.get('expected')}",
            "greater_than_equal": f"must be at least {context.get('ge')}",
            "less_than_equal": f"must be at most {context.get('le')}",
            "int_parsing": "must be a whole number",
            "value_error": str(context.get("error")),
        }.get(details["type"], details["msg"])
        what, _, remedy = what.partition("; ")
        return cls(str(details["loc"][0]), what, remedy or "change it, or unset it to get the default")


class SettingsError(QueueManagerError):
    """Settings that cannot be used: every problem, a line each."""

    reason = "SETTINGS"

    def __init__(self, problems: Sequence[Problem]) -> None:
        """At least one."""
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in problems))


def read_environment(env_file: Path) -> dict[str, str]:
    """The variables that have a value, those of the process before those of the file. Raises `SettingsError`."""
    try:
        from_file = dotenv_values(env_file, encoding="utf-8") if env_file.is_file() else {}
    except (OSError, UnicodeDecodeError) as error:
        what = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        problem = Problem(str(env_file), f"cannot be read ({what})", "correct it, or move it away")
        raise SettingsError([problem]) from error
    merged = {name: value for name, value in from_file.items() if value}
    return merged | {name: value for name, value in os.environ.items() if value}


def check(present: Mapping[str, str]) -> Iterator[Problem]:
    """Every problem of the variables that have a value, as far as it is one of several together."""
    yield from _check_kafka(present)
    yield from _check_arango(present)
    yield from _check_choices(present)


def unread(present: Mapping[str, str], known: Sequence[str]) -> Sequence[str]:
    """A sentence for each variable that begins like ours and that nobody reads: most likely a slip of the pen."""
    found = []
    for name in sorted(name for name in present if name.startswith("QM_") and name not in known):
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
        found.append(f"{name} is set, but nothing reads it" + (f"; did you mean {near[0]}?" if near else ""))
    return found


def _check_kafka(present: Mapping[str, str]) -> Iterator[Problem]:
    given = [name for name in (*_KAFKA_SECURITY, *_KAFKA_OWN) if name in present]
    if given and "KAFKA_BOOTSTRAP_SERVERS" not in present:
        remedy = f"set it to the brokers, e.g. kafka:9093, or unset {_listed(given)}"
        yield Problem("KAFKA_BOOTSTRAP_SERVERS", f"is missing, while {_are(given)} set", remedy)
    yield from _check_kafka_security(present)
    for name, meaning in _KAFKA_FILES.items():
        if name in present:
            yield from _check_file(name, Path(present[name]).expanduser(), meaning)
    control, events = present.get("QUEUE_CONTROL_TOPIC"), present.get("QUEUE_EVENTS_TOPIC")
    if (control or "queue-control") == (events or "queue-events"):
        yield Problem(
            "QUEUE_EVENTS_TOPIC" if events else "QUEUE_CONTROL_TOPIC",
            "names the topic of both commands and telemetry",
            "set two different topics",
        )


def _check_kafka_security(present: Mapping[str, str]) -> Iterator[Problem]:
    """What each protocol needs, and what it has no use for."""
    password, password_file = "KAFKA_PASSWORD", "QM_KAFKA_PASSWORD_FILE"
    protocol = present.get("QM_KAFKA_PROTOCOL", "")
    derived = not protocol
    given = [name for name in (*_KAFKA_SECURITY, *_KAFKA_OWN) if name in present]
    if derived:
        protocol = "SASL_SSL" if given else "PLAINTEXT"
    why = f"while {_are(given)} set" if derived and given else f"which {protocol} needs"
    or_unset = f", or unset {_listed(given)}" if derived and given else ""
    sasl, tls = protocol.startswith("SASL"), protocol.endswith("SSL")
    if sasl:
        if "KAFKA_USER" not in present:
            yield Problem("KAFKA_USER", f"is missing, {why}", f"set it (user for {protocol}){or_unset}")
        if password not in present and password_file not in present:
            yield Problem(password, f"is missing, {why}", f"set it (its password), or {password_file}{or_unset}")
    if derived and tls and "CA_PATH" not in present:
        yield Problem("CA_PATH", f"is missing, {why}", f"set it ({_CA}){or_unset}")
    useless = [] if sasl else ["KAFKA_USER", password, password_file, "QM_KAFKA_MECHANISM"]
    useless += [] if tls else ["CA_PATH", "QM_KAFKA_CERTIFICATE", "QM_KAFKA_KEY"]
    for name in useless:
        if name in present:
            yield Problem(
                name, f"is set, and {protocol} has no use for it", "unset it, or set another QM_KAFKA_PROTOCOL"
            )
    if password in present and password_file in present:
        yield Problem(password_file, f"is set, and {password} too", "unset one of them")
    pair = [name for name in ("QM_KAFKA_CERTIFICATE", "QM_KAFKA_KEY") if name in present]
    if len(pair) == 1:
        other = "QM_KAFKA_KEY" if pair == ["QM_KAFKA_CERTIFICATE"] else "QM_KAFKA_CERTIFICATE"
        yield Problem(other, f"is missing, while {pair[0]} is set", f"set it to {_KAFKA_FILES[other]}")


def _check_file(name: str, path: Path, meaning: str) -> Iterator[Problem]:
    if not path.is_file():
        what = "is not a file" if path.exists() else "does not exist"
        yield Problem(name, f"{path} {what}", f"set it to {meaning}")
    elif not os.access(path, os.R_OK):
        yield Problem(name, f"{path} cannot be read", "make it readable for the user that the server runs as")


def _check_arango(present: Mapping[str, str]) -> Iterator[Problem]:
    given = [name for name in _ARANGO if name in present]
    for name in _ARANGO:
        if given and name not in present:
            what = f"is missing, while {_are(given)} set"
            yield Problem(name, what, "set it, or unset all ARANGO_* variables")


def _check_choices(present: Mapping[str, str]) -> Iterator[Problem]:
    images = present.get("CONSUMER_IMAGE"), present.get("ARANGO_CONNECTOR_IMAGE")
    if all(images) and len(set(images)) > 1:
        what = "differs from CONSUMER_IMAGE, which is the image of the same target"
        yield Problem("ARANGO_CONNECTOR_IMAGE", what, "set one of the two")
    metrics = present.get("QM_METRICS_LISTEN", "127.0.0.1:9090")
    if metrics == present.get("QM_GRPC_LISTEN", "127.0.0.1:50051") and not metrics.endswith(":0"):
        yield Problem("QM_METRICS_LISTEN", f"is {metrics}, which is QM_GRPC_LISTEN too", "give one another port")


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _are(names: Sequence[str]) -> str:
    return f"{_listed(names)} {'is' if len(names) == 1 else 'are'}"
