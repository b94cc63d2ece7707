"""Objects as they come over the wire."""

from __future__ import annotations

from queue_manager.server.adapters.kubernetes.objects import JOBS, MAGIC
from queue_manager.wire import kubernetes_pb2 as wire

NOTE = "queue-manager.streamforge.io/note"


def test_a_text_that_is_no_utf_8_spoils_neither_its_object_nor_the_list() -> None:
    """Kubernetes takes any bytes in an annotation, from whoever may write one."""
    odd = wire.Job(
        metadata=wire.ObjectMeta(name=b"odd", annotations=[wire.Entry(key=NOTE.encode(), value=b"caf\xe9")]),
    )
    even = wire.Job(metadata=wire.ObjectMeta(name=b"even"))
    page = wire.JobList(metadata=wire.ListMeta(resource_version=b"7"), items=[odd, even])
    found = JOBS.read_list(MAGIC + wire.Unknown(raw=page.SerializeToString()).SerializeToString())
    assert [job.metadata.name for job in found.items] == ["odd", "even"]
    assert found.items[0].metadata.annotations == {NOTE: "caf\ufffd"}
    assert found.version == "7"


def test_what_others_write_of_an_object_is_not_read() -> None:
    """Neither kept for ten thousand of them, nor taken for news."""
    names = (NOTE, "app.kubernetes.io/managed-by", "batch.kubernetes.io/job-name")
    entries = [wire.Entry(key=name.encode(), value=b"ours") for name in names]
    others = [wire.Entry(key=name.encode(), value=b"theirs") for name in ("team", "app.kubernetes.io/name")]
    meta = wire.ObjectMeta(name=b"a", labels=entries + others, annotations=others + entries[:1])
    raw = wire.Job(metadata=meta).SerializeToString()
    found = JOBS.read(MAGIC + wire.Unknown(raw=raw).SerializeToString()).metadata
    assert found.labels == dict.fromkeys(names, "ours")
    assert found.annotations == {NOTE: "ours"}
