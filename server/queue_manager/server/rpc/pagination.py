"""Page tokens: where a page ended, bound to the filter that it was made with.

A token is URL-safe base64 of the filter's hash and the cursor. It is not a secret, only opaque; one that does not fit is
refused, because going on with another filter would silently skip queues.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Final

import msgspec

from queue_manager.server.application.ports import Cursor, LetterCursor, QueueFilter
from queue_manager.server.domain.errors import PageTokenMismatch, Violation

LONGEST: Final = 512


class _Token(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    filter_hash: str
    time: float
    id: str


def encode_token(cursor: Cursor, query: QueueFilter) -> str:
    """The token of the page that begins after `cursor`."""
    return _encode(_Token(_hash(query), cursor.create_time, cursor.queue_id))


def decode_token(token: str, query: QueueFilter) -> Cursor:
    """The cursor of a token. Raises `PageTokenMismatch` where it is damaged or belongs to another filter."""
    decoded = _decode(token, _hash(query))
    return Cursor(decoded.time, decoded.id)


def encode_letter_token(cursor: LetterCursor, topic: str) -> str:
    """The token of the page of dead letters that begins after `cursor`."""
    return _encode(_Token(_hash_of_topic(topic), cursor.time, cursor.id))


def decode_letter_token(token: str, topic: str) -> LetterCursor:
    """The cursor of a token. Raises `PageTokenMismatch` where it is damaged or belongs to another topic."""
    decoded = _decode(token, _hash_of_topic(topic))
    return LetterCursor(decoded.time, decoded.id)


def _encode(token: _Token) -> str:
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(token)).decode().rstrip("=")


def _decode(token: str, filter_hash: str) -> _Token:
    if len(token) > LONGEST:
        raise _mismatch("it is too long to be one of ours")
    try:
        raw = base64.b64decode(token.encode() + b"=" * (-len(token) % 4), altchars=b"-_", validate=True)
        decoded = msgspec.msgpack.decode(raw, type=_Token)
    except (binascii.Error, msgspec.MsgspecError, ValueError) as error:
        raise _mismatch("it is damaged") from error
    if decoded.filter_hash != filter_hash:
        raise _mismatch("it was made with another filter")
    return decoded


def _mismatch(why: str) -> PageTokenMismatch:
    text = f"{why}; pass next_page_token of the page before with the same filter, or none to begin anew"
    return PageTokenMismatch([Violation("page_token", text)])


def _hash(query: QueueFilter) -> str:
    return _digest(
        [
            sorted(query.states),
            query.symbol,
            query.target,
            sorted(query.labels.items()),
            query.created_after,
            query.created_before,
        ]
    )


def _hash_of_topic(topic: str) -> str:
    return _digest(["dead letters", topic])


def _digest(what: list[object]) -> str:
    canonical = msgspec.json.encode(what)
    return hashlib.blake2b(canonical, digest_size=9).hexdigest()
