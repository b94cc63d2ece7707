"""Regenerate `gen/` from `protos/`, or with `--check` say whether it is stale (exit 1).

What is generated: messages, their type stubs, the gRPC stubs with theirs, and `api.binpb`, the descriptors with comments,
from which documentation and the gateway are made. Also what is read of Kubernetes' messages, from `third_party/`.
"""

from __future__ import annotations

import filecmp
import shutil
import sys
import tempfile
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path("queue_manager/v1")
WIRE = Path("queue_manager/wire")


def generate(out: Path) -> None:
    """Write everything that is generated below `out`."""
    out.mkdir(parents=True, exist_ok=True)
    (out / PACKAGE).mkdir(parents=True, exist_ok=True)
    protos = sorted(str(p.relative_to(ROOT / "protos")) for p in (ROOT / "protos").rglob("*.proto"))
    arguments = [
        "protoc",
        f"-I{ROOT / 'protos'}",
        f"-I{ROOT / 'third_party/googleapis'}",
        f"-I{resources.files('grpc_tools') / '_proto'}",
        f"--python_out={out}",
        f"--mypy_out=quiet:{out}",
        f"--grpc_python_out={out}",
        f"--mypy_grpc_out=quiet:{out}",
        f"--descriptor_set_out={out / PACKAGE / 'api.binpb'}",
        "--include_imports",
        "--include_source_info",
        *protos,
    ]
    if protoc.main(arguments) != 0:
        sys.exit("protoc failed; its messages are above")
    for nothing in (out / PACKAGE).glob("*_pb2_grpc.py*"):
        if not nothing.name.startswith("service_"):
            nothing.unlink()  # files without a service have no stubs
    (out / PACKAGE / "__init__.py").write_text(
        '"""The contract, generated from `protos/queue_manager/v1`; do not edit."""\n'
    )
    (out / PACKAGE / "py.typed").touch()
    _generate_wire(out)


def _generate_wire(out: Path) -> None:
    root = ROOT / "third_party/kubernetes"
    messages = [str(p.relative_to(root)) for p in sorted(root.rglob("*.proto"))]
    includes = [f"-I{root}", f"-I{resources.files('grpc_tools') / '_proto'}"]
    if protoc.main(["protoc", *includes, f"--python_out={out}", f"--mypy_out=quiet:{out}", *messages]) != 0:
        sys.exit("protoc failed; its messages are above")
    (out / WIRE / "__init__.py").write_text(
        '"""Messages of others, as far as they are read; generated, do not edit."""\n'
    )
    (out / WIRE / "py.typed").touch()


def main() -> None:
    """Regenerate or check."""
    committed = ROOT / "gen"
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        generate(fresh)
        if "--check" not in sys.argv:
            shutil.rmtree(committed, ignore_errors=True)
            shutil.copytree(fresh, committed)
            return
        names = {
            p.relative_to(root)
            for root in (fresh, committed)
            for p in root.rglob("*")
            if p.is_file() and "__pycache__" not in p.parts
        }
        stale = sorted(
            str(n)
            for n in names
            if not (
                (fresh / n).exists()
                and (committed / n).exists()
                and filecmp.cmp(fresh / n, committed / n, shallow=False)
            )
        )
        if stale:
            sys.exit(f"gen/ is stale: {', '.join(stale)}\nrun `make protos` and commit the result")


if __name__ == "__main__":
    main()
