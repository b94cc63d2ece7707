"""What a local worker is started with: its command and its environment, or why that cannot be.

Its environment is what the launch specification says, over a minimum of the server's own: nothing that happens to be
set where the server runs (`PYTHONPATH`, `KAFKA_PASSWORD`, a proxy) reaches a worker unasked.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from queue_manager.server.domain.launch import LaunchSpec
from queue_manager.server.domain.model import Reason, StateReason
from queue_manager.server.domain.observation import Refused

INHERITED: Final = ("PATH", "HOME", "LANG", "TMPDIR")
"""What a worker has of the server's own environment."""

TOPICS_VARIABLE: Final = "QM_LOCAL_TOPICS"
"""Tells a worker where the embedded data topics are (`inprocess.topics`)."""


def environment(
    spec: LaunchSpec, *, topics: Path, secrets: Mapping[str, str], own: Mapping[str, str] | None = None
) -> dict[str, str] | Refused:
    """The worker's whole environment. `own`: the server's."""
    own = os.environ if own is None else own
    result = {name: own[name] for name in INHERITED if name in own}
    result.setdefault("PATH", os.defpath)
    result["TZ"] = "UTC"
    result["POD_NAME"] = spec.key.name
    result[TOPICS_VARIABLE] = str(topics)
    result.update(spec.environment)
    for variable, secret in spec.secret_environment.items():
        if secret not in secrets:
            return _refuse(
                spec, f"the secret {secret!r}, which {variable} is to carry, is not known to the local runner"
            )
        result[variable] = secrets[secret]
    for variable, value in result.items():
        if not variable or "=" in variable or "\0" in variable + value:
            return _refuse(
                spec, f"the environment variable {variable!r} cannot be set: a name with '=', or a NUL in it"
            )
    return result


def command(spec: LaunchSpec, path: str) -> Refused | None:
    """Why the command cannot be run, if that can be told beforehand. `path`: the worker's PATH."""
    if not spec.command:
        return _refuse(
            spec,
            f"the catalogue gives no command for local workers of target {spec.target!r}; "
            "set one there (QM_CATALOGUE), or run on Kubernetes (QM_RUNNER=kubernetes)",
        )
    program = spec.command[0]
    if any("\0" in argument for argument in spec.command):
        return _refuse(spec, f"the command {program!r} has a NUL in an argument")
    if shutil.which(program, path=path) is not None:
        return None
    if os.sep not in program:
        return _refuse(spec, f"the command {program!r} of target {spec.target!r} was not found on the PATH {path}")
    what = "is not executable" if Path(program).is_file() else "does not exist"
    return _refuse(spec, f"the command {program!r} of target {spec.target!r} {what}")


def cannot_run(program: str, number: int) -> StateReason:
    """Why a command that looked well could not be run after all."""
    return StateReason(
        code=Reason.CONFIG_ERROR, message=f"the command {program!r} cannot be run: {os.strerror(number)}"
    )


def bad_name(spec: LaunchSpec) -> Refused:
    """The worker's name is none that a directory can have."""
    return _refuse(spec, f"{spec.key.name!r} cannot be the name of a local worker")


def _refuse(spec: LaunchSpec, message: str) -> Refused:
    return Refused(spec.key, StateReason(code=Reason.CONFIG_ERROR, message=message))
