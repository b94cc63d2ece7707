"""The scripts that a Kafka installation has, made from KAFKA_CLASSPATH: Kafka's jars, those of its tools among them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.support.kafka_broker import CLASSPATH

TOOLS: Final = {
    "kafka-console-producer.sh": "org.apache.kafka.tools.ConsoleProducer",
    "kafka-console-consumer.sh": "org.apache.kafka.tools.consumer.ConsoleConsumer",
    "kafka-acls.sh": "org.apache.kafka.tools.AclCommand",
    "kafka-configs.sh": "kafka.admin.ConfigCommand",
    "kafka-topics.sh": "org.apache.kafka.tools.TopicCommand",
}

needs_tools = pytest.mark.skipif(not CLASSPATH, reason="KAFKA_CLASSPATH does not name Kafka's jars")


def path_with_tools(folder: Path) -> str:
    """A PATH with the scripts, which are made in this folder. Skips the test where the jars have not all of them."""
    for name, main in TOOLS.items():
        script = folder / name
        script.write_text(
            f'#!/bin/sh\nexec java -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -cp "$KAFKA_CLASSPATH" {main} "$@"\n'
        )
        script.chmod(0o755)
        tried = subprocess.run([script, "--version"], capture_output=True, text=True, check=False, timeout=60)
        if "ClassNotFoundException" in tried.stderr:
            pytest.skip(f"the jars of KAFKA_CLASSPATH have no {main}")
    return f"{folder}{os.pathsep}{os.environ['PATH']}"
