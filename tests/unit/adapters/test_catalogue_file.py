"""The operators' catalogue file: what it makes, and that every fault is told with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from queue_manager.server.adapters.catalogue_file import CatalogueError, read_catalogue
from queue_manager.server.adapters.kubernetes.options import PodOptions
from queue_manager.server.domain.builtin import adapted, builtin_targets
from queue_manager.server.domain.catalogue import Catalogue, ParameterType
from queue_manager.server.domain.model import Lifetime

BUILTIN = Catalogue.of(builtin_targets())


def read(tmp_path: Path, text: str) -> tuple[Catalogue, dict[str, PodOptions]]:
    """A file of this text."""
    path = tmp_path / "targets.yaml"
    path.write_text(text)
    return read_catalogue(path, BUILTIN)


def faults(tmp_path: Path, text: str) -> dict[int, str]:
    """What is wrong with a text: line → the rest."""
    with pytest.raises(CatalogueError) as caught:
        read(tmp_path, text)
    found = {}
    for line in caught.value.message.splitlines():
        prefix = f"QM_CATALOGUE: {tmp_path / 'targets.yaml'}:"
        assert line.startswith(prefix), line
        number, _, rest = line.removeprefix(prefix).partition(": ")
        found[int(number)] = rest
    return found


def test_a_target_of_ones_own_stands_beside_the_built_in_ones(tmp_path: Path) -> None:
    """With everything that can be said of it."""
    catalogue, pods = read(
        tmp_path,
        """
targets:
  news-loader:
    description: Loads the news of a coin.
    image: registry.example.com/news:1
    command: [python, -m, news]
    types:
      news: {lifetime: finite, feeds: true, optional_fields: [collection_name], needs_time_range: true}
      news_live: {lifetime: endless, image: "registry.example.com/live:2"}
    parameters:
      language: {pattern: "[a-z]{2}", default: en}
      depth: {type: integer, minimum: 1, maximum: 10, default: 3, required: true}
      verbose: {type: boolean, default: true}
    environment: {NEWS_URL: "https://news.example.com", RETRIES: 3}
    secret_environment: {NEWS_KEY: news-key}
    kubernetes:
      limits: {memory: 4Gi}
      tolerations: [{key: gpu, operator: Exists}]
""",
    )
    assert set(catalogue.targets) == {*BUILTIN.targets, "news-loader"}
    target = catalogue.targets["news-loader"]
    news, live = target.types
    assert (news.lifetime, news.feeds, news.default_image) == (Lifetime.FINITE, True, "registry.example.com/news:1")
    assert live.default_image == "registry.example.com/live:2"
    assert news.takes("collection_name")
    assert news.takes("timeout")
    assert not live.takes("collection_name")
    language, depth, verbose = target.parameters
    assert (language.default_value, depth.default_value, verbose.default_value) == ("en", "3", "true")
    assert (depth.type, depth.minimum, depth.required) == (ParameterType.INTEGER, 1, True)
    assert dict(target.environment) == {"NEWS_URL": "https://news.example.com", "RETRIES": "3"}
    assert pods["news-loader"].limits == {"memory": "4Gi"}
    assert pods["news-loader"].requests == PodOptions().requests


def test_of_a_built_in_target_only_what_is_said_is_another(tmp_path: Path) -> None:
    """Its types stay; its image is the file's, unless the platform's variable names one."""
    catalogue, pods = read(
        tmp_path,
        "targets:\n  loader-producer:\n    image: registry.example.com/loader:7\n    environment: {LIMIT: 500}\n",
    )
    before, after = BUILTIN.targets["loader-producer"], catalogue.targets["loader-producer"]
    assert [kind.name for kind in after.types] == [kind.name for kind in before.types]
    assert after.environment["LIMIT"] == "500"
    assert pods == {}
    images = {kind.default_image for kind in adapted(catalogue, {}).targets["loader-producer"].types}
    assert images == {"registry.example.com/loader:7"}
    override = adapted(catalogue, {"loader-producer": "registry.example.com/loader:8"})
    assert {kind.default_image for kind in override.targets["loader-producer"].types} == {
        "registry.example.com/loader:8"
    }


def test_every_fault_is_told_with_its_line_and_its_place(tmp_path: Path) -> None:
    """All at once."""
    found = faults(
        tmp_path,
        """targets:
  loader-producer:
    imag: x
  News:
    types: {a: {lifetime: finite}}
  news:
    image: "No Such:Image"
    types:
      x:
        lifetime: forever
      y: {lifetime: drains}
      z: {lifetime: finite, required_fields: [colection_name]}
    parameters:
      n: {type: integer, default: many}
      p: {pattern: "["}
    kubernetes:
      limits: 3
  empty:
  gnn-trainer:
    environment: {"A=B": x}
    kubernetes:
      patch: {spec: {template: {spec: {imagePullSecrets: [registry]}}}}
  visualizer:
    kubernetes:
      patch: {spec: null}
""",
    )
    expected = {
        3: "targets.loader-producer.imag: there is no such key",
        4: "targets.News: target 'News'",
        7: "targets.news.image: ",
        10: "targets.news.types.x.lifetime: invalid enum value 'forever'",
        11: "targets.news.types.y: ",
        12: "targets.news.types.z.required_fields: 'colection_name' is no field",
        14: "targets.news.parameters.n: ",
        15: "targets.news.parameters.p: ",
        17: "targets.news.kubernetes.limits: expected `object`, got `int`",
        18: "targets.empty: it has no types",
        20: "targets.gnn-trainer.environment.A=B: is no environment variable",
        22: "targets.gnn-trainer.kubernetes.patch: the elements of imagePullSecrets are objects with a name",
        25: "targets.visualizer.kubernetes.patch: it takes away",
    }
    assert set(found) == set(expected)
    for line, words in expected.items():
        assert found[line].startswith(words), found[line]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("targets:\n  a: {\n", 3, "expected the node content"),
        ("targets:\n  a: 1\n  a: 2\n", 3, "the key 'a' stands twice"),
        ("", 1, "missing required field `targets`"),
        ("- a\n", 1, "expected `object`, got `array`"),
        ("targets: {a: 2024-02-30}\n", None, "put it in quotes"),
        (
            "targets:\n  a: {environment: {AT: 12:30:00}}\n",
            2,
            "YAML reads 12:30:00 as another number; put it in quotes",
        ),
        (
            "targets:\n  a:\n    environment:\n      CODE: 010\n",
            4,
            "YAML reads 010 as another number; put it in quotes",
        ),
        ("targets:\n  a: {environment: {COUNTRY: NO}}\n", 2, "YAML reads NO as true or false; put it in quotes"),
        ("targets: !!python/object:os.system {}\n", 1, "could not determine a constructor"),
    ],
)
def test_what_is_no_catalogue_at_all_is_told_too(tmp_path: Path, text: str, line: int | None, words: str) -> None:
    """With its line, where there is one."""
    if line is None:
        with pytest.raises(CatalogueError, match=words):
            read(tmp_path, text)
    else:
        assert words in faults(tmp_path, text)[line]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """With the variable that names it."""
    with pytest.raises(CatalogueError, match=r"QM_CATALOGUE: .*nowhere.yaml cannot be read"):
        read_catalogue(tmp_path / "nowhere.yaml", BUILTIN)
