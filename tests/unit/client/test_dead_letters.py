"""Dead letters over gRPC: both clients and queuectl against a real core whose bus has letters, or has no place for any."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Iterator

import pytest

from queue_manager.client import AsyncClient, FailedPrecondition, InvalidRequest, Unavailable
from queue_manager.client.cli.exit_codes import ExitCode
from queue_manager.client.testing import TestServer
from queue_manager.server.embedded.bus import ScriptedBus
from tests.support.dead_letters import CONTROL, EVENTS, MemoryLetters

from .terminal import Ended, on_terminal, typed, without_escapes


@pytest.fixture
def letters(monkeypatch: pytest.MonkeyPatch) -> MemoryLetters:
    """What the server's bus has buried."""
    found = MemoryLetters()
    monkeypatch.setattr(ScriptedBus, "dead_letters", found)
    return found


@pytest.fixture
def server() -> Iterator[TestServer]:
    with TestServer() as server:
        yield server


@pytest.fixture
async def client(server: TestServer) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(server.address, requested_by="ada@lab") as client:
        yield client


class TestClient:
    async def test_all_are_listed_whatever_the_pages(self, letters: MemoryLetters, client: AsyncClient) -> None:
        """Newest first, with everything that is known of them."""
        for number in range(7):
            letters.bury(EVENTS, b"\xff%d" % number, error="is not UTF-8")
        found = [letter async for letter in client.list_dead_letters(topic=EVENTS, page_size=3)]
        assert [letter.value for letter in found] == [b"\xff%d" % number for number in range(6, -1, -1)]
        newest = found[0]
        assert (newest.id, newest.topic, newest.partition, newest.offset) == (f"{EVENTS}.dlq/0/6", EVENTS, 1, 106)
        assert (newest.error, newest.value_size, newest.text) == ("is not UTF-8", 2, False)
        assert newest.bury_time.seconds == 1_722_500_006
        assert not newest.HasField("replay_time")

    async def test_a_replay_is_marked_with_who_asked(self, letters: MemoryLetters, client: AsyncClient) -> None:
        """And passed over afterwards."""
        ids = [letters.bury(EVENTS, b"one"), letters.bury(CONTROL, b"two")]
        planned = await client.replay_dead_letters(ids, validate_only=True)
        assert (list(planned.replayed_ids), letters.sent) == (ids, [])
        assert list((await client.replay_dead_letters(ids)).replayed_ids) == ids
        again = await client.replay_dead_letters(all_of=EVENTS)
        assert (list(again.replayed_ids), list(again.skipped_ids)) == ([], ids[:1])
        assert list((await client.replay_dead_letters(all_of=EVENTS, force=True)).replayed_ids) == ids[:1]
        assert [sent.value for sent in letters.sent] == [b"one", b"two", b"one"]
        page = await client.dead_letters_page()
        assert {letter.replayed_by for letter in page.dead_letters} == {"ada@lab"}
        assert all(letter.HasField("replay_time") for letter in page.dead_letters)

    async def test_a_token_is_good_for_its_topic(self, letters: MemoryLetters, client: AsyncClient) -> None:
        """With another it would skip letters."""
        for topic in (EVENTS, EVENTS, CONTROL, CONTROL):
            letters.bury(topic, b"x")
        page = await client.dead_letters_page(topic=EVENTS, page_size=1)
        with pytest.raises(InvalidRequest) as refused:
            await client.dead_letters_page(topic=CONTROL, page_token=page.next_page_token)
        assert [violation.field for violation in refused.value.violations] == ["page_token"]

    async def test_a_replay_is_retried_unless_it_is_forced(self, letters: MemoryLetters, server: TestServer) -> None:
        """By itself a forced one would send again what an answer that was lost had sent."""
        ids = [letters.bury(EVENTS, b"%d" % number) for number in range(3)]
        letters.room = 2
        async with AsyncClient(server.address) as client:
            with pytest.raises(Unavailable):
                await client.replay_dead_letters(ids, force=True)
        assert len(letters.sent) == 2

    def test_the_other_client_does_the_same(self, letters: MemoryLetters, server: TestServer) -> None:
        """Without an event loop."""
        ids = [letters.bury(EVENTS, b"%d" % number) for number in range(3)]
        with server.client() as client:
            assert [letter.id for letter in client.list_dead_letters(page_size=2)] == ids[::-1]
            assert list(client.replay_dead_letters(ids[:1]).replayed_ids) == ids[:1]
            assert list(client.replay_dead_letters(all_of=EVENTS).skipped_ids) == ids[:1]
            assert len(client.dead_letters_page(topic=EVENTS).dead_letters) == 3

    async def test_without_a_broker_it_says_where_to_look(self, client: AsyncClient) -> None:
        """FAILED_PRECONDITION with a stable reason."""
        for asking in (client.dead_letters_page(), client.replay_dead_letters(["x"])):
            with pytest.raises(FailedPrecondition, match="worker's output") as refused:
                await asking
            assert refused.value.reason == "NO_BROKER"


class TestList:
    async def test_in_a_pipe_a_letter_is_a_line(self, letters: MemoryLetters, server: TestServer) -> None:
        letters.bury(EVENTS, b"\xff\xfe" * 1000, error="is not UTF-8")
        replayed = letters.bury(CONTROL, b'{"command":\n "\x1b[31mstart"', error="is no JSON")
        await typed(server.address, "dlq", "replay", replayed)
        ended = await typed(server.address, "dlq", "list")
        assert (ended.code, ended.err) == (0, "")
        rows = [line.split() for line in ended.out.splitlines()]
        assert rows == [
            ["ID", "BURIED", "BYTES", "REPLAYED", "WHY", "VALUE"],
            f'{replayed} 2024-08-01T08:13:21Z 25 2024-08-02T12:00:00Z is no JSON {{"command": " [31mstart"'.split(),
            [f"{EVENTS}.dlq/0/0", "2024-08-01T08:13:20Z", "2,000", "is", "not", "UTF-8", "not", "text"],
        ]

    async def test_it_fits_on_a_terminal(self, letters: MemoryLetters, server: TestServer) -> None:
        letters.bury(EVENTS, b"x" * 10_000, error="is no JSON: expected value at line 1 column 1")
        ended = await on_terminal(server.address, "dlq", "list", columns=80)
        lines = without_escapes(ended.out).splitlines()
        assert lines[0].split() == ["ID", "AGE", "BYTES", "REPLAYED", "WHY"]
        assert f"{EVENTS}.dlq/0/0" in lines[1]
        assert max(len(line) for line in lines) <= 80

    async def test_the_other_forms(self, letters: MemoryLetters, server: TestServer) -> None:
        """Ids alone; the API's messages, with the value in base64."""
        ids = [letters.bury(EVENTS, b"\xff"), letters.bury(CONTROL, b"two")]
        assert (await typed(server.address, "dlq", "list", "-o", "name")).out == f"{ids[1]}\n{ids[0]}\n"
        only = await typed(server.address, "dlq", "list", "--topic", EVENTS, "-o", "json")
        [letter] = json.loads(only.out)["dead_letters"]
        assert (letter["id"], base64.b64decode(letter["value"]), letter["text"]) == (ids[0], b"\xff", False)
        assert "dead_letters:" in (await typed(server.address, "dlq", "list", "-o", "yaml")).out

    async def test_the_limit_goes_over_pages(self, letters: MemoryLetters, server: TestServer) -> None:
        """Which are shorter where values are large."""
        for _ in range(40):
            letters.bury(EVENTS, b"x" * 2**17)
        for limit in (3, 35, 50):
            ended = await typed(server.address, "dlq", "list", "--limit", str(limit), "-o", "name")
            assert len(ended.out.splitlines()) == min(limit, 40)

    async def test_none(self, letters: MemoryLetters, server: TestServer) -> None:
        assert await typed(server.address, "dlq", "list") == Ended(0, "there are no dead letters\n", "")

    async def test_without_a_broker(self, server: TestServer) -> None:
        ended = await typed(server.address, "dlq", "list")
        assert (ended.code, ended.out) == (ExitCode.CONFLICT, "")
        assert "there is no broker, so there are no dead letters" in ended.err


class TestReplay:
    async def test_it_says_what_became_of_each(self, letters: MemoryLetters, server: TestServer) -> None:
        one, two = letters.bury(EVENTS, b"one"), letters.bury(EVENTS, b"two")
        dry = await typed(server.address, "dlq", "replay", one, "--dry-run")
        assert dry == Ended(0, f"{one} would be replayed\n", "")
        assert letters.sent == []
        assert (await typed(server.address, "dlq", "replay", one, one)).out == f"{one} replayed\n"
        ended = await typed(server.address, "dlq", "replay", "--all", "--topic", EVENTS)
        assert ended.out == f"{two} replayed\n{one} had been replayed before\n"
        assert (await typed(server.address, "dlq", "replay", one, "--force", "-o", "name")).out == f"{one}\n"
        assert [sent.value for sent in letters.sent] == [b"one", b"two", b"one"]

    async def test_what_was_cut_is_said(self, letters: MemoryLetters, server: TestServer) -> None:
        cut = letters.bury(EVENTS, b"x" * 2**20)
        ended = await typed(server.address, "dlq", "replay", cut)
        assert ended == Ended(0, f"{cut} cannot be replayed: it was cut when it was put away\n", "")
        listed = await typed(server.address, "dlq", "list", "-o", "json")
        assert json.loads(listed.out)["dead_letters"][0]["cut"] is True

    async def test_an_unknown_id_is_named(self, letters: MemoryLetters, server: TestServer) -> None:
        ended = await typed(server.address, "dlq", "replay", letters.bury(EVENTS, b"x"), "nothing")
        assert (ended.code, ended.out) == (ExitCode.USAGE, "")
        assert "ids[1]  there is no such dead letter" in ended.err
        assert letters.sent == []

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ([], "give one of ID... and --all"),
            (["x", "--all", "--topic", EVENTS], "give one of ID... and --all"),
            (["--all"], "--all and --topic go together"),
            (["x", "--topic", EVENTS], "--all and --topic go together"),
        ],
    )
    async def test_what_is_wrong_is_said(self, arguments: list[str], said: str) -> None:
        ended = await typed("127.0.0.1:1", "dlq", "replay", *arguments)
        assert ended.code == ExitCode.USAGE
        assert said in ended.err

    @pytest.mark.parametrize(("answer", "code", "count"), [(b"y\n", 0, 1), (b"n\n", 1, 0), (b"\n", 1, 0)])
    async def test_all_asks_on_a_terminal(
        self, letters: MemoryLetters, server: TestServer, answer: bytes, code: int, count: int
    ) -> None:
        letters.bury(EVENTS, b"x")
        arguments = ("dlq", "replay", "--all", "--topic", EVENTS)
        ended = await on_terminal(server.address, *arguments, keys=answer, keys_at=b"[y/N]")
        assert (ended.code, len(letters.sent)) == (code, count)
        assert f"replay the dead letters of {EVENTS}, all that have not been replayed yet?" in ended.out

    @pytest.mark.parametrize("more", ["-y", "--dry-run"])
    async def test_it_asks_only_where_it_would_send(
        self, letters: MemoryLetters, server: TestServer, more: str
    ) -> None:
        letters.bury(EVENTS, b"x")
        ended = await on_terminal(server.address, "dlq", "replay", "--all", "--topic", EVENTS, more)
        assert ended.code == 0
        assert "[y/N]" not in ended.out
