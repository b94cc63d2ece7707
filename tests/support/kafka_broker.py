"""A Kafka broker of a test's own, with every way to log in, and access rules.

KAFKA_CLASSPATH names Kafka's jars, as `java -cp` takes them.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.e2e.server_process import free_port

CLASSPATH: Final = os.environ.get("KAFKA_CLASSPATH", "")

USER: Final = "streamforge"
"""May do everything, in each of the ways to log in, and by its certificate."""
LIMITED: Final = "limited"
"""Can log in, and may do nothing."""
PASSWORD: Final = "correct-horse"
MECHANISMS: Final = ("SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN")

_SCRAM: Final = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
_PLAIN: Final = (
    "org.apache.kafka.common.security.plain.PlainLoginModule required "
    f'user_{USER}="{PASSWORD}" user_{LIMITED}="{PASSWORD}";'
)


class Broker:
    """`with` starts it, and ends it with its data."""

    def __init__(self, folder: Path) -> None:
        """Everything of it is in this folder."""
        self._folder = folder
        self.ports = {
            name: free_port() for name in ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL", "EXPIRED", "CONTROLLER")
        }
        self.ca = folder / "ca.pem"
        self.other_ca = folder / "other.pem"
        self.certificate, self.key = folder / "client.pem", folder / "client.key"
        self._process: subprocess.Popen[bytes] | None = None

    def address(self, listener: str) -> str:
        """Where it listens: for a security protocol, or EXPIRED, SASL_SSL with a certificate of yesterday."""
        return f"127.0.0.1:{self.ports[listener]}"

    def __enter__(self) -> Self:
        """Start it; what it says is in a file."""
        self._make_certificates()
        self._folder.joinpath("server.properties").write_text(self._properties())
        scram = [f"--add-scram={m}=[name={u},password={PASSWORD}]" for m in MECHANISMS[:2] for u in (USER, LIMITED)]
        self._java(
            "kafka.tools.StorageTool", "format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c", "server.properties", *scram
        )
        with self._folder.joinpath("log").open("wb") as log:
            self._process = subprocess.Popen(
                ["java", "-Xmx400m", "-cp", CLASSPATH, "kafka.Kafka", "server.properties"],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Kill it."""
        assert self._process is not None
        with suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()

    def _java(self, *words: str) -> None:
        done = subprocess.run(
            ["java", "-cp", CLASSPATH, *words],
            cwd=self._folder,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def _properties(self) -> str:
        listeners = ",".join(f"{name}://127.0.0.1:{port}" for name, port in self.ports.items())
        own = ",".join(f"{name}://127.0.0.1:{port}" for name, port in self.ports.items() if name != "CONTROLLER")
        protocols = {name: name for name in ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")}
        protocols |= {"EXPIRED": "SASL_SSL", "CONTROLLER": "PLAINTEXT"}
        found: dict[str, object] = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@{self.address('CONTROLLER')}",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "listeners": listeners,
            "advertised.listeners": own,
            "listener.security.protocol.map": ",".join(f"{name}:{kind}" for name, kind in protocols.items()),
            "log.dirs": self._folder / "data",
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 1,
            "group.initial.rebalance.delay.ms": 0,
            "sasl.enabled.mechanisms": ",".join(MECHANISMS),
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": self._folder / "broker-store.pem",
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": self.ca,
            "listener.name.ssl.ssl.client.auth": "required",
            "listener.name.expired.ssl.keystore.location": self._folder / "expired-store.pem",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": f"User:ANONYMOUS;User:{USER};User:CN={USER}",
        }
        for listener in ("sasl_plaintext", "sasl_ssl", "expired"):
            for mechanism in MECHANISMS:
                jaas = _PLAIN if mechanism == "PLAIN" else _SCRAM
                found[f"listener.name.{listener}.{mechanism.lower()}.sasl.jaas.config"] = jaas
        return "".join(f"{name}={value}\n" for name, value in found.items())

    def _make_certificates(self) -> None:
        for ca in ("ca", "other"):
            self._openssl(
                *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
                *("-subj", f"/CN=test {ca}", "-days", "2", "-keyout", f"{ca}.key", "-out", f"{ca}.pem"),
            )
        self._folder.joinpath("names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        for name, subject, days in (("broker", "broker", 2), ("expired", "broker", -1), ("client", USER, 2)):
            self._openssl(
                *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
                *("-subj", f"/CN={subject}", "-keyout", f"{name}.key", "-out", f"{name}.csr"),
            )
            self._openssl(
                *("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"),
                *("-days", str(days), "-extfile", "names", "-out", f"{name}.pem"),
            )
            whole = self._folder.joinpath(f"{name}.key").read_text() + self._folder.joinpath(f"{name}.pem").read_text()
            self._folder.joinpath(f"{name}-store.pem").write_text(whole + self.ca.read_text())

    def _openssl(self, *words: str) -> None:
        done = subprocess.run(["openssl", *words], cwd=self._folder, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr

    def access(self, protocol: str, mechanism: str = "", *, user: str = USER) -> Mapping[str, str]:
        """The variables that lead a server to it."""
        found = {"KAFKA_BOOTSTRAP_SERVERS": self.address(protocol), "QM_KAFKA_PROTOCOL": protocol}
        if protocol.startswith("SASL"):
            found |= {"KAFKA_USER": user, "KAFKA_PASSWORD": PASSWORD, "QM_KAFKA_MECHANISM": mechanism or MECHANISMS[0]}
        if protocol.endswith("SSL"):
            found["CA_PATH"] = str(self.ca)
        if protocol == "SSL":
            found |= {"QM_KAFKA_CERTIFICATE": str(self.certificate), "QM_KAFKA_KEY": str(self.key)}
        return found
