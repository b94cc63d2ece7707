"""Settings from the environment and `.env`: defaults, ways to write values, and errors that say what to do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queue_manager.server.settings import (
    ListenAddress,
    Settings,
    SettingsError,
    load_settings,
)
from queue_manager.server.settings.groups import GATEWAY, GROUPS
from queue_manager.server.settings.kinds import format_duration, format_size, parse_duration, parse_size

OURS = (
    "QM_",
    "KAFKA_",
    "ARANGO_",
    "QUEUE_",
    "K8S_",
    "CA_PATH",
    "LOADER_",
    "CONSUMER_",
    "GNN_",
    "VISUALIZER_",
    "GRAPH_",
)
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def nothing_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without any of the variables, in an empty directory."""
    for name in list(os.environ):
        if name.startswith(OURS):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def ca(tmp_path: Path) -> str:
    """A file to be the brokers' CA."""
    path = tmp_path / "ca.pem"
    path.write_text("-----BEGIN CERTIFICATE-----")
    return str(path)


def settings(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Settings:
    """The settings with these variables set."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return load_settings()


def problems(monkeypatch: pytest.MonkeyPatch, **variables: str) -> dict[str, str]:
    """What is wrong with these variables: variable → the rest of its line."""
    with pytest.raises(SettingsError) as caught:
        settings(monkeypatch, **variables)
    return by_variable(caught.value)


def by_variable(error: SettingsError) -> dict[str, str]:
    """The lines of an error."""
    found = {}
    for line in error.message.splitlines():
        name, _, rest = line.partition(": ")
        assert "; " in rest, f"no remedy in {line!r}"
        found[name] = rest
    return found


def test_with_nothing_set_everything_has_its_documented_default() -> None:
    """Contracts, section 7; and the embedded parts."""
    found = load_settings()
    assert str(found.grpc.listen) == "127.0.0.1:50051"
    assert str(found.metrics.listen) == "127.0.0.1:9090"
    assert found.storage.data_dir == Path(".queue-manager")
    assert found.storage.retention == 30 * 86400
    assert found.runner.runner == "local"
    assert found.logging.format is None
    assert (found.kafka.control_topic, found.kafka.events_topic) == ("queue-control", "queue-events")
    assert found.secrets() == {}
    assert found.images() == {}
    assert found.notices == []
    assert found.parts() == [
        ("store", "sqlite", "embedded default"),
        ("runner", "local", "embedded default"),
        ("bus", "in-process", "embedded default"),
    ]


def test_everything_can_be_set(monkeypatch: pytest.MonkeyPatch, ca: str) -> None:
    """Under the names of the contract."""
    found = settings(
        monkeypatch,
        QM_GRPC_LISTEN="0.0.0.0:0",
        QM_METRICS_LISTEN="[::1]:9100",
        QM_DATA_DIR="~/data",
        QM_RUNNER="Local",
        QM_RETENTION="12h",
        QM_LOG_FORMAT="json",
        QM_LOG_LEVEL="DEBUG",
        QM_STOP_GRACE="0",
        QM_LINGER_GRACE="90",
        QM_DRAIN_SETTLE="500ms",
        QM_HEARTBEAT="1.5",
        QM_SHUTDOWN_GRACE="5s",
        QM_MAX_WATCHERS="7",
        QM_MAX_MESSAGE_BYTES="4MiB",
        QM_HISTORY="100",
        QM_SWEEP="2m",
        QM_TELEMETRY_INTERVAL="0",
        K8S_NAMESPACE="streamforge",
        KAFKA_BOOTSTRAP_SERVERS="kafka-0:9093, kafka-1:9093",
        KAFKA_USER="user1",
        KAFKA_PASSWORD="hunter2",
        CA_PATH=ca,
        QUEUE_CONTROL_TOPIC="control",
        QUEUE_EVENTS_TOPIC="events",
        ARANGO_URL="http://arango:8529",
        ARANGO_DB="streamforge",
        ARANGO_USER="root",
        ARANGO_PASSWORD="{not: json",
        LOADER_IMAGE="l:1",
        ARANGO_CONNECTOR_IMAGE="c:1",
        GNN_TRAINER_IMAGE="t:1",
        VISUALIZER_IMAGE="v:1",
        GRAPH_BUILDER_IMAGE="g:1",
    )
    assert found.grpc.listen == ListenAddress("0.0.0.0", 0)
    assert found.metrics.listen == ListenAddress("::1", 9100)
    assert str(found.metrics.listen) == "[::1]:9100"
    assert found.storage.data_dir == Path.home() / "data"
    assert (found.storage.retention, found.storage.history) == (43200.0, 100)
    assert (found.logging.format, found.logging.level) == ("json", "debug")
    timings = found.timings()
    assert (timings.stop_grace, timings.linger_grace, timings.drain_settle) == (0.0, 90.0, 0.5)
    assert (found.watch.heartbeat, found.watch.max_watchers) == (1.5, 7)
    assert (found.grpc.shutdown_grace, found.grpc.max_message_bytes) == (5.0, 4 * 2**20)
    assert (found.controller.sweep, found.controller.telemetry_window) == (120.0, 0.0)
    assert found.kafka.bootstrap_servers == "kafka-0:9093,kafka-1:9093"
    assert found.secrets() == {"kafka-password": "hunter2", "arango-password": "{not: json"}
    assert found.images() == {
        "loader-producer": "l:1",
        "arango-connector": "c:1",
        "gnn-trainer": "t:1",
        "visualizer": "v:1",
        "graph-builder": "g:1",
    }
    parts = {part: (choice, why) for part, choice, why in found.parts()}
    assert parts["store"][0] == "sqlite"
    assert "later version" in parts["store"][1]
    assert parts["bus"] == ("kafka", "KAFKA_BOOTSTRAP_SERVERS")
    assert parts["runner"] == ("local", "QM_RUNNER")


def test_secrets_do_not_show(monkeypatch: pytest.MonkeyPatch, ca: str) -> None:
    """In no text of the settings or of their errors."""
    kafka = {"KAFKA_BOOTSTRAP_SERVERS": "k:1", "KAFKA_USER": "u", "CA_PATH": ca}
    found = settings(monkeypatch, KAFKA_PASSWORD="hunter2", **kafka)
    assert "hunter2" not in f"{found!r} {found} {found.parts()}"
    wrong = problems(monkeypatch, KAFKA_PASSWORD="hunter2\n", ARANGO_URL="http://root:hunter2@arango", QM_HISTORY="x")
    assert set(wrong) >= {"KAFKA_PASSWORD", "ARANGO_URL", "QM_HISTORY"}
    assert "hunter2" not in str(wrong)


def test_a_dotenv_file_is_read_and_the_environment_goes_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty variable is none, so the file's value holds."""
    Path(".env").write_text('QM_RETENTION=1d\nQM_SWEEP=5\nQM_HEARTBEAT="7"\nQM_RETENTON=3\nOTHER=1\n')
    found = settings(monkeypatch, QM_SWEEP="6", QM_HEARTBEAT="", KAFKA_USER="")
    assert found.storage.retention == 86400.0
    assert found.controller.sweep == 6.0
    assert found.watch.heartbeat == 7.0
    assert found.notices == ["QM_RETENTON is set, but nothing reads it; did you mean QM_RETENTION?"]


def test_a_half_set_group_across_file_and_environment_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a value stands does not matter."""
    Path(".env").write_text("ARANGO_URL=http://a\nARANGO_DB=d\nARANGO_USER=u\n")
    assert settings(monkeypatch, ARANGO_PASSWORD="p").arango.db == "d"


@pytest.mark.parametrize("content", [b"QM_SWEEP=\xff\xfe\n"])
def test_a_dotenv_file_that_is_no_text_is_an_error(content: bytes) -> None:
    """It names the file."""
    Path(".env").write_bytes(content)
    with pytest.raises(SettingsError, match=r"\.env: cannot be read"):
        load_settings()


def test_all_problems_come_at_once_a_line_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of the documentation, each with a remedy, and no traceback of a library."""
    wrong = problems(
        monkeypatch,
        QM_GRPC_LISTEN="50051",
        QM_METRICS_LISTEN="localhost:99999",
        QM_STOP_GRACE="soon",
        QM_HEARTBEAT="0",
        QM_RETENTION="-1",
        QM_MAX_WATCHERS="many",
        QM_MAX_MESSAGE_BYTES="1",
        QM_LOG_FORMAT="xml",
        QM_LOG_LEVEL="loud",
        QM_RUNNER="docker",
        QM_KUBERNETES_SECRET="Not_One",
        K8S_NAMESPACE="Not_One",
        KAFKA_BOOTSTRAP_SERVERS="kafka",
        KAFKA_USER="u",
        QUEUE_EVENTS_TOPIC="a b",
        ARANGO_DB="d",
    )
    assert list(wrong) == [
        "QM_GRPC_LISTEN",
        "QM_MAX_MESSAGE_BYTES",
        "QM_METRICS_LISTEN",
        "QM_RETENTION",
        "QM_RUNNER",
        "K8S_NAMESPACE",
        "QM_KUBERNETES_SECRET",
        "QM_STOP_GRACE",
        "QM_HEARTBEAT",
        "QM_MAX_WATCHERS",
        "QM_LOG_FORMAT",
        "QM_LOG_LEVEL",
        "KAFKA_BOOTSTRAP_SERVERS",
        "KAFKA_PASSWORD",
        "CA_PATH",
        "QUEUE_EVENTS_TOPIC",
        "ARANGO_URL",
        "ARANGO_USER",
        "ARANGO_PASSWORD",
    ]
    assert not any("pydantic" in text or "Value error" in text for text in wrong.values())
    assert "at least 1024" in wrong["QM_MAX_MESSAGE_BYTES"]
    assert "'local'" in wrong["QM_RUNNER"]


@pytest.mark.parametrize(
    ("given_variables", "missing"),
    [
        (("KAFKA_USER",), {"KAFKA_BOOTSTRAP_SERVERS", "KAFKA_PASSWORD", "CA_PATH"}),
        (("KAFKA_BOOTSTRAP_SERVERS", "KAFKA_USER", "CA_PATH"), {"KAFKA_PASSWORD"}),
        (("KAFKA_BOOTSTRAP_SERVERS", "KAFKA_USER", "KAFKA_PASSWORD"), {"CA_PATH"}),
        (("KAFKA_BOOTSTRAP_SERVERS", "CA_PATH"), {"KAFKA_USER", "KAFKA_PASSWORD"}),
        (("KAFKA_USER", "KAFKA_PASSWORD", "CA_PATH"), {"KAFKA_BOOTSTRAP_SERVERS"}),
        (("ARANGO_URL",), {"ARANGO_DB", "ARANGO_USER", "ARANGO_PASSWORD"}),
        (("ARANGO_URL", "ARANGO_DB", "ARANGO_USER"), {"ARANGO_PASSWORD"}),
        (("ARANGO_PASSWORD",), {"ARANGO_URL", "ARANGO_DB", "ARANGO_USER"}),
    ],
)
def test_a_half_set_group_names_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, ca: str, given_variables: tuple[str, ...], missing: set[str]
) -> None:
    """And what asks for it."""
    values = {
        "KAFKA_BOOTSTRAP_SERVERS": "kafka:9093",
        "KAFKA_USER": "u",
        "KAFKA_PASSWORD": "p",
        "CA_PATH": ca,
        "ARANGO_URL": "http://arango:8529",
        "ARANGO_DB": "d",
        "ARANGO_USER": "u",
        "ARANGO_PASSWORD": "p",
    }
    wrong = problems(monkeypatch, **{name: values[name] for name in given_variables})
    assert set(wrong) == missing
    assert all(given_variables[-1] in text for text in wrong.values())


def test_plaintext_kafka_needs_only_its_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """With neither user nor CA (contracts, section 7)."""
    assert settings(monkeypatch, KAFKA_BOOTSTRAP_SERVERS="kafka:9092").kafka.user == ""


@pytest.mark.parametrize(
    ("variables", "wrong_ones"),
    [
        ({"QM_KAFKA_PROTOCOL": "SSL"}, {}),
        ({"QM_KAFKA_PROTOCOL": "SSL", "CA_PATH": "CA", "QM_KAFKA_CERTIFICATE": "CA", "QM_KAFKA_KEY": "CA"}, {}),
        (
            {
                "QM_KAFKA_PROTOCOL": "SASL_PLAINTEXT",
                "KAFKA_USER": "u",
                "KAFKA_PASSWORD": "p",
                "QM_KAFKA_MECHANISM": "PLAIN",
            },
            {},
        ),
        ({"QM_KAFKA_PASSWORD_FILE": "CA", "KAFKA_USER": "u", "CA_PATH": "CA"}, {}),
        ({"QM_KAFKA_PROTOCOL": "SASL_SSL", "KAFKA_USER": "u"}, {"KAFKA_PASSWORD": "which SASL_SSL needs"}),
        ({"QM_KAFKA_PROTOCOL": "PLAINTEXT", "KAFKA_USER": "u"}, {"KAFKA_USER": "PLAINTEXT has no use for it"}),
        (
            {"QM_KAFKA_PROTOCOL": "SASL_PLAINTEXT", "KAFKA_USER": "u", "KAFKA_PASSWORD": "p", "CA_PATH": "CA"},
            {"CA_PATH": "no use"},
        ),
        ({"QM_KAFKA_PROTOCOL": "SSL", "QM_KAFKA_KEY": "CA"}, {"QM_KAFKA_CERTIFICATE": "while QM_KAFKA_KEY is set"}),
        ({"QM_KAFKA_PROTOCOL": "SSL", "QM_KAFKA_MECHANISM": "PLAIN"}, {"QM_KAFKA_MECHANISM": "SSL has no use"}),
        (
            {"KAFKA_USER": "u", "KAFKA_PASSWORD": "p", "QM_KAFKA_PASSWORD_FILE": "CA", "CA_PATH": "CA"},
            {"QM_KAFKA_PASSWORD_FILE": "unset one of them"},
        ),
        ({"QM_KAFKA_PROTOCOL": "TLS"}, {"QM_KAFKA_PROTOCOL": "'SASL_SSL'"}),
        ({"QM_KAFKA_PROTOCOL": "SSL", "CA_PATH": "/nowhere.pem"}, {"CA_PATH": "/nowhere.pem does not exist"}),
    ],
)
def test_each_kafka_protocol_names_what_it_needs_and_what_it_has_no_use_for(
    monkeypatch: pytest.MonkeyPatch, ca: str, variables: dict[str, str], wrong_ones: dict[str, str]
) -> None:
    """Rather than going on without a password, or with one that nobody asks for."""
    given = {name: ca if value == "CA" else value for name, value in variables.items()}
    if not wrong_ones:
        kafka = settings(monkeypatch, KAFKA_BOOTSTRAP_SERVERS="kafka:9093", **given).kafka
        assert kafka.protocol == variables.get("QM_KAFKA_PROTOCOL", "")
        return
    wrong = problems(monkeypatch, KAFKA_BOOTSTRAP_SERVERS="kafka:9093", **given)
    assert set(wrong) == set(wrong_ones)
    for name, text in wrong_ones.items():
        assert text in wrong[name]


def test_a_password_in_a_file_is_read_when_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, ca: str, tmp_path: Path
) -> None:
    """It may be another one by then; the line break that editors leave is none of it."""
    file = tmp_path / "password"
    file.write_text("old\n")
    found = settings(
        monkeypatch,
        KAFKA_BOOTSTRAP_SERVERS="kafka:9093",
        KAFKA_USER="u",
        QM_KAFKA_PASSWORD_FILE=str(file),
        CA_PATH=ca,
    )
    assert found.secrets() == {"kafka-password": "old"}
    file.write_text("new")
    assert found.kafka.secret() == "new"


def test_what_joins_in_a_later_version_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Rather than being ignored."""
    wrong = problems(monkeypatch, QM_RUNNER="nomad", CA_PATH=str(tmp_path))
    assert "must be 'local' or 'kubernetes'" in wrong["QM_RUNNER"]
    assert "is not a file" in wrong["CA_PATH"]


def test_contradictions_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two values for one thing, one value for two things."""
    wrong = problems(
        monkeypatch,
        CONSUMER_IMAGE="a",
        ARANGO_CONNECTOR_IMAGE="b",
        QUEUE_EVENTS_TOPIC="queue-control",
        QM_METRICS_LISTEN="127.0.0.1:50051",
    )
    assert set(wrong) == {"ARANGO_CONNECTOR_IMAGE", "QUEUE_EVENTS_TOPIC", "QM_METRICS_LISTEN"}


def test_both_names_of_the_connectors_image_may_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are the same image's."""
    found = settings(monkeypatch, CONSUMER_IMAGE="a", ARANGO_CONNECTOR_IMAGE="a")
    assert found.images() == {"arango-connector": "a"}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30", 30), ("0.2", 0.2), ("200ms", 0.2), ("90m", 5400), ("1h 30m", 5400), ("30d", 2592000), (" 5 s ", 5), (7, 7)],
)
def test_durations_are_seconds_or_have_units(text: object, seconds: float) -> None:
    """Everywhere."""
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "5 x", "1h-30m", "-5", "nan", "inf", "1e999", "5m!", "1,5"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """With an example."""
    with pytest.raises(ValueError, match="is not a duration; write"):
        parse_duration(text)


@given(st.floats(0, 1e8).map(lambda value: round(value, 3)))
def test_a_duration_reads_back_as_it_is_shown(seconds: float) -> None:
    """To the millisecond."""
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, abs=1e-6)


@given(st.integers(0, 2**40))
def test_a_size_reads_back_as_it_is_shown(size: int) -> None:
    """To the byte."""
    assert parse_size(format_size(size)) == size


@pytest.mark.parametrize("text", ["", "1MB", "-1", "1.5MiB", "x"])
def test_what_is_no_size_is_refused(text: str) -> None:
    """With an example."""
    with pytest.raises(ValueError, match="is not a size; write"):
        parse_size(text)


def test_every_variable_is_described_and_stands_once() -> None:
    """The descriptions are the documentation."""
    fields = [field for group in dict.fromkeys((*GROUPS, *GATEWAY)) for field in group.model_fields.values()]
    names = [str(field.validation_alias) for field in fields]
    assert len(names) == len(set(names))
    assert all(field.description and field.description.endswith(".") for field in fields)
    assert not any("|" in (field.description or "") for field in fields)


def test_the_table_has_every_variable() -> None:
    """As the script prints it for README."""
    script = ROOT / "scripts" / "configuration_table.py"
    table = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True, timeout=60).stdout
    names = [
        str(field.validation_alias)
        for group in dict.fromkeys((*GROUPS, *GATEWAY))
        for field in group.model_fields.values()
    ]
    for name in names:
        assert f"| `{name}` |" in table
    assert "| `QM_RETENTION` | `30d` |" in table
    assert "| `QM_MAX_MESSAGE_BYTES` | `1MiB` |" in table
