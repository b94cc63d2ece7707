"""What the suite of every `Runner`, `test_runner`, knows of each adapter: how to open it, and what its workers write to."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import count
from pathlib import Path
from random import Random
from typing import Protocol

from queue_manager.server.adapters.kubernetes.api import Api
from queue_manager.server.adapters.kubernetes.options import PodOptions
from queue_manager.server.adapters.kubernetes.runner import KubernetesRunner
from queue_manager.server.application.ports import Runner
from queue_manager.server.embedded.runner import Run, ScriptedRunner, Worker
from tests.support.kubernetes import SECRET, make_namespace, remove_namespace
from tests.support.local_workers import Heard, WallClock, end_all, local_runner, until

SECRETS = {"kafka-password": "correct horse battery staple"}


class Rig(Protocol):
    """One adapter, with a world of its own."""

    shared: Path
    """A folder that workers can write to, and tests read."""
    heard: Heard | None
    """What the workers said; None where the runner does not carry it."""
    short_timeout: float
    """Seconds in which a worker runs before its time is over, if only just."""
    tells_at_once: bool
    """What was changed is seen by the next look; else a watch has to bring it."""

    def open(self) -> AbstractAsyncContextManager[Runner]:
        """A server's runner. Opened again after it was closed: the next server's."""

    async def started(self, name: str) -> int:
        """How often the worker of this name has run, once it has, if it was made by `runs_once`."""

    async def ready(self) -> None:
        """Once the worker that was launched has come as far as `echo > {shared}/ready`."""

    def close(self) -> None:
        """End what was started."""


class FolderRig:
    """Workers that write to a folder, which tests read."""

    shared: Path

    async def started(self, name: str) -> int:
        """See `Rig`."""
        mark = self.shared / name
        await until(lambda: mark.exists() and mark.read_text().endswith("\n"))  # it is there before it is written to
        return mark.read_text().count("started")

    async def ready(self) -> None:
        """See `Rig`."""
        await until((self.shared / "ready").exists)


class LocalRig(FolderRig):
    """Processes of this machine."""

    short_timeout = 0.2
    tells_at_once = True

    def __init__(self, folder: Path) -> None:
        self.shared = folder / "shared"
        self.shared.mkdir()
        self.heard = Heard()
        self._data_dir = folder / "data"

    def open(self) -> AbstractAsyncContextManager[Runner]:
        """See `Rig`."""
        return local_runner(self._data_dir, heard=self.heard, secrets=SECRETS)

    def close(self) -> None:
        """See `Rig`."""
        end_all(self._data_dir)


class ScriptedRig:
    """Entries in a table. Of a shell script, what matters to the runner is played."""

    ENDINGS = ((r"exit (\d)", 0), (r"kill -KILL \$\$()", 137), (r"kill -TERM \$\$()", 143))
    """How a script says that it ends by itself, and the exit code, where it does not say that."""

    short_timeout = 0.2
    tells_at_once = True

    def __init__(self, folder: Path) -> None:
        self.shared = folder
        self.heard = Heard()
        self._starts: Counter[str] = Counter()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Runner]:
        """See `Rig`."""
        uids = count(1)
        runner = ScriptedRunner(clock=WallClock(), new_uid=lambda: f"uid-{next(uids)}")

        def play(worker: Worker) -> None:
            self._starts[worker.key.name] += 1
            script = worker.spec.command[-1]
            worker.stubborn = "trap '' TERM" in script
            for pattern, code in self.ENDINGS:
                if found := re.search(pattern + "$", script):
                    asyncio.get_running_loop().call_soon(runner.end, worker, int(found[1] or code))

        runner.scripts[None] = Run(play)
        yield runner
        runner.close()

    async def started(self, name: str) -> int:
        """See `Rig`."""
        return self._starts[name]

    async def ready(self) -> None:
        """See `Rig`."""

    def close(self) -> None:
        """See `Rig`."""


class KubernetesRig(FolderRig):
    """Pods of a cluster whose node is this machine, in a namespace of their own."""

    heard = None
    short_timeout = 12.0  # counted from the Job's start, so a pod has to start within it
    tells_at_once = False

    def __init__(self, folder: Path) -> None:
        folder.chmod(0o777)  # workers run as nobody
        self.shared = folder
        self._namespace = ""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Runner]:
        """See `Rig`."""
        if not self._namespace:
            self._namespace = await make_namespace(SECRETS)
        options = PodOptions(
            volumes=[{"name": "shared", "hostPath": {"path": str(self.shared)}}],
            volume_mounts=[{"name": "shared", "mountPath": str(self.shared)}],
        )
        async with (
            await Api.connect(self._namespace) as api,
            KubernetesRunner(
                api,
                rng=Random(1),
                clock=WallClock(),
                secret=SECRET,
                options={"loader-producer": options},
                start_allowance=0,
            ) as runner,
        ):
            yield runner

    def close(self) -> None:
        """See `Rig`."""
        with ThreadPoolExecutor(1) as thread:  # beside the loop of the test
            thread.submit(lambda: asyncio.run(remove_namespace(self._namespace))).result()
