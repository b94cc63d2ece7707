"""Path templates: the grammar of `google/api/http.proto`, and what a path puts into variables."""

from __future__ import annotations

import pytest

from queue_manager.gateway.path_template import BadPath, PathTemplate, TemplateError
from queue_manager.gateway.router import RouteConflict, Router


@pytest.mark.parametrize(
    ("text", "segments", "verb", "variables"),
    [
        ("/v1/queues", ("v1", "queues"), "", []),
        ("/v1/queues/{queue_id}", ("v1", "queues", "*"), "", ["queue_id"]),
        ("/v1/queues/{queue_id=*}", ("v1", "queues", "*"), "", ["queue_id"]),
        ("/v1/queues/{queue_id}:stop", ("v1", "queues", "*"), "stop", ["queue_id"]),
        ("/v1/{name=messages/*}", ("v1", "messages", "*"), "", ["name"]),
        ("/v1/{name=projects/*/topics/*}:publish", ("v1", "projects", "*", "topics", "*"), "publish", ["name"]),
        ("/v1/{name=files/**}", ("v1", "files", "**"), "", ["name"]),
        ("/v1/{name=**}:read", ("v1", "**"), "read", ["name"]),
        ("/v1/{a.b.c}/x/{d}", ("v1", "*", "x", "*"), "", ["a.b.c", "d"]),
        ("/v1/*/x", ("v1", "*", "x"), "", []),
        ("/**", ("**",), "", []),
        ("/v1/a%20b", ("v1", "a b"), "", []),
        ("/v1:batchGet", ("v1",), "batchGet", []),
    ],
)
def test_what_the_grammar_has(text: str, segments: tuple[str, ...], verb: str, variables: list[str]) -> None:
    """Segments, verb, variables."""
    template = PathTemplate.parse(text)
    assert (template.segments, template.verb) == (segments, verb)
    assert [variable.field_path for variable in template.variables] == variables


@pytest.mark.parametrize(
    "text",
    [
        "",
        "v1",
        "/",
        "/v1/",
        "//v1",
        "/v1/{}",
        "/v1/{a",
        "/v1/{a}b",
        "/v1/{1a}",
        "/v1/{a=}",
        "/v1/{a={b}}",
        "/v1/{a.}",
        "/v1/{a}/{a}",
        "/v1/**/x",
        "/v1/{a=**}/x",
        "/v1/***",
        "/v1:",
        "/v1:a:b",
        "/v1:a/b",
        "/v1/a b",
        "/v1/%zz",
    ],
)
def test_what_it_does_not(text: str) -> None:
    """Refused, with the template in the message."""
    with pytest.raises(TemplateError, match=r"^.*: "):
        PathTemplate.parse(text)


def router(*templates: str) -> Router[str]:
    """A GET of each, bound to its own text."""
    made: Router[str] = Router()
    for text in templates:
        made.add("GET", PathTemplate.parse(text), text)
    return made


TEMPLATES = (
    "/v1/queues",
    "/v1/queues:watch",
    "/v1/queues/{id}",
    "/v1/queues/{id}:watch",
    "/v1/queues/{id}/events",
    "/queues/list",
    "/queues/{id}",
    "/v1/{name=files/**}",
    "/v1/{name=files/**}:read",
    "/v1/{name=shelves/*/books/*}",
    "/v2/{whole=**}",
)


@pytest.mark.parametrize(
    ("path", "template", "caught"),
    [
        ("/v1/queues", "/v1/queues", []),
        ("/v1/queues:watch", "/v1/queues:watch", []),
        ("/v1/queues/q1", "/v1/queues/{id}", ["q1"]),
        ("/v1/queues/q1:watch", "/v1/queues/{id}:watch", ["q1"]),
        ("/v1/queues/q1:other", "/v1/queues/{id}", ["q1:other"]),
        ("/v1/queues/q1%3Awatch", "/v1/queues/{id}", ["q1:watch"]),
        ("/v1/queues/a:b:watch", "/v1/queues/{id}:watch", ["a:b"]),
        ("/v1/queues/:watch", "/v1/queues/{id}", [":watch"]),
        ("/v1/queues/q1:", "/v1/queues/{id}", ["q1:"]),
        ("/v1/queues/a%2Fb", "/v1/queues/{id}", ["a/b"]),
        ("/v1/queues/a%20b+c", "/v1/queues/{id}", ["a b+c"]),
        ("/v1/queues/%C3%A4", "/v1/queues/{id}", ["ä"]),
        ("/v1/queues/q1/events", "/v1/queues/{id}/events", ["q1"]),
        ("/v1/%71ueues/q1", "/v1/queues/{id}", ["q1"]),
        ("/queues/list", "/queues/list", []),
        ("/queues/lists", "/queues/{id}", ["lists"]),
        ("/v1/files/a", "/v1/{name=files/**}", ["files/a"]),
        ("/v1/files/a/b%2Fc/d%20e", "/v1/{name=files/**}", ["files/a/b%2Fc/d e"]),
        ("/v1/files", "/v1/{name=files/**}", ["files"]),
        ("/v1/files/a/b:read", "/v1/{name=files/**}:read", ["files/a/b"]),
        ("/v1/shelves/1/books/2", "/v1/{name=shelves/*/books/*}", ["shelves/1/books/2"]),
        ("/v1/shelves/1/books/2%2f3", "/v1/{name=shelves/*/books/*}", ["shelves/1/books/2%2f3"]),
        ("/v2/anything/at/all", "/v2/{whole=**}", ["anything/at/all"]),
        ("/v2", "/v2/{whole=**}", [""]),
        ("/v1/queues/", None, None),
        ("/v1/queues//events", None, None),
        ("/v1", None, None),
        ("/", None, None),
        ("/V1/queues", None, None),
        ("/v1/queues/q1/events/1", None, None),
        ("/v1/shelves/1/books", None, None),
        ("/v2/a//b", None, None),
    ],
)
def test_where_a_path_leads(path: str, template: str | None, caught: list[str] | None) -> None:
    """The best of the templates, and what its variables catch."""
    found = router(*TEMPLATES).resolve("GET", path)
    if template is None:
        assert found == frozenset()
        return
    assert not isinstance(found, frozenset)
    bound, segments = found
    assert bound == template
    assert [variable.value(segments) for variable in PathTemplate.parse(template).variables] == caught


@pytest.mark.parametrize("path", ["/v1/queues/%zz", "/v1/queues/%", "/v1/queues/a%2", "/v1/queues/%ff", "/v1/%C3/x"])
def test_a_path_that_cannot_be_decoded(path: str) -> None:
    """Stray signs, and bytes that are no UTF-8."""

    def read() -> None:
        found = router(*TEMPLATES).resolve("GET", path)
        assert not isinstance(found, frozenset)
        PathTemplate.parse(found[0]).variables[0].value(found[1])

    with pytest.raises(BadPath):
        read()


def test_the_methods_of_a_path() -> None:
    """Of all templates that it fits."""
    made: Router[str] = Router()
    made.add("GET", PathTemplate.parse("/v1/{a}"), "get")
    made.add("POST", PathTemplate.parse("/v1/x"), "post")
    made.add("DELETE", PathTemplate.parse("/v1/{a}:y"), "delete")
    assert made.resolve("PUT", "/v1/x") == {"GET", "POST"}
    assert made.resolve("PUT", "/v1/x:y") == {"GET", "DELETE"}
    assert made.resolve("GET", "/v1/x") == ("get", ["v1", "x"])


def test_two_bindings_that_nobody_could_tell_apart() -> None:
    """Whatever their variables are called."""
    made = router("/v1/{a}/b")
    with pytest.raises(RouteConflict, match=r"GET /v1/\{c=\*\}/b is bound twice"):
        made.add("GET", PathTemplate.parse("/v1/{c=*}/b"), "again")
