"""Fetch Swagger UI from npm for the gateway's `/docs`, or with `--check` say whether what is here differs (exit 1).

It is kept in the repository so that the page works where there is no internet, and is exactly what the package has: only
the files named here, each with its sum. For another version change `VERSION`, run this, look at what it prints, and put the
new sums here. Fetching needs npm.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Final

PACKAGE: Final = "swagger-ui-dist"
VERSION: Final = "5.35.0"
SUMS: Final = {
    "LICENSE": "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30",
    "NOTICE": "0d20d1adef18aee3f40dd258172155521ce702ac445cb5f7b7d60ed32dad2fb2",
    "favicon-16x16.png": "af24ad604dd7b3bcda8f975ab973075f4a2f70a4087944a12f8ef8b63a3e07c2",
    "favicon-32x32.png": "3ed612f41e050ca5e7000cad6f1cbe7e7da39f65fca99c02e99e6591056e5837",
    "swagger-ui-bundle.js": "e6a898692f2d768e807c3ba4626068a69a2c5dd960dd6c76f3e4d3a3de180af2",
    "swagger-ui-bundle.js.LICENSE.txt": "37eb6e7e59aed57b2c1acf076574b818ea07b74265717e0bd67b59e0baf9abbb",
    "swagger-ui.css": "5ed08757e53da3e026d6cbecc61fe5d43585c9560b302d534ad56692519a273d",
}
"""SHA-256 by file."""

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "gateway/queue_manager/gateway/static/swagger-ui"


def fetched() -> dict[str, bytes]:
    """The files as npm has them."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", "--silent", "--pack-destination", folder, f"{PACKAGE}@{VERSION}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        (archive,) = Path(folder).glob("*.tgz")
        with tarfile.open(archive) as files:
            return {name: _member(files, f"package/{name}") for name in SUMS}


def wrong(files: dict[str, bytes]) -> list[str]:
    """The files that differ from their sums, or are missing or too many, with the sums that they have."""
    found = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    return sorted(
        f"{name}: {found.get(name, 'missing')}" for name in SUMS.keys() | found if found.get(name) != SUMS.get(name)
    )


def main() -> None:
    """Fetch or check."""
    if "--check" in sys.argv:
        if problems := wrong({path.name: path.read_bytes() for path in FOLDER.glob("*")}):
            sys.exit("\n  ".join([f"{FOLDER.relative_to(ROOT)} is not {PACKAGE} {VERSION}:", *problems]))
        return
    files = fetched()
    if problems := wrong(files):
        sys.exit("\n  ".join([f"{PACKAGE} {VERSION} has other sums:", *problems]))
    FOLDER.mkdir(parents=True, exist_ok=True)
    for old in FOLDER.glob("*"):
        old.unlink()
    for name, content in files.items():
        (FOLDER / name).write_bytes(content)


def _member(files: tarfile.TarFile, name: str) -> bytes:
    member = files.extractfile(name)
    assert member is not None, f"{name} is no file"
    return member.read()


if __name__ == "__main__":
    main()
