"""Putting the server together from its settings, and its life: the one place that knows every part.

Parts are opened in order and closed in reverse. Shutting down: health says NOT_SERVING, streams end after a last frame,
calls in flight finish, nothing more is reconciled, parts are closed. Local workers run on; the next server finds them.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import os
import signal
import socket
import sys
import uuid
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, suppress
from random import Random
from typing import TYPE_CHECKING, Any

import structlog

from queue_manager.server.adapters.catalogue_file import read_catalogue
from queue_manager.server.adapters.inprocess.bus import InProcessBus
from queue_manager.server.adapters.inprocess.clock import SystemClock
from queue_manager.server.adapters.kubernetes.options import DEFAULT_OPTIONS, PodOptions, described
from queue_manager.server.adapters.local.runner import LocalRunner
from queue_manager.server.adapters.sqlite.store import SqliteStore
from queue_manager.server.application.core import Core, CoreSettings
from queue_manager.server.application.diagnosis import problems
from queue_manager.server.application.ports import Bus, Clock, Runner
from queue_manager.server.domain.builtin import adapted, builtin_targets
from queue_manager.server.domain.catalogue import Catalogue
from queue_manager.server.domain.launch import Platform
from queue_manager.server.observability.instruments import MeteredInstruments
from queue_manager.server.observability.metrics import Metrics
from queue_manager.server.observability.metrics_server import MetricsServer
from queue_manager.server.rpc.convert import encode_event
from queue_manager.server.rpc.encoder import QueueEncoder
from queue_manager.server.rpc.health import Health
from queue_manager.server.rpc.requests import start_payload
from queue_manager.server.rpc.server import build, listen
from queue_manager.server.rpc.servicer import Servicer
from queue_manager.server.settings import KafkaSettings, Settings

if TYPE_CHECKING:
    from queue_manager.server.adapters.kafka.access import Access
    from queue_manager.server.adapters.kafka.bus import KafkaBus

log = structlog.get_logger(__name__)

SIMULATED_WORKER = (sys.executable, "-m", "queue_manager.server.simulated_worker")


CA_IN_PODS = "/etc/streamforge/ca.crt"
"""Where pods have the CA of the platform's services."""


def platform(settings: Settings) -> Platform:
    """What workers are told of the platform."""
    kafka, arango = settings.kafka, settings.arango
    ca_path = CA_IN_PODS if kafka.ca_path and settings.runner.on_kubernetes else str(kafka.ca_path or "")
    return Platform(
        kafka_bootstrap_servers=kafka.bootstrap_servers,
        kafka_user=kafka.user,
        kafka_password=kafka.secret() is not None,
        ca_path=ca_path,
        arango_url=arango.url,
        arango_db=arango.db,
        arango_user=arango.user,
        arango_password=arango.password is not None,
        control_topic=kafka.control_topic,
        events_topic=kafka.events_topic,
        namespace=settings.runner.namespace,
    )


def core_settings(settings: Settings) -> CoreSettings:
    """What of the core is set."""
    return CoreSettings(
        timings=settings.timings(),
        heartbeat=settings.watch.heartbeat,
        max_watchers=settings.watch.max_watchers,
        sweep=settings.controller.sweep,
        telemetry_window=settings.controller.telemetry_window,
        retention=settings.storage.retention,
        end_orphans=settings.runner.orphans == "end",
    )


def installed_targets(settings: Settings) -> tuple[Catalogue, Mapping[str, PodOptions]]:
    """What can be launched, and what pods of it need. Raises `CatalogueError`."""
    base, pods = Catalogue.of(builtin_targets()), dict[str, PodOptions]()
    if settings.catalogue.file is not None:
        base, pods = read_catalogue(settings.catalogue.file, base)
    on_kubernetes = settings.runner.on_kubernetes
    command = () if on_kubernetes else SIMULATED_WORKER
    catalogue = adapted(base, settings.images(), command, in_containers=on_kubernetes)
    for target in catalogue.targets.values():
        if types := [kind.name for kind in target.types if catalogue.needs_image(target, kind)]:
            log.warning(
                "target without an image",
                target=target.name,
                types=types,
                why="a request that names none is refused; set `image` of the target in QM_CATALOGUE",
            )
    return catalogue, pods


def pods_told(
    settings: Settings, catalogue: Catalogue, pods: Mapping[str, PodOptions]
) -> Mapping[str, Mapping[str, Any]] | None:
    """By target: what its pods get, as callers are told; None where there are no pods."""
    if not settings.runner.on_kubernetes:
        return None
    return {name: described(pods.get(name, DEFAULT_OPTIONS)) for name in catalogue.targets}


def instance(settings: Settings) -> str:
    """Who this server is among those that share its work: the same whenever it starts with this data on this machine."""
    place = hashlib.blake2b(str(settings.storage.data_dir.absolute()).encode(), digest_size=4).hexdigest()
    return f"{socket.gethostname()}-{place}"


def kafka_access(kafka: KafkaSettings) -> Access:
    """How the brokers are reached."""
    from queue_manager.server.adapters.kafka.access import Access  # noqa: PLC0415 - see `make_bus`

    return Access(
        bootstrap_servers=kafka.bootstrap_servers,
        protocol=kafka.protocol or ("SASL_SSL" if kafka.user else "PLAINTEXT"),
        mechanism=kafka.mechanism,
        user=kafka.user,
        password=kafka.password.get_secret_value() if kafka.password else "",
        password_file=kafka.password_file,
        ca_path=kafka.ca_path,
        certificate_path=kafka.certificate,
        key_path=kafka.key,
    )


def make_bus(settings: Settings, *, clock: Clock, metrics: Metrics) -> InProcessBus | KafkaBus:
    """What carries messages. `async with` opens it; nothing is read before."""
    kafka = settings.kafka
    if not kafka.bootstrap_servers:
        return InProcessBus(settings.storage.data_dir, clock=clock)
    # The library costs a fifth of a second, so only where it is used.
    from queue_manager.server.adapters.kafka.bus import KafkaBus, Topics  # noqa: PLC0415

    topics = Topics(
        control=kafka.control_topic,
        events=kafka.events_topic,
        create=kafka.create_topics,
        partitions=kafka.partitions,
        data_partitions=kafka.data_partitions,
        copies=kafka.replication,
        retention=kafka.retention,
    )
    rng = Random()  # noqa: S311 - jitter
    bus = KafkaBus(
        kafka_access(kafka),
        topics,
        group=kafka.group,
        clock=clock,
        rng=rng,
        instance=instance(settings),
        observe=metrics.kafka_event,
    )

    def tell_backlogs() -> None:
        now = clock.now()
        metrics.kafka_reading(
            {
                (topic, partition): (found.unfetched, found.unstored, max(0.0, now - (found.since or now)))
                for topic, partitions in bus.backlogs().items()
                for partition, found in partitions.items()
            }
        )

    metrics.before_sample.append(tell_backlogs)
    return bus


async def open_runner(
    settings: Settings,
    bus: Bus,
    pods: Mapping[str, PodOptions],
    *,
    clock: Clock,
    metrics: Metrics,
    stack: AsyncExitStack,
) -> Runner:
    """What runs the workers. `pods`: what those of targets need on Kubernetes. Raises `Unavailable`."""
    if not settings.runner.on_kubernetes:
        embedded = bus if isinstance(bus, InProcessBus) else None
        sink = embedded.deliver if embedded else None  # with a broker, workers speak to that
        local = LocalRunner(settings.storage.data_dir, sink=sink, clock=clock, secrets=settings.secrets())
        await stack.enter_async_context(local)
        if embedded:
            embedded.attach(local)
        return local
    # The library costs half a second and 60 MB, so only where it is used.
    from queue_manager.server.adapters.kubernetes.api import Api  # noqa: PLC0415
    from queue_manager.server.adapters.kubernetes.diagnosis import Patience  # noqa: PLC0415
    from queue_manager.server.adapters.kubernetes.runner import KubernetesRunner  # noqa: PLC0415

    runner_settings = settings.runner
    connecting = Api.connect(runner_settings.namespace, rate=runner_settings.rate, observe=metrics.kubernetes_call)
    api = await stack.enter_async_context(await connecting)
    runner = await stack.enter_async_context(
        KubernetesRunner(
            api,
            rng=Random(),  # noqa: S311 - jitter
            clock=clock,
            patience=Patience(pull=runner_settings.pull_grace, schedule=runner_settings.schedule_grace),
            secret=runner_settings.secret,
            options=pods,
            unheard=isinstance(bus, InProcessBus),
            observe=metrics.kubernetes_watch,
        )
    )

    def tell_ages() -> None:
        for resource, age in runner.watch_ages().items():
            metrics.kubernetes_watch_age_seconds.labels(resource).set(age)

    metrics.before_sample.append(tell_ages)
    log.info("kubernetes", namespace=api.namespace, server=api.server)
    return runner


async def serve(settings: Settings, *, version: str, stop: asyncio.Event | None = None) -> None:
    """Serve until SIGTERM, SIGINT or `stop`. Raises `QueueManagerError` where a part cannot be opened."""
    stop = stop or asyncio.Event()
    for part, choice, why in settings.parts():
        log.info("part", part=part, choice=choice, why=why)
    for notice in settings.notices:
        log.warning("setting not read", notice=notice)
    catalogue, pods = installed_targets(settings)
    if settings.runner.on_kubernetes:  # else workers, which are ours here, would inherit it
        interrupt_nobody()
    clock = SystemClock()
    metrics = Metrics(version=version)
    async with AsyncExitStack() as stack:
        stack.enter_context(_signals(stop.set))
        store = await stack.enter_async_context(
            SqliteStore(settings.storage.data_dir, keep=settings.storage.history, observe=metrics.store_operation)
        )
        bus = make_bus(settings, clock=clock, metrics=metrics)
        await stack.enter_async_context(bus)
        runner = await open_runner(settings, bus, pods, clock=clock, metrics=metrics, stack=stack)
        core = Core(
            store=store,
            runner=runner,
            bus=bus,
            clock=clock,
            rng=Random(),  # noqa: S311 - ids and jitter, not secrets
            catalogue=catalogue,
            platform=platform(settings),
            settings=core_settings(settings),
            encode_queue=QueueEncoder(),
            encode_event=encode_event,
            instruments=MeteredInstruments(metrics),
            version=version,
        )
        core.commands.parse = start_payload
        sample(metrics, core, clock)
        listener = settings.metrics.listen
        metrics_server = await stack.enter_async_context(MetricsServer(metrics, host=listener.host, port=listener.port))
        health = Health(core.problems)
        server = build(
            Servicer(core.service, core.dead_letters, core.diagnose, pods_told(settings, catalogue, pods)),
            health,
            observer=metrics,
            new_id=lambda: uuid.uuid4().hex[:12],
            max_message_bytes=settings.grpc.max_message_bytes,
        )
        port = listen(server, str(settings.grpc.listen), "QM_GRPC_LISTEN")
        async with asyncio.TaskGroup() as tasks:
            working = [tasks.create_task(part.run(), name=name) for name, part in (("core", core), ("health", health))]
            await server.start()  # before it is ready: probes and callers are told that it is not, and why
            await _first_of(core.ready, stop)
            await health.refresh()
            if core.ready.is_set():
                calm_collector()
                log.info(
                    "serving",
                    grpc=f"{settings.grpc.listen.host}:{port}",
                    metrics=f"{listener.host}:{metrics_server.port}",
                    version=version,
                    **{part: choice for part, choice, _ in settings.parts()},
                )
            await stop.wait()
            log.info("shutting down", grace=settings.grpc.shutdown_grace)
            await health.close()
            core.hub.close()
            await server.stop(settings.grpc.shutdown_grace)
            await core.service.drain()
            await core.dead_letters.drain()
            await core.outbox.drain()
            for task in working:
                task.cancel()
    log.info("stopped")


async def check(settings: Settings, *, version: str) -> dict[str, str]:
    """By part: why it cannot be reached, as `serve` would say it; empty where it can. Nobody's messages are read.

    Raises `QueueManagerError` where a part cannot be opened.
    """
    _, pods = installed_targets(settings)
    clock, metrics = SystemClock(), Metrics(version=version)
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(SqliteStore(settings.storage.data_dir))
        bus = make_bus(settings, clock=clock, metrics=metrics)
        stack.push_async_callback(bus.close)
        runner = await open_runner(settings, bus, pods, clock=clock, metrics=metrics, stack=stack)
        parts = {"store": store.check, "runner": runner.check, "bus": bus.check}
        return {**dict.fromkeys(parts, ""), **await problems(parts)}


def calm_collector() -> None:
    """Have the garbage collector leave alone what is there for good, and come less often.

    Queues are not tracked by it at all (`domain.model.Value`); what is left are the library's calls and streams, most of
    which go without it. With Python's own threshold of 700 objects it takes some per cent of a busy server's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def interrupt_nobody() -> None:
    """Have no other process interrupted only because something has come in for us (`SCHED_BATCH`, see sched(7)).

    Where the API server shares our processors, each of its answers would take one from it, to be dealt with alone; like
    this several are dealt with together as soon as a processor is free, or its time slice is over. A policy that somebody
    has chosen for us stays.
    """
    with suppress(AttributeError, OSError):  # only Linux has it
        if os.sched_getscheduler(0) == os.SCHED_OTHER:
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def sample(metrics: Metrics, core: Core, clock: Clock) -> None:
    """Have the gauges that are asked for at a scrape ask the core."""
    work = core.controller.work
    metrics.samples.reconcile_queue_depth = lambda: work.depth
    metrics.samples.reconcile_oldest_key_age = work.oldest_age
    metrics.samples.outbox_depth = lambda: core.outbox.depth
    metrics.samples.outbox_oldest_age = lambda: max(0.0, clock.now() - (core.outbox.waiting_since or clock.now()))


async def _first_of(*events: asyncio.Event) -> None:
    """Wait until one of them is set."""
    waiting = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()


class _signals:  # noqa: N801 - reads as a verb in `with`
    """SIGTERM and SIGINT call `handler` while inside."""

    def __init__(self, handler: Callable[[], None]) -> None:
        self._handler = handler

    def __enter__(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._handler)

    def __exit__(self, *_: object) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
