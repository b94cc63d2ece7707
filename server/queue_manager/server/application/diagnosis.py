"""What is wrong with the server and its surroundings, in words for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from queue_manager.server.domain.launch import WorkerKey

SUBJECTS: Final = 100
"""How many are named."""


class Severity(StrEnum):
    """How bad a finding is."""

    WARNING = "WARNING"
    """The server works, and somebody should look at this."""
    ERROR = "ERROR"
    """The server cannot do its work now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that is wrong. `remedy` is empty where the message says it, or it passes by itself."""

    severity: Severity
    part: str
    message: str
    remedy: str = ""
    subjects: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All that is wrong, the worst first, and what the server is."""

    findings: Sequence[Finding]
    version: str
    parts: Mapping[str, str]


def findings(problems: Mapping[str, str], orphans: Sequence[WorkerKey]) -> list[Finding]:
    """`problems`: by part why it cannot be reached. `orphans`: workers that no record knows."""
    found = [Finding(severity=Severity.ERROR, part=part, message=message) for part, message in problems.items()]
    if orphans:
        found.append(
            Finding(
                severity=Severity.WARNING,
                part="runner",
                message=f"{len(orphans)} {'worker runs' if len(orphans) == 1 else 'workers run'} that no record knows",
                remedy="where no other Queue Manager runs its workers in the same place, have them ended by "
                "QM_ORPHANS=end, or end them by hand",
                subjects=[worker.name for worker in orphans[:SUBJECTS]],
            )
        )
    return found
