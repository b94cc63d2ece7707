"""What each extra of the package installs is enough for what it is there for."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
IMPORTED_AS = {
    "grpcio-health-checking": "grpc_health",
    "grpcio-reflection": "grpc_reflection",
    "kubernetes-asyncio": "kubernetes_asyncio",
    "prometheus-client": "prometheus_client",
    "pydantic-settings": "pydantic_settings",
    "PyYAML": "yaml",
}
"""Modules that are not called like their packages."""


def modules(extra: str) -> set[str]:
    """The top-level modules that an extra brings."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    names = (re.split(r"[<>=;\[ ]", wanted, maxsplit=1)[0] for wanted in extras[extra])
    return {IMPORTED_AS.get(name, name) for name in names}


def run(*words: str, without: set[str]) -> subprocess.CompletedProcess[str]:
    """Run `queue-manager` where these modules are not installed."""
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({sorted(without)!r})); sys.argv = {['queue-manager', *words]!r}; "
        "from queue_manager.server.__main__ import main; main()"
    )
    return subprocess.run(
        [sys.executable, "-c", code],
        env={"QM_HTTP_LISTEN": "127.0.0.1:1x", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_gateway_needs_its_own_extra_alone() -> None:
    """It gets as far as to complain about its settings, which is after all that it imports."""
    missing = modules("server") - modules("gateway")
    assert {"aiokafka", "kubernetes_asyncio", "grpc_reflection"} <= missing
    done = run("gateway", without=missing)
    assert done.returncode == 2, done.stderr
    assert "QM_HTTP_LISTEN" in done.stderr


def test_what_is_not_installed_is_named() -> None:
    """With what brings it."""
    done = run("serve", without={"msgspec"})
    assert done.returncode == 1
    assert done.stderr.startswith(
        "queue-manager: msgspec is not installed; pip install 'streamforge-queue-manager[server]'"
    )
    assert "Traceback" not in done.stderr
