"""How to reach the brokers: addresses, security, and files that may change while the server runs."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from aiokafka.helpers import create_ssl_context

from queue_manager.server.domain.errors import Unavailable

Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Mechanism = Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"]

CLIENT_ID: Final = "queue-manager"


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What every client is made with. Files are read whenever one is made, so a new client has what they say then."""

    bootstrap_servers: str
    """`host:port`, joined by commas."""
    protocol: Protocol = "PLAINTEXT"
    mechanism: Mechanism = "SCRAM-SHA-512"
    user: str = ""
    password: str = ""
    password_file: Path | None = None
    """Goes before `password`."""
    ca_path: Path | None = None
    """PEM; None: the system's authorities."""
    certificate_path: Path | None = None
    """PEM, with the chain: who we are, where the brokers want that by TLS."""
    key_path: Path | None = None

    def options(self) -> dict[str, Any]:
        """Arguments of every aiokafka client. Raises `Unavailable` where a file cannot be read."""
        found: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap_servers.split(","),
            "client_id": CLIENT_ID,
            "security_protocol": self.protocol,
        }
        try:
            if self.protocol.startswith("SASL"):
                password = self.password_file.read_text().strip() if self.password_file else self.password
                found |= {
                    "sasl_mechanism": self.mechanism,
                    "sasl_plain_username": self.user,
                    "sasl_plain_password": password,
                }
            if self.protocol.endswith("SSL"):
                found["ssl_context"] = create_ssl_context(
                    cafile=self.ca_path, certfile=self.certificate_path, keyfile=self.key_path
                )
        except (OSError, ValueError, ssl.SSLError) as error:
            files = "CA_PATH, QM_KAFKA_CERTIFICATE, QM_KAFKA_KEY and QM_KAFKA_PASSWORD_FILE"
            raise Unavailable(f"Kafka's credentials cannot be read: {error}; see {files}") from error
        return found

    def stamp(self) -> tuple[float, ...]:
        """Differs once one of the files has been written anew."""
        files = (self.password_file, self.ca_path, self.certificate_path, self.key_path)
        return tuple(_written(path) for path in files if path is not None)


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
