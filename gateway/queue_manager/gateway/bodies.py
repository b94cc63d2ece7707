"""Bodies of answers: left out where the client has them, compressed where that saves something."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from aiohttp import web

WORTH_IT: Final = 8 * 2**10
"""Bytes from which on a body is compressed; below, the time is worth more. A list of fifty queues is a megabyte."""


def answer(http: web.BaseRequest, body: bytes, headers: Mapping[str, str]) -> web.Response:
    """An answer of 200, or of 304 where the client has the version that its `ETag` names already."""
    if (etag := headers.get("ETag")) and _is_known(http, etag):
        return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
    response = web.Response(body=body, headers=headers)
    if len(body) >= WORTH_IT:
        response.headers.add("Vary", "Accept-Encoding")
        if http.method != "HEAD":
            response.enable_compression()  # as the client accepts it
    return response


def _is_known(http: web.BaseRequest, etag: str) -> bool:
    """As RFC 9110 has it, section 13.1.2: compared weakly."""
    given = ",".join(http.headers.getall("If-None-Match", ()))
    wanted = etag.removeprefix("W/")
    return any(each.strip() == "*" or each.strip().removeprefix("W/") == wanted for each in given.split(","))
