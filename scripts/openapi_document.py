"""Write `docs/openapi.yaml` from the contract, or with `--check` say whether it is stale (exit 1).

Also the copies of `examples/*.json` that the gateway ships, since an installed gateway has no such folder beside it.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

from queue_manager.gateway.contract import Contract
from queue_manager.gateway.openapi import as_yaml, document

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "openapi.yaml"
EXAMPLES = ROOT / "examples"
COPIES = ROOT / "gateway/queue_manager/gateway/static/examples"

INTRODUCTION = "# Made by scripts/openapi_document.py from protos/; do not edit.\n"


def copies() -> dict[Path, str]:
    """What the folder of copies must have."""
    return {COPIES / file.name: file.read_text(encoding="utf-8") for file in sorted(EXAMPLES.glob("*.json"))}


def page() -> str:
    """The document in YAML. It is made with the copies, so these come first."""
    return INTRODUCTION + as_yaml(document(Contract.load(), version=version("streamforge-queue-manager")))


def main() -> None:
    """Write or check."""
    wanted = copies()
    if "--check" not in sys.argv:
        COPIES.mkdir(parents=True, exist_ok=True)
        for file in set(COPIES.iterdir()) - wanted.keys():
            file.unlink()
        for file, text in wanted.items():
            file.write_text(text, encoding="utf-8")
        PAGE.write_text(page(), encoding="utf-8")
        return
    there = {file: file.read_text(encoding="utf-8") for file in COPIES.glob("*")}
    if there != wanted:
        sys.exit(f"{COPIES.relative_to(ROOT)} differs from examples/; run scripts/openapi_document.py --write")
    if not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page():
        sys.exit("docs/openapi.yaml is stale; run scripts/openapi_document.py --write")


if __name__ == "__main__":
    main()
