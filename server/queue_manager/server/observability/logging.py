"""The log: one event a line, for people on a terminal and as JSON elsewhere, without secrets.

structlog and the standard library's loggers end up in the same handler, so that libraries' messages look like ours.
Times are UTC. Lines go to standard error; standard output belongs to programs that ask for output.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any, Final, Literal, TextIO
from urllib.parse import quote

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

HIDDEN: Final = "***"
_SENSITIVE_KEY: Final = re.compile(r"passw|secret$|credential|authorization|api_?key", re.IGNORECASE)


class Redactor:
    """A structlog processor that hides secrets: known values wherever they stand, and what has a telling name."""

    def __init__(self, secrets: Iterable[str]) -> None:
        """The values to hide; also where they are part of a URL."""
        values = {spelling for secret in secrets if secret for spelling in (secret, quote(secret, safe=""))}
        longest_first = sorted(values, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if values else None

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        """The event without secrets. Runs after exceptions have been formatted, whose text may hold some."""
        return {self.clean(str(key)): self._value(str(key), value) for key, value in event.items()}

    def clean(self, text: str) -> str:
        """The text without secrets."""
        return text if self._pattern is None else self._pattern.sub(HIDDEN, text)

    def _value(self, key: str, value: Any) -> Any:
        if value is None or isinstance(value, bool | int | float):
            return HIDDEN if self._is_secret(str(value)) else value
        if _SENSITIVE_KEY.search(key):
            return HIDDEN
        if isinstance(value, str):
            return self.clean(value)
        if isinstance(value, Mapping):
            return {self.clean(str(name)): self._value(str(name), inner) for name, inner in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self._value(key, inner) for inner in value]
        return self.clean(str(value))

    def _is_secret(self, text: str) -> bool:
        return self._pattern is not None and self._pattern.fullmatch(text) is not None


def configure(
    format: Literal["console", "json"] | None = None,  # noqa: A002  # what it is called where it is set
    level: str = "info",
    secrets: Iterable[str] = (),
    *,
    stream: TextIO | None = None,
) -> None:
    """Set up all logging of the process. It may be called again, for instance once the secrets are known.

    `format` None: `console` where the stream is a terminal, else `json`. `stream` None: standard error.
    """
    out = sys.stderr if stream is None else stream
    chosen = format or ("console" if out.isatty() else "json")
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        # Loggers are made at import, before this; cached ones would go on logging as they did then.
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,  # to text, so that the next one sees it
                Redactor(secrets),
                *_renderers(chosen, colours=out.isatty()),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.getLogger("asyncio").setLevel(max(logging.INFO, root.level))  # at debug it logs every selector
    logging.getLogger("grpc._cython.cygrpc").addFilter(_caller_gone)
    logging.captureWarnings(capture=True)


def _caller_gone(record: logging.LogRecord) -> bool:
    """Whether to log it. An answer that could not be sent, since its caller is gone, is no error: it is told at debug.

    grpc leaves it out by itself where it knows already that the call is over; it may come to know an instant too late.
    A batch that was refused ("Failed grpc_call_start_batch") remains an error.
    """
    error = record.exc_info[1] if record.exc_info else None
    if type(error).__name__ == "ExecuteBatchError" and str(error).startswith('Failed "execute_batch"'):
        record.levelno, record.levelname = logging.DEBUG, logging.getLevelName(logging.DEBUG)
        return logging.getLogger().isEnabledFor(logging.DEBUG)
    return True


def _renderers(chosen: str, *, colours: bool) -> list[Processor]:
    if chosen == "json":
        return [_event_first, structlog.processors.JSONRenderer()]
    return [
        structlog.dev.ConsoleRenderer(
            colors=colours, timestamp_key="time", exception_formatter=structlog.dev.plain_traceback
        )
    ]


def _event_first(_logger: WrappedLogger, _method: str, event: MutableMapping[str, Any]) -> EventDict:
    """The same keys in an order for people who read JSON: time, level, event, the rest."""
    first = {key: event[key] for key in ("time", "level", "event") if key in event}
    return first | {key: value for key, value in event.items() if key not in first}
