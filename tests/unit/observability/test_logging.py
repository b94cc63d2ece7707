"""One event a line, ours and libraries' alike, in UTC, and never a secret."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # compiled, and its stubs do not tell

from queue_manager.server.observability.logging import configure


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """It does."""
        return True


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Logging as it was."""
    root = logging.getLogger()
    handlers, level, asyncio_level = root.handlers[:], root.level, logging.getLogger("asyncio").level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("asyncio").setLevel(asyncio_level)
    logging.captureWarnings(capture=False)


log = structlog.get_logger("made.before.configure")


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    """The events that were logged as JSON."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_is_one_event_a_line_with_time_level_and_logger() -> None:
    """Of loggers made before logging was set up too."""
    stream = io.StringIO()
    configure("json", "info", stream=stream)
    log.info("queue created", queue_id="wf-a", jobs=6, labels={"a": [1, None, True]}, note="two\nlines")
    (event,) = lines(stream)
    assert list(event)[:3] == ["time", "level", "event"]
    time = datetime.fromisoformat(event.pop("time"))
    assert time.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - time) < timedelta(minutes=1)
    assert event == {
        "level": "info",
        "event": "queue created",
        "logger": "made.before.configure",
        "queue_id": "wf-a",
        "jobs": 6,
        "labels": {"a": [1, None, True]},
        "note": "two\nlines",
    }


def test_the_standard_librarys_loggers_come_out_alike() -> None:
    """With their arguments, extras and warnings."""
    stream = io.StringIO()
    configure("json", "info", stream=stream)
    logging.getLogger("grpc").warning("lost %s", "a peer", extra={"peer": "ipv4:1"})
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old thing", UserWarning, stacklevel=1)
    event, warned = lines(stream)
    assert (event["event"], event["logger"], event["level"], event["peer"]) == (
        "lost a peer",
        "grpc",
        "warning",
        "ipv4:1",
    )
    assert "old thing" in warned["event"]


def test_context_variables_are_merged_in() -> None:
    """What a task has bound stands in all its lines."""
    stream = io.StringIO()
    configure("json", "info", stream=stream)
    with structlog.contextvars.bound_contextvars(queue_id="wf-a"):
        log.info("x")
        logging.getLogger("y").info("y")
    assert [event["queue_id"] for event in lines(stream)] == ["wf-a", "wf-a"]


def test_lower_levels_are_left_out() -> None:
    """Of both kinds of loggers."""
    stream = io.StringIO()
    configure("json", "warning", stream=stream)
    log.info("no")
    logging.getLogger("x").info("no")
    log.warning("yes")
    assert [event["event"] for event in lines(stream)] == ["yes"]


def test_a_caller_who_is_gone_is_no_error() -> None:
    """grpc says so of an answer it could not send: at debug it is told as what it is. Its other errors remain errors."""
    unsent = 'Failed "execute_batch": (<grpc._cython.cygrpc.SendMessageOperation object at 0x7f>,)'
    refused = "Failed grpc_call_start_batch: 8 with grpc_call_error value: b'GRPC_CALL_ERROR_TOO_MANY_OPERATIONS'"
    levels: dict[str, list[str]] = {}
    for level in ("info", "debug"):
        stream = io.StringIO()
        configure("json", level, stream=stream)
        for error in (cygrpc.ExecuteBatchError(unsent), cygrpc.ExecuteBatchError(refused), ValueError(unsent)):
            try:
                raise error
            except Exception:
                logging.getLogger("grpc._cython.cygrpc").exception("raised by servicer method [/x/GetQueue]")
        levels[level] = [event["level"] for event in lines(stream)]
    assert levels == {"info": ["error", "error"], "debug": ["debug", "error", "error"]}


def test_the_format_follows_the_stream_unless_it_is_set() -> None:
    """Console on a terminal, JSON in a container."""
    terminal, pipe, forced = Terminal(), io.StringIO(), io.StringIO()
    configure(stream=terminal)
    log.info("queue created", queue_id="wf-a")
    assert "\x1b[" in terminal.getvalue()
    configure(stream=pipe)
    log.info("queue created", queue_id="wf-a")
    assert lines(pipe)[0]["queue_id"] == "wf-a"
    configure("console", stream=forced)
    log.info("queue created", queue_id="wf-a")
    assert "queue_id=wf-a" in forced.getvalue()
    assert "\x1b[" not in forced.getvalue()


def raise_with(secret: str) -> None:
    """An error that quotes a secret, below a frame that has it."""
    raise ValueError(f"cannot log in with {secret}")


@pytest.mark.parametrize("format_name", ["json", "console"])
@pytest.mark.parametrize("secret", ["hunter2", 'p"a\\ss/wörd?', "äö ü", "12345"])
def test_secrets_are_hidden_wherever_they_stand(format_name: Any, secret: str) -> None:
    """In events, values of any depth and kind, keys, numbers, exceptions with their tracebacks, libraries' lines."""
    stream = io.StringIO()
    configure(format_name, "debug", [secret, ""], stream=stream)
    log.info(f"using {secret}", url=f"http://u:{secret}@host", nested={"a": [secret, {"b": (secret,)}], secret: 1})
    log.info("object", thing=ValueError(secret), number=12345)
    logging.getLogger("lib").info("connect %s", secret, extra={"auth": f"Basic {secret}"})
    try:
        raise_with(secret)
    except ValueError:
        log.exception("failed")
        logging.getLogger("lib").exception("failed too")
    text = stream.getvalue()
    plain = text if format_name == "console" else "\n".join(json.dumps(e, ensure_ascii=False) for e in lines(stream))
    for spelling in (
        secret,
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        repr(secret)[1:-1],
    ):
        if spelling == "12345" != secret:
            continue
        assert spelling not in text
        assert spelling not in plain
    assert text.count("***") >= 8
    assert "cannot log in with ***" in plain


def test_what_is_named_like_a_secret_is_hidden_whatever_its_value() -> None:
    """A secret that nobody has declared."""
    stream = io.StringIO()
    configure("json", "info", stream=stream)
    log.info(
        "x", password="a", KAFKA_PASSWORD="b", environment={"MINIO_SECRET": "c", "BINANCE_API_KEY": "d", "ok": "e"}
    )
    (event,) = lines(stream)
    assert (event["password"], event["KAFKA_PASSWORD"]) == ("***", "***")
    assert event["environment"] == {"MINIO_SECRET": "***", "BINANCE_API_KEY": "***", "ok": "e"}


def test_an_odd_event_is_logged_anyway() -> None:
    """A lone surrogate from a worker's JSON, a cycle of reprs, bytes."""
    stream = io.StringIO()
    configure("json", "info", stream=stream)
    log.info("odd", text="\ud800", raw=b"\xff", item=object())
    (event,) = lines(stream)
    assert event["raw"] == "b'\\xff'"


def test_configuring_again_replaces_what_was_there() -> None:
    """No line comes twice."""
    first, second = io.StringIO(), io.StringIO()
    configure("json", stream=first)
    configure("json", stream=second)
    log.info("x")
    assert first.getvalue() == ""
    assert len(lines(second)) == 1
