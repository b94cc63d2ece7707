"""Bodies of answers: left out where the client has them, compressed where that saves something."""

from __future__ import annotations

from typing import Final

from aiohttp import web

WORTH_IT: Final = 8 * 2**10
"""Bytes from which on a body is compressed; below, the time is worth more."""


def is_known(http: web.BaseRequest, etag: str) -> bool:
    """Whether a client has this version already (RFC 9110, section 13.1.2: compared weakly)."""
    given = ",".join(http.headers.getall("If-None-Match", ()))
    wanted = etag.removeprefix("W/")
    return any(each.strip() == "*" or each.strip().removeprefix("W/") == wanted for each in given.split(","))


def compressed(http: web.BaseRequest, answer: web.Response) -> web.Response:
    """As the client accepts it. A list of fifty queues is a megabyte of much the same words."""
    body = answer.body
    if isinstance(body, bytes) and len(body) >= WORTH_IT:
        answer.headers.add("Vary", "Accept-Encoding")
        if http.method != "HEAD":
            answer.enable_compression()
    return answer
