"""Workers in pods that speak Kafka: both user pipelines, as on the platform, over SASL_SSL with secrets from the cluster.

QUEUE_MANAGER_IMAGE names an image on the node with this wheel, KAFKA_POD_SASL_BOOTSTRAP_SERVERS the brokers as pods reach
them.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from queue_manager.client import AsyncClient
from queue_manager.server.adapters.kubernetes.manifest import QUEUE_ID
from queue_manager.v1 import queue_pb2
from tests.e2e.server_process import ServerProcess
from tests.integration.test_kafka_server import SECURE, access, own_topics, payload, replayed
from tests.support.kubernetes import SECRET, core_api, make_namespace, needs_cluster, remove_namespace
from tests.support.local_workers import until

IMAGE = os.environ.get("QUEUE_MANAGER_IMAGE", "")
FROM_PODS = os.environ.get("KAFKA_POD_SASL_BOOTSTRAP_SERVERS", "")

pytestmark = [
    pytest.mark.integration,
    needs_cluster,
    pytest.mark.skipif(not IMAGE, reason="QUEUE_MANAGER_IMAGE names no image on the node"),
    pytest.mark.skipif(
        not (SECURE and FROM_PODS), reason="KAFKA_SASL_BOOTSTRAP_SERVERS, also with _POD_, name no brokers"
    ),
    pytest.mark.timeout(300),
]

TARGETS = ("loader-producer", "arango-connector", "graph-builder", "gnn-trainer", "visualizer")
CATALOGUE = "targets:\n" + "".join(
    f"""  {target}:
    image: {IMAGE}
    command: [queue-manager, simulated-worker]
    environment: {{KAFKA_BOOTSTRAP_SERVERS: "{FROM_PODS}"}}
    kubernetes: {{requests: {{cpu: 10m, memory: 48Mi}}}}
"""
    for target in TARGETS
)


@pytest.fixture
async def namespace() -> AsyncIterator[str]:
    """With the secrets that workers are given."""
    secrets = {"kafka-password": os.environ["KAFKA_PASSWORD"], "ca.crt": Path(os.environ["CA_PATH"]).read_text()}  # noqa: ASYNC240 - a test
    name = await make_namespace(secrets, {"pod-security.kubernetes.io/enforce": "restricted"})
    yield name
    await remove_namespace(name)


async def test_both_pipelines_with_workers_in_pods_over_kafka(namespace: str, tmp_path: Path) -> None:
    """The one finishes with all that its workers said, the other stops because its workers hear of it; no pod is left."""
    topics, catalogue = own_topics(), tmp_path / "targets.yaml"
    catalogue.write_text(CATALOGUE)
    server = ServerProcess(
        tmp_path,
        **access(),
        **topics,
        QM_RUNNER="kubernetes",
        K8S_NAMESPACE=namespace,
        QM_CATALOGUE=str(catalogue),
        QM_KUBERNETES_SECRET=SECRET,
    )
    async with server, AsyncClient(server.address, timeout=60) as client:
        historical = (await client.start_queue(payload("historical"))).queue.queue_id
        async for frame in client.watch(historical):
            last = frame.queue
        assert last.state == queue_pb2.QUEUE_STATE_FINISHED, last
        loaded = {job.kafka_topic: job.records_written for job in last.jobs if job.target == "loader-producer"}
        saved = {job.kafka_topic: job.records_written for job in last.jobs if job.target == "arango-connector"}
        assert loaded == saved == dict.fromkeys(loaded, 9000)
        realtime = (await client.start_queue(payload("realtime"))).queue.queue_id
        async for frame in client.watch(realtime):
            if all(job.records_written for job in frame.queue.jobs):
                break
        stopped = await client.stop_queue(realtime, grace_period=90, wait=True, timeout=120)
        assert stopped.state == queue_pb2.QUEUE_STATE_STOPPED
        assert {job.exit_code for job in stopped.jobs} == {0}

        async def gone() -> bool:
            async with core_api() as api:
                return not (await api.list_namespaced_pod(namespace, label_selector=f"{QUEUE_ID}={realtime}")).items

        await until(gone, within=10)
        assert await server.terminate() == 0
    assert set((await replayed(topics, historical, "finished")).values()) == {"finished"}
