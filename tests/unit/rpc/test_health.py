"""Health: ready when everything that is needed is there, alive whatever is down, and gone for good once it is closed."""

from __future__ import annotations

import asyncio
from typing import Any, NoReturn, cast

import pytest
from grpc_health.v1 import health_pb2
from structlog.testing import capture_logs

from queue_manager.server.rpc.calls import Context
from queue_manager.server.rpc.health import Health

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
READY = ("", "queue_manager.v1.QueueManager", "readiness")
SERVICES = (*READY, "startup", "liveness")


class Aborted(Exception):
    """What `abort` raises."""


class Call:
    """The context of one call."""

    def __init__(self) -> None:
        self.metadata: dict[str, str] = {}
        self.code: Any = None

    def set_trailing_metadata(self, metadata: tuple[tuple[str, str], ...]) -> None:
        """See gRPC."""
        self.metadata = dict(metadata)

    async def abort(self, code: Any, details: str = "") -> NoReturn:
        """See gRPC."""
        self.code = code
        raise Aborted


class Probed:
    """A health service over problems that a test sets."""

    def __init__(self) -> None:
        self.problems: dict[str, str] = {}
        self.answering = asyncio.Event()
        """Cleared, the problems take their time."""
        self.answering.set()
        self.health = Health(self._problems)

    async def _problems(self) -> dict[str, str]:
        await self.answering.wait()
        return dict(self.problems)

    async def check(self, service: str) -> tuple[int, dict[str, str]]:
        """What a probe is answered."""
        call = Call()
        response = await self.health.Check(health_pb2.HealthCheckRequest(service=service), cast("Context", call))
        return response.status, call.metadata

    async def all(self) -> dict[str, int]:
        """Every service's status."""
        return {service: (await self.check(service))[0] for service in SERVICES}

    async def refresh(self, **problems: str) -> None:
        """Look again."""
        self.problems = problems
        await self.health.refresh()


@pytest.fixture
def probed() -> Probed:
    """One that has not looked yet."""
    return Probed()


async def test_everything_is_serving_when_nothing_is_down(probed: Probed) -> None:
    """No reason is given."""
    await probed.refresh()
    assert await probed.all() == dict.fromkeys(SERVICES, SERVING)
    assert (await probed.check("readiness"))[1] == {"x-parts": "records,store,runner,bus"}
    assert probed.health.ready


async def test_before_its_records_are_loaded_it_is_only_alive(probed: Probed) -> None:
    """Startup probes keep the others away until then."""
    await probed.refresh(records="not loaded yet")
    assert await probed.all() == {**dict.fromkeys(SERVICES, NOT_SERVING), "liveness": SERVING}
    assert not probed.health.ready


async def test_it_has_started_although_a_part_is_down_from_the_beginning(probed: Probed) -> None:
    """A restart would not bring that part back."""
    await probed.refresh(runner="Kubernetes does not answer")
    assert await probed.all() == {**dict.fromkeys(READY, NOT_SERVING), "startup": SERVING, "liveness": SERVING}


async def test_a_part_that_is_down_takes_readiness_and_nothing_else(probed: Probed) -> None:
    """A restart would not help: alive, and started; ready again when it is back."""
    await probed.refresh()
    await probed.refresh(store="disk full")
    assert await probed.all() == {**dict.fromkeys(READY, NOT_SERVING), "startup": SERVING, "liveness": SERVING}
    await probed.refresh()
    assert await probed.all() == dict.fromkeys(SERVICES, SERVING)


async def test_readiness_names_what_is_down_and_why(probed: Probed) -> None:
    """Each part, in printable ASCII of bounded length."""
    await probed.refresh(store="disk full", bus="не отвечает\n" + "x" * 1000)
    _, metadata = await probed.check("readiness")
    assert metadata["x-unready-store"] == "disk full"
    assert set(metadata) == {"x-parts", "x-unready-store", "x-unready-bus"}
    assert all(value.isascii() and value.isprintable() and len(value) <= 256 for value in metadata.values())
    assert (await probed.check("liveness"))[1] == {}


async def test_an_unknown_service_is_not_found(probed: Probed) -> None:
    """As the health protocol asks."""
    await probed.refresh()
    call = Call()
    with pytest.raises(Aborted):
        await probed.health.Check(health_pb2.HealthCheckRequest(service="unknown"), cast("Context", call))
    assert call.code.name == "NOT_FOUND"


async def test_once_it_is_closed_it_is_not_ready_for_good(probed: Probed) -> None:
    """Whatever is looked at later; and it still says why."""
    await probed.refresh()
    await probed.health.close()
    await probed.refresh()
    status, metadata = await probed.check("readiness")
    assert status == NOT_SERVING
    assert metadata == {"x-parts": "records,store,runner,bus", "x-unready-server": "shutting down"}
    assert not probed.health.ready


async def test_what_is_being_looked_at_does_not_open_it_again(probed: Probed) -> None:
    """A look that was under way when it was closed changes nothing, and says nothing."""
    await probed.refresh(store="disk full")
    probed.answering.clear()
    looking = asyncio.create_task(probed.refresh())
    await asyncio.sleep(0)
    await probed.health.close()
    with capture_logs() as logged:
        probed.answering.set()
        await looking
    status, metadata = await probed.check("readiness")
    assert (status, metadata["x-unready-server"]) == (NOT_SERVING, "shutting down")
    assert not probed.health.ready
    assert not logged


@pytest.mark.virtual_time
async def test_it_looks_again_every_interval(probed: Probed) -> None:
    """While it runs: what comes back is noticed without being asked."""
    probed.problems = {"store": "out of reach"}
    running = asyncio.create_task(probed.health.run())
    await asyncio.sleep(1)
    assert not probed.health.ready
    probed.problems = {}
    await asyncio.sleep(2)
    assert probed.health.ready
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
