"""The queue in a laboratory, and workers as processes: to be killed, frozen and drained."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.chassis.clock import uuid7
from services.chassis.jobs.enqueue import spec
from services.chassis.testing import Lab, laboratory, until
from services.queue.app import build as queue
from tests.servers import Shared
from weft.jobs.v1.job_pb2 import JobState
from weft.queue.v1 import job_messages_pb2 as pb, job_pb2
from weft.queue.v1.job_pb2_grpc import JobServiceStub

ROOT = Path(__file__).parent.parent.parent
FINAL = {
    JobState.JOB_STATE_SUCCEEDED,
    JobState.JOB_STATE_FAILED,
    JobState.JOB_STATE_CANCELLED,
    JobState.JOB_STATE_EXPIRED,
}
ENDS_S = 40.0  # A process starts, is killed, and another one takes over, on a machine that is busy.


@dataclass
class Workshop:
    """One queue, any number of workers."""

    lab: Lab
    folder: Path
    modules: Sequence[str] = ("tests.worker.handlers",)
    processes: list[asyncio.subprocess.Process] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.jobs: Any = JobServiceStub(self.lab.channel)  # type: ignore[no-untyped-call]
        self.who = self.lab.bearer()

    async def worker(self, *words: str, **settings: str) -> asyncio.subprocess.Process:
        """A worker that is at work; its log is in `folder`."""
        number = len(self.processes)
        environ = os.environ | {
            "PYTHONPATH": f"{ROOT}:{ROOT / 'gen'}",
            "WEFT_DEVELOPMENT": "1",
            "WEFT_NATS_URL": self.lab.settings.nats_url,
            "WEFT_MESH_ADDRESS": f"127.0.0.1:{self.lab.hosted.port}",
            "WEFT_METRICS_ADDRESS": "",
            **settings,
        }
        with self.log(number).open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "services.worker", *self.modules, *words,
                env=environ, stdout=log, stderr=log, stdin=asyncio.subprocess.DEVNULL, cwd=ROOT,
            )  # fmt: skip
        self.processes.append(process)
        await until(lambda: self._at_work(number), ENDS_S)
        return process

    async def _at_work(self, number: int) -> bool:
        ended = self.processes[number].returncode is not None
        text = await asyncio.to_thread(self.log(number).read_text)  # After: some end of their first job.
        if ended and '"at work"' not in text:
            raise RuntimeError(text)
        return '"at work"' in text

    def log(self, number: int) -> Path:
        return self.folder / f"worker-{number}.log"

    async def enqueue(self, type_name: str, value: Any = None, **fields: Any) -> str:
        job = spec(type_name, value, job_id=str(uuid7()), **fields)
        await self.jobs.EnqueueJob(pb.EnqueueJobRequest(job=job), metadata=self.who)
        return job.job_id

    async def get(self, job_id: str) -> pb.Job:
        return (await self.jobs.GetJob(pb.GetJobRequest(job_id=job_id), metadata=self.who)).job  # type: ignore[no-any-return]

    async def end(self, job_id: str) -> pb.Job:
        """The job, once it has ended."""

        async def ended() -> pb.Job | None:
            job = await self.get(job_id)
            return job if job.state in FINAL else None

        return await until(ended, ENDS_S)  # type: ignore[no-any-return]

    async def attempts(self, job_id: str) -> Any:
        request = job_pb2.ListAttemptsRequest(job_id=job_id)
        return (await self.jobs.ListAttempts(request, metadata=self.who)).attempts

    async def close(self) -> None:
        for process in self.processes:
            if process.returncode is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            await process.wait()


@asynccontextmanager
async def workshop(servers: Shared, folder: Path) -> AsyncIterator[Workshop]:
    async with AsyncExitStack() as stack:
        lab = await stack.enter_async_context(
            laboratory({"queue": queue}, postgres_url=servers.postgres(), nats_url=servers.account())
        )
        made = Workshop(lab, folder)
        stack.push_async_callback(made.close)
        yield made
