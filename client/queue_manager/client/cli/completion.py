"""What a shell's completion offers beyond options and commands: the ids of queues and the names of targets.

The server is asked, within a second: whoever pressed Tab waits. Where it cannot say, nothing is offered, and nothing is
written into the line that is being typed.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Final

import typer

from queue_manager.client.cli import address

if TYPE_CHECKING:
    from queue_manager.client import AsyncClient

DEADLINE: Final = 1.0
"""Seconds that a Tab may take to be answered, connecting included."""
OFFERED: Final = 100
"""Queues at most, the newest: more are no help."""
BASH_REQUEST: Final = "complete_bash"

Offer = list[tuple[str, str]]
"""Words with what zsh and fish show beside them."""


def queue_ids(ctx: typer.Context, incomplete: str) -> Offer:
    """The newest queues."""
    return _queues(ctx, incomplete, unfinished=False)


def unfinished_queue_ids(ctx: typer.Context, incomplete: str) -> Offer:
    """The newest queues that can still be stopped."""
    return _queues(ctx, incomplete, unfinished=True)


def target_names(ctx: typer.Context, incomplete: str) -> Offer:
    """The catalogue."""

    async def ask(client: AsyncClient) -> Offer:
        return [(target.name, " ".join(target.description.split())) for target in await client.list_targets()]

    return _offer(ctx, incomplete, ask)


def join_bash_words(environment: MutableMapping[str, str]) -> None:
    """Mend what bash splits: it takes `127.0.0.1:50051` for three words, `--limit=5` too.

    typer's script hands over bash's words, one a line, and the number of the one that is being typed. They are joined
    here to those that stood on the line; no argument of queuectl is a lone `:` or `=`.
    """
    words = environment.get("COMP_WORDS", "").split("\n")
    typed = environment.get("COMP_CWORD", "")
    if environment.get("_QUEUECTL_COMPLETE") != BASH_REQUEST or not typed.isdecimal():
        return
    joined: list[str] = []
    number = int(typed)
    glue = False
    for index, word in enumerate(words):
        if joined and (glue or word in {":", "="}):
            joined[-1] += word
            number -= index <= int(typed)
        else:
            joined.append(word)
        glue = word in {":", "="}
    environment["COMP_WORDS"], environment["COMP_CWORD"] = "\n".join(joined), str(number)


def _queues(ctx: typer.Context, incomplete: str, *, unfinished: bool) -> Offer:
    async def ask(client: AsyncClient) -> Offer:
        from queue_manager.client.cli import formats

        states = formats.UNFINISHED_QUEUES if unfinished else ()
        page = await client.list_page(states=list(states), page_size=OFFERED)
        return [(queue.queue_id, formats.queue_state(queue.state)) for queue in page.queues]

    return _offer(ctx, incomplete, ask)


def _offer(ctx: typer.Context, incomplete: str, ask: Callable[[AsyncClient], Awaitable[Offer]]) -> Offer:
    """What the server answers, less what stands on the line already; nothing where it does not answer."""
    import asyncio

    from queue_manager.client import AsyncClient, Backoff

    async def answer() -> Offer:
        async with asyncio.timeout(DEADLINE), AsyncClient(address.given(ctx), backoff=Backoff(attempts=1)) as client:
            return await ask(client)

    typed = {word for value in ctx.params.values() for word in (value if isinstance(value, (list, tuple)) else [value])}
    try:
        offered = asyncio.run(answer())
    except Exception:  # whatever it is, it is not worth a word in somebody's half-typed line
        if os.environ.get("QM_DEBUG"):
            raise
        return []
    return [(word, beside) for word, beside in offered if word.startswith(incomplete) and word not in typed]
