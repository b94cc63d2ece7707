"""Objects as they come over the wire."""

from __future__ import annotations

from queue_manager.server.adapters.kubernetes.objects import JOBS, MAGIC
from queue_manager.wire import kubernetes_pb2 as wire


def test_a_text_that_is_no_utf_8_spoils_neither_its_object_nor_the_list() -> None:
    """Kubernetes takes any bytes in an annotation, from whoever may write one."""
    odd = wire.Job(
        metadata=wire.ObjectMeta(name=b"odd", annotations=[wire.Entry(key=b"note", value=b"caf\xe9")]),
    )
    even = wire.Job(metadata=wire.ObjectMeta(name=b"even"))
    page = wire.JobList(metadata=wire.ListMeta(resource_version=b"7"), items=[odd, even])
    found = JOBS.read_list(MAGIC + wire.Unknown(raw=page.SerializeToString()).SerializeToString())
    assert [job.metadata.name for job in found.items] == ["odd", "even"]
    assert found.items[0].metadata.annotations == {"note": "caf\ufffd"}
    assert found.version == "7"
