"""Where the gateway listens, and the names that follow: on loopback only this machine's, however loopback is written."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager

import aiohttp
import pytest
from structlog.testing import capture_logs

from queue_manager.gateway.app import running
from queue_manager.gateway.listening import CannotListen, listening, names_on_loopback, on_loopback, url_of
from queue_manager.gateway.options import Options

NOBODY = "127.0.0.1:1"
"""No server; what is asked for here needs none."""


def has_ipv6() -> bool:
    """Whether this machine has `::1`."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as one:
            one.bind(("::1", 0))
    except OSError:
        return False
    return True


def listens_on(*addresses: str) -> bool:
    """Whether nobody but this machine reaches sockets on these addresses."""
    with ExitStack() as opened:
        families = [socket.AF_INET6 if ":" in address else socket.AF_INET for address in addresses]
        made = [socket.create_server((one, 0), family=family) for one, family in zip(addresses, families, strict=True)]
        for one in made:
            opened.enter_context(one)
        return on_loopback(made)


@asynccontextmanager
async def asking(host: str, *hosts: str) -> AsyncIterator[tuple[str, aiohttp.ClientSession]]:
    """A gateway that listens at `host`."""
    async with (
        running(Options(host=host, port=0, server=NOBODY, hosts=hosts)) as url,
        aiohttp.ClientSession() as session,
    ):
        yield url, session
        await session.close()
        await asyncio.sleep(0)  # aiohttp closes its transports with the loop's next turn


async def status(url: str, session: aiohttp.ClientSession, host: str) -> int:
    """Of the document, asked for by a name."""
    async with session.get(f"{url}/openapi.json", headers={"Host": host}) as answer:
        return answer.status


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("127.0.0.1", ("localhost:8080", "127.0.0.1")),
        ("localhost", ("localhost", "127.0.0.1:1", "[::1]")),
        ("LOCALHOST", ("LocalHost:8080", "127.0.0.1")),
        ("127.0.0.2", ("127.0.0.2:8080", "localhost")),
        ("127.1", ("127.0.0.1", "localhost")),
        pytest.param("::1", ("[::1]:8080", "localhost"), marks=pytest.mark.skipif(not has_ipv6(), reason="no IPv6")),
        pytest.param(
            "0:0:0:0:0:0:0:1", ("[::1]", "localhost"), marks=pytest.mark.skipif(not has_ipv6(), reason="no IPv6")
        ),
    ],
)
async def test_a_name_that_is_made_to_point_to_loopback_gets_nothing(host: str, ours: tuple[str, ...]) -> None:
    """DNS rebinding is refused on every way to write loopback, and nothing is to be warned of."""
    with capture_logs() as logs:
        async with asking(host) as (url, session):
            assert await status(url, session, "evil.example:8080") == 421
            for name in ours:
                assert await status(url, session, name) == 200, name
    assert not [line for line in logs if line["log_level"] == "warning"]


@pytest.mark.parametrize(("hosts", "known", "other"), [((), 200, 200), (("qm.example",), 200, 421), (("*",), 200, 200)])
async def test_beyond_loopback_one_warning_says_what_is_open(hosts: tuple[str, ...], known: int, other: int) -> None:
    """Nobody is authenticated; and any name is answered, unless somebody has said which."""
    with capture_logs() as logs:
        async with asking("0.0.0.0", *hosts) as (url, session):
            assert await status(url, session, "qm.example") == known
            assert await status(url, session, "evil.example") == other
    warnings = [line["event"] for line in logs if line["log_level"] == "warning"]
    assert len(warnings) == 1
    assert "nobody is authenticated" in warnings[0]
    assert ("QM_HTTP_HOSTS is not set" in warnings[0]) == (not hosts)


async def test_names_that_are_set_hold_on_loopback_too() -> None:
    """Behind a proxy on the same machine it is called as the proxy is; `*` says that any name will do."""
    async with asking("127.0.0.1", "qm.example") as (url, session):
        assert await status(url, session, "QM.example") == 200
        assert await status(url, session, "localhost") == 421
    async with asking("127.0.0.1", "*") as (url, session):
        assert await status(url, session, "any.example") == 200


def test_loopback_is_what_the_addresses_say() -> None:
    """All of them: one more, and others reach it."""
    assert listens_on("127.0.0.1", "127.255.0.1")
    assert not listens_on("0.0.0.0")
    assert not listens_on("127.0.0.1", "0.0.0.0")
    if has_ipv6():
        assert listens_on("::1", "127.0.0.1")
        assert not listens_on("::")
    assert names_on_loopback("::1")[-1] == "[::1]"
    assert names_on_loopback("box")[-1] == "box"


async def test_a_name_with_several_addresses_has_one_port() -> None:
    """Also where the system picks it."""
    async with listening("localhost", 0) as sockets:
        assert len({one.getsockname()[1] for one in sockets}) == 1
        assert url_of(sockets).endswith(f":{sockets[0].getsockname()[1]}")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_port_that_is_taken(host: str) -> None:
    """The plain reason, and nothing of whoever asks the system."""
    async with listening(host, 0) as sockets:
        port = sockets[0].getsockname()[1]
        with pytest.raises(CannotListen) as caught:
            async with listening(host, port):
                pass
    assert str(caught.value) == f"{host}:{port} cannot be listened on: address already in use"
    async with listening(host, port):  # and is free again at once
        pass


@pytest.mark.parametrize(
    ("host", "why"),
    [
        ("no-such-name.invalid", "name|resol"),
        ("192.0.2.1", "cannot assign requested address"),
        ("a" * 64, "label|name"),
    ],
)
async def test_a_host_that_is_not_here(host: str, why: str) -> None:
    """The system's reason."""
    with pytest.raises(CannotListen, match=rf"{host}:0 cannot be listened on: .*({why})"):
        async with listening(host, 0):
            pass
