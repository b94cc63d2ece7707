"""Bodies of requests: JSON, of bounded size, in bounded time."""

from __future__ import annotations

import asyncio

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage

from queue_manager.gateway.problems import BodyTooLarge, ExpectationFailed, Malformed, TooSlow, Unsupported, Violation


async def read(http: web.BaseRequest, *, limit: int, timeout: float) -> bytes:
    """The body, whole; empty where there is none. `limit` in bytes, `timeout` in seconds.

    Raises `Unsupported`, `BodyTooLarge`, `TooSlow`, `Malformed`.
    """
    if not http.can_read_body:
        return b""
    length = http.content_length
    if length is not None and length > limit:
        raise _too_large(limit)
    if length != 0:
        _check_type(http)
    await _go_on(http)
    found = bytearray()
    try:
        async with asyncio.timeout(timeout):
            async for chunk in http.content.iter_any():
                found += chunk
                if len(found) > limit:
                    raise _too_large(limit)
    except TimeoutError:
        raise TooSlow(f"the body did not come within {timeout:g} s") from None
    except (BadHttpMessage, web.RequestPayloadError) as error:
        raise Malformed([Violation("", f"the body cannot be read: {error}")]) from None
    return bytes(found)


async def _go_on(http: web.BaseRequest) -> None:
    """Tell a client that waits to be told that it may send its body."""
    expected = http.headers.get("Expect")
    if expected is None:
        return
    if expected.lower() != "100-continue":
        raise ExpectationFailed(f"nothing here is {expected}; only 100-continue can be expected")
    await http.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    http.writer.output_size = 0  # it is no part of the answer


def _check_type(http: web.BaseRequest) -> None:
    """A page of another site can send plain text and forms without asking, but not JSON."""
    kind = http.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        said = f"not {kind}" if kind else "and it must be said"
        raise Unsupported(f"the body must be JSON, {said}; send Content-Type: application/json")
    if http.headers.get("Content-Encoding", "identity").lower() not in {"identity", ""}:
        raise Unsupported("the body must not be compressed")
    charset = http.charset
    if charset is not None and charset.lower().replace("-", "") != "utf8":
        raise Unsupported(f"the body must be UTF-8, not {charset}")


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body must be at most {limit} bytes (QM_HTTP_MAX_BODY_BYTES)")
