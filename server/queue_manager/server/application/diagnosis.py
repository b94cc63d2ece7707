"""What is wrong with the server and its surroundings, in words for people."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import structlog

from queue_manager.server.domain.errors import Unavailable
from queue_manager.server.domain.launch import WorkerKey

log = structlog.get_logger(__name__)

RECORDS: Final = "records"
"""The part that is down until the server knows its queues."""

BUS: Final = "bus"
"""The part that carries messages."""

CHECK_LIMIT: Final = 5.0
"""Seconds that a part has to say that it can be reached: less than callers wait for the answer."""

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


def findings(
    problems: Mapping[str, str], warnings: Mapping[str, Sequence[Finding] | None], orphans: Sequence[WorkerKey]
) -> list[Finding]:
    """All that is wrong, the worst first.

    `problems`: by part why it cannot be reached. `warnings`: by part what it says of itself; None: it cannot say it now.
    `orphans`: workers that no record knows.
    """
    found = [Finding(severity=Severity.ERROR, part=part, message=message) for part, message in problems.items()]
    for part, said in warnings.items():
        if said is not None:
            found += said
        else:
            found.append(
                Finding(
                    severity=Severity.WARNING,
                    part=part,
                    message="it cannot be told whether anything of it deserves a look",
                    remedy="the server's log says why",
                )
            )
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


async def problems(checks: Mapping[str, Callable[[], Awaitable[None]]]) -> dict[str, str]:
    """By part: why it cannot be reached now. `checks` raise `Unavailable`; they are made side by side."""
    answers = await asyncio.gather(*(_problem(check) for check in checks.values()))
    return {part: problem for part, problem in zip(checks, answers, strict=True) if problem}


async def warnings(tell: Callable[[], Awaitable[Sequence[Finding]]]) -> Sequence[Finding] | None:
    """What a part says of itself; None: it cannot say it now, and the log says why."""
    try:
        async with asyncio.timeout(CHECK_LIMIT):
            return await tell()
    except (Unavailable, TimeoutError) as error:
        log.warning("a part cannot say what deserves a look", error=str(error) or f"no answer for {CHECK_LIMIT:.0f} s")
    except Exception:  # as below
        log.exception("a part cannot say what deserves a look, in a way that is not foreseen")
    return None


async def _problem(check: Callable[[], Awaitable[None]]) -> str:
    """Empty where there is none."""
    try:
        async with asyncio.timeout(CHECK_LIMIT):
            await check()
    except Unavailable as error:
        return error.message
    except TimeoutError:
        return f"it has not answered for {CHECK_LIMIT:.0f} s"
    except Exception as error:  # a fault of ours; it must not end the server, nor pass for health
        log.exception("a check failed in a way that is not foreseen")
        return f"it cannot be checked ({type(error).__name__}); the log says more"
    return ""
