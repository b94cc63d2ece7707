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


def faults(tmp_path: Path, text: str) -> list[tuple[int, str]]:
    """What is wrong with a text: the lines, and what is told of them."""
    with pytest.raises(CatalogueError) as caught:
        read(tmp_path, text)
    found = []
    for line in caught.value.message.splitlines():
        prefix = f"QM_CATALOGUE: {tmp_path / 'targets.yaml'}:"
        assert line.startswith(prefix), line
        number, _, rest = line.removeprefix(prefix).partition(": ")
        found.append((int(number), rest))
    return found


def assert_told(found: list[tuple[int, str]], expected: list[tuple[int, str]]) -> None:
    """These and no others, each with its line and how it begins."""
    assert [line for line, _ in found] == [line for line, _ in expected], found
    for line, words in expected:
        assert any(known == line and text.startswith(words) for known, text in found), (line, words, found)


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
    expected = [
        (3, "targets.loader-producer.imag: there is no such key"),
        (4, "targets.News: target 'News'"),
        (7, "targets.news.image: "),
        (10, "targets.news.types.x.lifetime: invalid enum value 'forever'"),
        (11, "targets.news.types.y.lifetime: it drains"),
        (12, "targets.news.types.z.required_fields: 'colection_name' is no field"),
        (14, "targets.news.parameters.n.default: its default"),
        (15, "targets.news.parameters.p.pattern: "),
        (17, "targets.news.kubernetes.limits: expected `object`, got `int`"),
        (18, "targets.empty: it has no types"),
        (20, "targets.gnn-trainer.environment.A=B: is no environment variable"),
        (22, "targets.gnn-trainer.kubernetes.patch: the elements of imagePullSecrets are objects with a name"),
        (25, "targets.visualizer.kubernetes.patch: it takes away"),
    ]
    assert_told(found, expected)


FAULTY = """targets:
  news:
    imag: x
    comand: [a]
    description: 3
    command: [a, 1, b, {}]
    types:
      x:
        lifetime: forever
        image: "No Such:Image"
        required_fields: [colection_name]
        needs_time_range: 1
        reads: own
      y:
    parameters:
      p:
        type: text
        required: maybe
        allowed_values: [a, [b], {c: d}]
      "q r": {pattern: "("}
    environment:
      A: [1]
      B: {}
      "C D": x
    secret_environment: {K: 3}
    kubernetes:
      grace: 0
      requests: {memory: 1GB, cpu: 1, memroy: 1Gi}
      limits: {cpu: 500m}
      volumes: [3]
      node_selektor: {}
  other: 3
  gnn-trainer: {kubernetes: 3}
"""


def test_all_faults_of_one_entry_are_told(tmp_path: Path) -> None:
    """Not only the first one: of its keys, of its values, and of the values in these."""
    found = faults(tmp_path, FAULTY)
    expected = [
        (3, "targets.news.imag: there is no such key; did you mean image? there are description, image"),
        (4, "targets.news.comand: there is no such key; did you mean command?"),
        (5, "targets.news.description: expected `str | null`, got `int`"),
        (6, "targets.news.command.1: expected `str`, got `int`"),
        (6, "targets.news.command.3: expected `str`, got `object`"),
        (9, "targets.news.types.x.lifetime: invalid enum value 'forever'; there are finite, endless, drains"),
        (10, "targets.news.types.x.image: "),
        (11, "targets.news.types.x.required_fields: 'colection_name' is no field"),
        (12, "targets.news.types.x.needs_time_range: expected `bool`"),
        (13, "targets.news.types.x.reads: it reads topics, so it needs a consumer_group"),
        (14, "targets.news.types.y.lifetime: is required"),
        (17, "targets.news.parameters.p.type: invalid enum value 'text'"),
        (18, "targets.news.parameters.p.required: expected `bool`"),
        (19, "targets.news.parameters.p.allowed_values.1: expected"),
        (19, "targets.news.parameters.p.allowed_values.2: expected"),
        (20, "targets.news.parameters.q r: 'Q R' is no environment variable's name"),
        (20, "targets.news.parameters.q r.pattern: its pattern is no regular expression"),
        (22, "targets.news.environment.A: expected"),
        (23, "targets.news.environment.B: expected"),
        (24, "targets.news.environment.C D: is no environment variable"),
        (25, "targets.news.secret_environment.K: expected `str`, got `int`"),
        (27, "targets.news.kubernetes.grace: expected `int` >= 1"),
        (28, "targets.news.kubernetes.requests.memory: '1GB' is no quantity"),
        (28, "targets.news.kubernetes.requests.memroy: is no resource"),
        (30, "targets.news.kubernetes.volumes.0: expected `object`, got `int`"),
        (31, "targets.news.kubernetes.node_selektor: there is no such key; did you mean node_selector?"),
        (32, "targets.other: expected `object`, got `int`"),
        (33, "targets.gnn-trainer.kubernetes: expected `object`, got `int`"),
    ]
    assert_told(found, expected)


def test_rules_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    """Otherwise a request would find out that no value is right."""
    found = faults(
        tmp_path,
        """targets:
  loader-producer:
    parameters:
      a: {type: integer, pattern: "[0-9]"}
      b: {type: number, minimum: 2, maximum: 1, default: 5}
      c:
        type: integer
        minimum: 1
        allowed_values: [2, 0, many]
      d: {allowed_values: [x, y], default: z}
      e: {pattern: "[a-z]", allowed_values: [x, xx]}
      f: {minimum: 1, type: boolean}
      g: {type: number, maximum: .inf}
      h: {type: boolean, default: 3}
      i: {default: "a\\0b"}
      j: {type: number, maximum: 10, default: 1e2}
""",
    )
    at = "targets.loader-producer.parameters"
    expected = [
        (4, f"{at}.a.pattern: a pattern is for texts, and its type is integer; correct it"),
        (5, f"{at}.b.minimum: its minimum 2 is more than its maximum 1; correct it"),
        (9, f"{at}.c.allowed_values: of its allowed values '0' is out of range"),
        (9, f"{at}.c.allowed_values: of its allowed values 'many' must be a whole number"),
        (10, f"{at}.d.default: its default 'z' must be one of x, y; correct it"),
        (11, f"{at}.e.allowed_values: of its allowed values 'xx' must match [a-z] as a whole"),
        (12, f"{at}.f.minimum: a minimum is for numbers, and its type is boolean"),
        (13, f"{at}.g.maximum: .inf is not finite; leave it out for no limit"),
        (14, f"{at}.h.default: its default '3' must be true or false"),
        (15, f"{at}.i.default: "),
        (16, f"{at}.j.default: its default '1e2' is out of range, it must be a number up to 10"),
    ]
    assert_told(found, expected)


def test_resources_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    """Where both are given; a default gives way."""
    found = faults(
        tmp_path,
        """targets:
  loader-producer:
    kubernetes:
      requests:
        memory: 2Gi
        cpu: 1500m
        nvidia.com/gpu: 1
      limits: {memory: 1Gi, cpu: 1}
""",
    )
    at = "targets.loader-producer.kubernetes.requests"
    expected = [
        (5, f"{at}.memory: 2Gi is asked for, and the limit is 1Gi; lower the one or raise the other"),
        (6, f"{at}.cpu: 1500m is asked for, and the limit is 1;"),
        (7, f"{at}.nvidia.com/gpu: 1 is asked for, and there is no limit, which has to be the same"),
    ]
    assert_told(found, expected)
    text = "targets:\n  loader-producer:\n    kubernetes: {requests: {memory: 2Gi, cpu: 2}}\n"
    assert read(tmp_path, text)[1]["loader-producer"].limits == {"cpu": "2", "memory": "2Gi"}


def test_what_yaml_takes_for_something_else_does_not_hide_other_faults(tmp_path: Path) -> None:
    """Keys are texts in any case."""
    found = faults(
        tmp_path,
        """targets:
  loader-producer:
    environment:
      ON: on
      5: x
      AT: 2024-06-01
      AT: 3
      ? [a, b]
      : x
    imag: x
""",
    )
    at = "targets.loader-producer"
    expected = [
        (4, f"{at}.environment.ON: YAML reads on as true or false; put it in quotes"),
        (5, f"{at}.environment.5: is no environment variable"),
        (6, f"{at}.environment.AT: YAML reads 2024-06-01 as a date; put it in quotes"),
        (7, f"{at}.environment.AT: the key 'AT' stands twice"),
        (8, f"{at}.environment.?: a key must be a plain text"),
        (10, f"{at}.imag: there is no such key"),
    ]
    assert_told(found, expected)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("targets:\n  a: {\n", 3, "expected the node content"),
        ("targets:\n  a: 1\n  a: 2\n", 3, "the key 'a' stands twice"),
        ("", 1, "missing required field `targets`"),
        ("- a\n", 1, "expected `object`, got `array`"),
        ("targets:\n  a: 2024-02-30\n", 2, "targets.a: YAML reads 2024-02-30 as a date; put it in quotes"),
        ("targets:\n  a:\n    description: !!int many\n", 3, "many is no int; correct it, or put it in quotes"),
        (f"targets:\n  a:\n    description: {'9' * 5000}\n", 3, "is no int"),
        (f"targets:\n  a:\n    description: {'9' * 50}\n", 3, "has more than 64 bits; put it in quotes"),
        ('targets:\n  a:\n    description: "\\ud800"\n', 3, "characters that are none (lone surrogates)"),
        ('targets:\n  a:\n    "\\ud800": x\n', 3, "a key must be a plain text"),
        ("targets:\n  a: &a\n    types: *a\n", 2, "an alias leads into itself; write it out"),
        ("targets:\n" + "  - " + "[" * 90 + "]" * 90, 2, "nested, or repeated by aliases, too deeply"),
        ("targets:\n  " + "[" * 5000 + "]" * 5000, 2, "it is nested too deeply; write it flatter"),
        ("targets:\n  a: \x07\n", 2, "the character U+0007 cannot stand in YAML; take it out"),
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
        ("targets: !!python/object:os.system {}\n", 1, "tagged !!python/object:os.system; take the tag out"),
    ],
)
def test_what_is_no_catalogue_at_all_is_told_too(tmp_path: Path, text: str, line: int, words: str) -> None:
    """With its line."""
    found = faults(tmp_path, text)
    assert [told for number, told in found if number == line and words in told], found


def test_what_is_no_text_is_told_with_its_line(tmp_path: Path) -> None:
    """A file in another encoding."""
    path = tmp_path / "targets.yaml"
    path.write_bytes("targets:\n  a: {description: Grüße}\n".encode("latin-1"))
    with pytest.raises(CatalogueError, match=r"targets.yaml:2: it is not UTF-8; store it as such"):
        read_catalogue(path, BUILTIN)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """With the variable that names it."""
    with pytest.raises(CatalogueError, match=r"QM_CATALOGUE: .*nowhere.yaml cannot be read"):
        read_catalogue(tmp_path / "nowhere.yaml", BUILTIN)
