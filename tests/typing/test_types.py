"""Runs mypy, strict, over `uses/`, and compares what it says with what the files say that it says.

A line that ends in `# E: [code]` (one code for each error) must have these errors, one that ends in `# R: type` must
have that type revealed (without the modules of its names), and every other line must have nothing.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pytest
from mypy import api

ROOT = Path(__file__).parents[2]
USES = sorted(Path(__file__).with_name("uses").glob("*.py"))

EXPECTED = re.compile(r"# ([ER]): (.+)$")
SAID = re.compile(r"^(?P<file>[^:]+):(?P<line>\d+): (?P<kind>error|note): (?P<text>.*?)(?:  (?P<code>\[[a-z-]+\]))?$")
REVEALED = re.compile(r'^Revealed type is "(.+)"$')

Findings = dict[int, list[str]]
"""Of a file: line → its errors' codes, or the type that is revealed there."""


def expected(file: Path) -> Findings:
    """What the file says."""
    found: Findings = {}
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        if match := EXPECTED.search(line):
            found[number] = sorted(match[2].split()) if match[1] == "E" else [match[2]]
    return found


def unqualified(type_name: str) -> str:
    """A type without the modules of its names, and without what only mypy writes."""
    return re.sub(r"(?:\w+\.)+(?=\w)", "", type_name).replace("?", "")


@pytest.fixture(scope="module")
def said() -> dict[str, Findings]:
    """What mypy says of each file, by its name."""
    options = ("--no-pretty", "--show-error-codes", "--hide-error-context", "--no-error-summary", "--no-color-output")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(ROOT)  # for the paths in its configuration, and for its cache
        report, problems, _ = api.run([*options, *map(str, USES)])
    assert not problems
    found: dict[str, Findings] = defaultdict(lambda: defaultdict(list))
    for line in report.splitlines():
        match = SAID.match(line)
        assert match is not None, line
        if match["kind"] == "error":
            found[Path(match["file"]).name][int(match["line"])].append(match["code"])
        elif revealed := REVEALED.match(match["text"]):
            found[Path(match["file"]).name][int(match["line"])].append(unqualified(revealed[1]))
    return found


@pytest.mark.parametrize("file", USES, ids=lambda file: file.stem)
def test_mypy_says_what_the_file_says_that_it_says(file: Path, said: dict[str, Findings]) -> None:
    """No more and no less, line by line."""
    assert {line: sorted(findings) for line, findings in said[file.name].items()} == expected(file)


def test_there_is_much_to_say() -> None:
    """The marks are found: a file whose errors were not read would pass with nothing."""
    wrong = [file for file in USES if file.name.startswith("wrong_")]
    assert sum(len(expected(file)) for file in wrong) > 50
