"""For people who write workers: what the Queue Manager gives a worker, and what it expects of one, as an asyncio function.

    from queue_manager.worker import Worker, run

    async def work(worker: Worker) -> None:
        for number in range(100):
            await asyncio.sleep(0.1)
            await worker.loading(f"{number} done", records_written=number)

    run(work)

`run` reads the environment, tells of the start and the end, answers `ping`, turns `stop` and SIGTERM into one cancellation
of the function, and exits with the right code. It speaks Kafka where KAFKA_BOOTSTRAP_SERVERS is set (`pip install
streamforge-queue-manager[worker]`), else standard input and output. docs/worker.md is a tutorial.
"""

from queue_manager.worker.environment import Environment
from queue_manager.worker.life import Exit, run
from queue_manager.worker.worker import Worker

__all__ = ["Environment", "Exit", "Worker", "run"]
