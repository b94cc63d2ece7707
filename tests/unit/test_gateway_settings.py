"""The gateway's settings: ways to write hosts, origins and servers, and errors that say what to do."""

from __future__ import annotations

import pytest

from queue_manager.server.settings import GatewaySettings, SettingsError, load_gateway_settings
from queue_manager.server.settings.http_kinds import parse_grpc_name, parse_host, parse_origin
from tests.unit.test_settings import by_variable, nothing_set

__all__ = ["nothing_set"]


def gateway_settings(monkeypatch: pytest.MonkeyPatch, **variables: str) -> GatewaySettings:
    """The gateway's settings with these variables set."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return load_gateway_settings()[0]


def gateway_problems(monkeypatch: pytest.MonkeyPatch, **variables: str) -> dict[str, str]:
    """What is wrong with the gateway's variables."""
    with pytest.raises(SettingsError) as caught:
        gateway_settings(monkeypatch, **variables)
    return by_variable(caught.value)


def test_the_gateway_takes_what_can_be_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    """As browsers and gRPC write it: lower case, no port that the scheme has anyway, IPv6 in brackets."""
    found = gateway_settings(
        monkeypatch,
        QM_HTTP_LISTEN="LOCALHOST:0",
        QM_SERVER=" queue-manager:50051 ",
        QM_HTTP_CORS_ORIGINS="https://Board.example:443, http://localhost:3000,http://[::1]:80",
        QM_HTTP_HOSTS="Queues.example.com, 10.0.0.7, ::1, [2001:DB8:0::7], queues.example.com",
        QM_HTTP_TIMEOUT="1d",
        QM_HTTP_MAX_BODY_BYTES="64MiB",
        QM_HTTP_BODY_TIMEOUT="500ms",
        QM_HTTP_MAX_STREAMS="1",
    )
    assert found.server == "queue-manager:50051"
    assert found.origins == ("https://board.example", "http://localhost:3000", "http://[::1]")
    assert found.hosts == ("queues.example.com", "10.0.0.7", "[::1]", "[2001:db8::7]")
    assert (found.timeout, found.max_body_bytes, found.body_timeout, found.max_streams) == (86400, 2**26, 0.5, 1)
    assert gateway_settings(monkeypatch, QM_HTTP_MAX_BODY_BYTES="1KiB").max_body_bytes == 2**10


def test_any_name_and_any_origin_are_said_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    """A star; nothing at all is the default."""
    found = gateway_settings(monkeypatch)
    assert (found.server, found.origins, found.hosts) == ("127.0.0.1:50051", (), ())
    found = gateway_settings(monkeypatch, QM_HTTP_HOSTS="*", QM_HTTP_CORS_ORIGINS="*")
    assert (found.origins, found.hosts) == (("*",), ("*",))


def test_all_problems_of_the_gateway_come_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of the documentation, each with what to write instead."""
    wrong = gateway_problems(
        monkeypatch,
        QM_HTTP_LISTEN="8080",
        QM_SERVER="http://127.0.0.1:50051",
        QM_HTTP_CORS_ORIGINS="board.example,https://ok.example,https://board.example/",
        QM_HTTP_HOSTS="https://a.example,b.example:8080,ok.example",
        QM_HTTP_TIMEOUT="25h",
        QM_HTTP_MAX_BODY_BYTES="0",
        QM_HTTP_BODY_TIMEOUT="1e300",
        QM_HTTP_MAX_STREAMS="0",
        QM_GRPC_LISTEN="the server's business",
    )
    assert list(wrong) == [
        "QM_HTTP_LISTEN",
        "QM_SERVER",
        "QM_HTTP_CORS_ORIGINS",
        "QM_HTTP_HOSTS",
        "QM_HTTP_TIMEOUT",
        "QM_HTTP_MAX_BODY_BYTES",
        "QM_HTTP_BODY_TIMEOUT",
        "QM_HTTP_MAX_STREAMS",
    ]
    assert wrong["QM_SERVER"].endswith("write it without http://, e.g. 127.0.0.1:50051")
    assert wrong["QM_HTTP_CORS_ORIGINS"].startswith("'board.example', 'https://board.example/' are no origins; write ")
    assert wrong["QM_HTTP_HOSTS"].startswith("'https://a.example', 'b.example:8080' are no host names; write ")
    assert "at most 1d" in wrong["QM_HTTP_TIMEOUT"]
    assert "at least 1024" in wrong["QM_HTTP_MAX_BODY_BYTES"]


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("QM_HTTP_MAX_BODY_BYTES", "1023", "at least 1024"),
        ("QM_HTTP_MAX_BODY_BYTES", "65MiB", "at most 67108864"),
        ("QM_HTTP_MAX_STREAMS", "1000001", "at most 1000000"),
        ("QM_HTTP_HOSTS", ",", "',' is no host name; write "),
        ("QM_HTTP_CORS_ORIGINS", " , ", "is no origin; write "),
        ("QM_SERVER", "foo", "'foo' is not host:port; write e.g. 127.0.0.1:50051"),
    ],
)
def test_what_the_gateway_does_not_take(monkeypatch: pytest.MonkeyPatch, name: str, value: str, text: str) -> None:
    """Rather than starting with it, and failing or letting through every request."""
    assert text in gateway_problems(monkeypatch, **{name: value})[name]


@pytest.mark.parametrize(
    "text",
    [
        *(
            "http://a.example",
            "a.example:80",
            "a.example/",
            "[::1]:80",
            "*.example",
            "a b",
            "a..b",
            ".a",
            "a.",
            "-a",
            "a-",
        ),
        *("10.0.0", "10.0.0.256", "1.2.3.4:5", "[10.0.0.1]", "[::1", "::1%eth0", "é.example", "a@b", "x" * 64, "a\n"),
    ],
)
def test_what_is_no_host_is_refused(text: str) -> None:
    """No `Host` header would ever be it."""
    with pytest.raises(ValueError, match="is no host name"):
        parse_host(text)


@pytest.mark.parametrize(
    "text",
    [
        *("", "a.example", "//a.example", "ftp://a.example", "https://", "https://a.example/", "https://a.example/x"),
        *("https://a.example?x", "https://a.example#x", "https://u:p@a.example", "https://a.example:", "null"),
        *(
            "https://a.example:0",
            "https://a.example:65536",
            "https://*.example",
            "https://::1",
            "https://[a]",
            "https://*",
        ),
        *("https://a.example ", "https://a.example\n", "http://a.example:८०"),
    ],
)
def test_what_is_no_origin_is_refused(text: str) -> None:
    """No browser would ever send it."""
    with pytest.raises(ValueError, match=r"is no (origin|host name)"):
        parse_origin(text)


@pytest.mark.parametrize(
    "text",
    [
        *("127.0.0.1:50051", "localhost:1", "queue-manager:65535", "[::1]:50051", "a_b.example:1"),
        *("dns:///queue-manager:50051", "dns:queue-manager:50051", "unix:/run/qm.sock", "unix:///run/qm.sock"),
        *("unix:qm.sock", "unix-abstract:qm", "ipv4:10.0.0.1:50051,10.0.0.2:50051", "ipv6:[::1]:50051", "xds:///qm"),
    ],
)
def test_what_grpc_can_call_is_taken_as_it_is(text: str) -> None:
    """Its own kinds of names among them."""
    assert parse_grpc_name(text) == text


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("foo", "write e.g. 127.0.0.1:50051"),
        ("foo:", "write e.g."),
        (":50051", "write e.g."),
        ("foo:0", "write e.g."),
        ("foo:65536", "write e.g."),
        ("foo:http", "write e.g."),
        ("foo:1/", "write e.g."),
        ("a b:1", "write e.g."),
        ("::1:50051", r"\[::1\]:50051"),
        ("dns:///", "dns:///queue-manager:50051"),
        ("unix:", "unix:/run"),
        ("http://127.0.0.1:50051", "without http://, e.g. 127.0.0.1:50051$"),
        ("https://qm.example:443/x", "without https://, e.g. qm.example:443$"),
        ("grpc://qm.example", "without grpc://, e.g. 127.0.0.1:50051$"),
    ],
)
def test_what_grpc_cannot_call_is_refused(text: str, remedy: str) -> None:
    """With an example, rather than a 503 for every request."""
    with pytest.raises(ValueError, match=remedy):
        parse_grpc_name(text)
