"""Shows the product in a minute: a server, the user's own example, and its life until it has FINISHED (`make demo`).

It starts a real server and a gateway on free ports with their data in a temporary directory, then types what a user would:
`queuectl start` and `queuectl watch`. Meanwhile the live page is open at the gateway's address. Whatever happens, Ctrl-C
included, it leaves nothing running and nothing behind; it exits with 0 only if the queue finished and both ended well. It's
no test: `tests/` has those.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

ROOT: Final = Path(__file__).resolve().parent.parent
EXAMPLE: Final = Path("examples") / "historical-pipeline.json"
SERVER: Final = (sys.executable, "-m", "queue_manager.server", "serve")
GATEWAY: Final = (sys.executable, "-m", "queue_manager.server", "gateway")
QUEUECTL: Final = (sys.executable, "-m", "queue_manager.client.cli")

READY_WITHIN: Final = 20.0
"""Seconds for the server to say that it serves."""
RUN_WITHIN: Final = 300.0
"""Seconds for the queue to finish; it takes well below a minute."""
STOP_WITHIN: Final = 30.0
"""Seconds for the server to end after SIGTERM, and for the queue to be stopped after a failure."""
LOG_LINES: Final = 40
"""Lines of the server's log that a failure shows."""


class DemoError(Exception):
    """The demo cannot go on; the message says why."""


class Service:
    """A process that serves, with the end of its log."""

    def __init__(self, name: str, command: Sequence[str], serves: str, **environment: str) -> None:
        """Start it. It is in a session of its own, so that a Ctrl-C reaches it from here only, and in order.

        `serves`: what its log line `serving` calls the address.
        """
        self.name = name
        self._serves = serves
        self.log: deque[str] = deque(maxlen=LOG_LINES)
        self._address = ""
        self._serving = threading.Event()
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | environment | {"QM_LOG_FORMAT": "json"},
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        # A thread reads to the end, because a server whose log nobody reads stands still when the pipe is full.
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()

    def wait_serving(self) -> str:
        """The address on which it serves."""
        if not self._serving.wait(READY_WITHIN):
            raise DemoError(f"the {self.name} did not say within {READY_WITHIN:g} s that it serves")
        if not self._address:
            raise DemoError(f"the {self.name} ended with exit code {self._process.wait()} before it served")
        return self._address

    @property
    def running(self) -> bool:
        """Whether its process is there."""
        return self._process.poll() is None

    @property
    def served(self) -> bool:
        """Whether it has ever said that it serves."""
        return bool(self._address)

    def stop(self) -> int:
        """SIGTERM, and the exit code; SIGKILL for what does not listen."""
        if self._process.poll() is None:
            self._process.terminate()
        try:
            return self._process.wait(STOP_WITHIN)
        except subprocess.TimeoutExpired:
            raise DemoError(f"the {self.name} did not end within {STOP_WITHIN:g} s after SIGTERM") from None
        finally:
            self._kill()

    def _kill(self) -> None:
        """End what is left of its session."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join(timeout=1.0)

    def _read_log(self) -> None:
        """Keep the newest lines, and find the one that says where it serves."""
        assert self._process.stderr is not None
        with self._process.stderr as lines:
            for line in lines:
                self.log.append(line.rstrip())
                if not self._address and (address := _serving_address(line, self._serves)):
                    self._address = address
                    self._serving.set()
        self._serving.set()


def _serving_address(line: str, what: str) -> str:
    """The address in the log line that says `serving`, else empty."""
    try:
        entry = json.loads(line)
    except ValueError:
        return ""
    if isinstance(entry, dict) and entry.get("event") == "serving" and isinstance(entry.get(what), str):
        return str(entry[what])
    return ""


def _server(command: Sequence[str], data: Path) -> Service:
    """A server with its data there."""
    listens = {"QM_GRPC_LISTEN": "127.0.0.1:0", "QM_METRICS_LISTEN": "127.0.0.1:0"}
    return Service("server", command, "grpc", QM_DATA_DIR=str(data), **listens)


def run(server_command: Sequence[str] = SERVER) -> int:
    """Run the demo; 0 if all went well. Says everything that it does."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    data = Path(tempfile.mkdtemp(prefix="queue-manager-demo-"))
    server: Service | None = None
    gateway: Service | None = None
    failure = ""
    try:
        _say("Starting a server on free ports, with its data in a temporary directory.")
        server = _server(server_command, data)
        address = server.wait_serving()
        _say(f"It serves on {address}. Starting a gateway in front of it.")
        gateway = Service("gateway", GATEWAY, "http", QM_HTTP_LISTEN="127.0.0.1:0", QM_SERVER=address)
        url = gateway.wait_serving()
        _say(f"While this runs: {url}/ is the live page, {url}/docs the API with Swagger UI.")
        _show_queue(address)
        _say("Stopping the gateway and the server with SIGTERM.")
        for service in (gateway, server):
            if (code := service.stop()) != 0:
                raise DemoError(f"the {service.name} ended with exit code {code}, not 0")
    except (DemoError, OSError) as e:
        failure = str(e)
    except KeyboardInterrupt:
        failure = "interrupted"
    _clean_up(server, gateway, server_command, data, failed=bool(failure))
    if not failure:
        _say("Both ended with exit code 0, and the temporary directory is gone. That was all.")
        return 0
    if server is not None and server.log and failure != "interrupted":
        print("\nthe end of the server's log:", file=sys.stderr)
        for line in server.log:
            print(f"  {line}", file=sys.stderr)
    print(f"\nthe demo failed: {failure}", file=sys.stderr)
    return 1


def _show_queue(address: str) -> None:
    """Start the example and watch it until it has finished."""
    _say("Starting the user's own example, six microservices:")
    queue_id = _queuectl(address, "start", "-f", str(EXAMPLE), capture=True).strip()
    _say("It is recorded, and goes on without us. Watching it:")
    _queuectl(address, "watch", queue_id)


def _queuectl(address: str, *arguments: str, capture: bool = False) -> str:
    """Type a queuectl command; what it writes is shown, or with `capture` answered."""
    print(f"\n$ queuectl {shlex.join(arguments)}", flush=True)
    environment = os.environ | {"QM_SERVER": address}
    process = subprocess.Popen(
        (*QUEUECTL, *arguments), cwd=ROOT, env=environment, stdout=subprocess.PIPE if capture else None, text=True
    )
    try:
        output, _ = process.communicate(timeout=RUN_WITHIN)
    except subprocess.TimeoutExpired:
        raise DemoError(f"queuectl {arguments[0]} did not end within {RUN_WITHIN:g} s") from None
    finally:
        # Also on Ctrl-C, which reaches it, too, on a terminal: it ends by itself then, and leaves the screen in order.
        _end(process)
    if process.returncode != 0:
        raise DemoError(f"queuectl {arguments[0]} ended with exit code {process.returncode}")
    if capture:
        print(output, end="")
    print(flush=True)
    return output or ""


def _end(process: subprocess.Popen[str]) -> None:
    """Make sure that a queuectl has ended."""
    try:
        process.wait(1.0)
    except subprocess.TimeoutExpired:
        process.terminate()
        try:
            process.wait(5.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _clean_up(
    server: Service | None, gateway: Service | None, command: Sequence[str], data: Path, *, failed: bool
) -> None:
    """Leave nothing running and nothing behind; not to be interrupted, because a second Ctrl-C comes easily."""
    previous = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        if failed and gateway is not None:
            with contextlib.suppress(DemoError):
                gateway.stop()
        if failed and server is not None:
            _say("Cleaning up.")
            _stop_workers(server, command, data)
        _remove(data)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _stop_workers(server: Service, command: Sequence[str], data: Path) -> None:
    """Workers outlive their server by design, so a queue that is left half-way is stopped before the server is."""
    with contextlib.suppress(DemoError, OSError, ValueError):
        if not server.running and server.served:
            with contextlib.suppress(DemoError):
                server.stop()
            # It died and left its workers. Another one on the same data finds them.
            server = _server(command, data)
            server.wait_serving()
        if server.running and server.served:
            address = server.wait_serving()
            listed = _quietly(address, "list", "--state", "pending", "--state", "running", "--state", "stopping")
            for queue in json.loads(listed)["queues"]:
                _quietly(address, "stop", queue["queue_id"], "--force", "--wait", "--reason", "the demo was broken off")
    with contextlib.suppress(DemoError):
        server.stop()


def _quietly(address: str, *arguments: str) -> str:
    """A queuectl command for the demo's own use, as JSON; empty where it takes too long."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        # In a session of its own, out of reach of the terminal's Ctrl-C.
        done = subprocess.run(
            (*QUEUECTL, *arguments, "-o", "json"),
            env=os.environ | {"QM_SERVER": address},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            timeout=STOP_WITHIN,
            check=False,
            start_new_session=True,
        )
        return done.stdout
    return ""


def _remove(directory: Path) -> None:
    """Remove a tree. A process that is just ending may still write into it, so it is tried more than once."""
    for _ in range(20):
        shutil.rmtree(directory, ignore_errors=True)
        if not directory.exists():
            return
        time.sleep(0.1)
    print(f"could not remove {directory}", file=sys.stderr)


def _say(text: str) -> None:
    print(f"• {text}", flush=True)


def _interrupt(_signum: int, _frame: FrameType | None) -> NoReturn:
    """SIGTERM and SIGHUP end the demo as Ctrl-C does: in order."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that is not UTF-8
    sys.exit(run())
