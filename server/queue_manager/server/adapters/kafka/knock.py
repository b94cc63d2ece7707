"""Whether a broker lets us in, and in plain words why not.

The library's clients try one broker after the other, log what each said, and raise only that none could be reached. So
each client is preceded by a connection that is made for its answer.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from typing import Any, Final

from aiokafka.conn import AIOKafkaConnection, create_conn
from aiokafka.errors import (
    AuthenticationFailedError,
    IllegalSaslStateError,
    KafkaConnectionError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)

from queue_manager.server.adapters.kafka.access import CLIENT_ID, Access
from queue_manager.server.adapters.kafka.faults import told
from queue_manager.server.domain.errors import Unavailable

PATIENCE: Final = 5.0
"""Seconds in which a broker has to let us in."""


async def knock(access: Access) -> dict[str, Any]:
    """Have one of the brokers let us in; the options with which it did. Raises `Unavailable`: what each of them said."""
    options = access.options()
    refused = []
    for server in options["bootstrap_servers"]:
        host, _, port = server.rpartition(":")
        try:
            async with asyncio.timeout(PATIENCE):
                connection: AIOKafkaConnection = await create_conn(
                    host.strip("[]"), int(port), **_of_connection(options), request_timeout_ms=int(PATIENCE * 1000)
                )
        except (KafkaError, OSError, TimeoutError, ValueError) as error:
            refused.append(f"{server}: {_why(error, access)}")
        else:
            connection.close()
            return options
    raise Unavailable(f"no broker lets us in: {'; '.join(refused)}")


def _of_connection(options: dict[str, Any]) -> dict[str, Any]:
    found = {name: value for name, value in options.items() if name != "bootstrap_servers"}
    return {**found, "client_id": CLIENT_ID}


def _why(error: BaseException, access: Access) -> str:
    """In words of the settings that may be wrong."""
    while isinstance(error, KafkaConnectionError) and isinstance(error.__cause__ or error.__context__, OSError):
        error = error.__cause__ or error.__context__ or error
    match error:
        case socket.gaierror():
            return f"its name cannot be resolved ({error.strerror}); see KAFKA_BOOTSTRAP_SERVERS"
        case ssl.SSLCertVerificationError():
            return f"its certificate is not accepted: {error.verify_message.rstrip('.')}; see CA_PATH"
        case ssl.SSLError():
            return f"TLS fails ({error.reason or told(error)}); see QM_KAFKA_PROTOCOL and QM_KAFKA_CERTIFICATE"
        case OSError() if f"[Errno {errno.ECONNREFUSED}]" in str(error):  # of several addresses it is one of each
            return "nobody listens there"
        case SaslAuthenticationFailed() | AuthenticationFailedError() | ValueError():
            where = "QM_KAFKA_PASSWORD_FILE" if access.password_file else "KAFKA_PASSWORD"
            return f"it does not know user {access.user} with this password ({told(error)}); see KAFKA_USER and {where}"
        case UnsupportedSaslMechanismError():
            return f"it does not offer {access.mechanism}; see QM_KAFKA_MECHANISM"
        case TimeoutError():
            return f"it has not answered within {PATIENCE:.0f} s"
        case KafkaConnectionError() | ConnectionResetError() | IllegalSaslStateError():
            return f"it does not go on; does it speak {access.protocol} there? See QM_KAFKA_PROTOCOL ({told(error)})"
    return told(error)
