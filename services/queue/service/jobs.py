"""weft.queue.v1.JobService."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from uuid import UUID

from services.chassis.method import Call
from services.queue.service.intake import Taken
from services.queue.service.listing import Marks, Pages
from services.queue.service.pack import moment
from services.queue.service.shared import Shared
from services.queue.service.steering import Steering
from services.queue.service.viewing import Views, enqueued
from services.queue.service.watching import Watching
from weft.jobs.v1.job_pb2 import PRIORITY_HIGH
from weft.queue.v1 import job_messages_pb2 as pb, job_pb2
from weft.queue.v1.job_pb2_grpc import JobServiceServicer
from weft.queue.v1.spec_pb2 import JobSpec


class Jobs(JobServiceServicer):
    def __init__(self, shared: Shared, steering: Steering) -> None:
        self._shared, self._steering = shared, steering
        self._views = Views(shared.db, shared.days, shared.clock, shared.running)
        self._pages = Pages(shared.db, shared.days, shared.clock, shared.running)
        self._marks = Marks(shared.page_key)
        self._watching = Watching(shared, self._views)

    async def EnqueueJob(self, request: pb.EnqueueJobRequest, call: Call) -> pb.EnqueueJobResponse:
        prepared = self._shared.intake.prepare(request.job)
        taken = await self._shared.intake.take(prepared)
        if taken.publish:  # New, and nothing holds it up: how it stands is known without a look.
            job = enqueued(prepared.envelope, prepared.new.routed_by, self._shared.clock.now())
        else:
            job = await self._views.get(taken.job_id)
        return pb.EnqueueJobResponse(job=job, enqueued=taken.new)

    async def EnqueueBatch(self, request: pb.EnqueueBatchRequest, call: Call) -> pb.EnqueueBatchResponse:
        if request.HasField("group"):
            for spec in request.jobs:
                spec.group_id = request.group.group_id
        jobs = [self._shared.intake.prepare(spec) for spec in request.jobs]
        group = request.group if request.HasField("group") else None
        taken = await self._shared.intake.take_all(jobs, group)
        return pb.EnqueueBatchResponse(
            job_ids=[str(each.job_id) for each in taken],
            enqueued=sum(each.new for each in taken),
            skipped=[n for n, each in enumerate(taken) if not each.new],
        )

    async def EnqueueStream(
        self, requests: AsyncIterator[pb.EnqueueStreamRequest], call: Call
    ) -> pb.EnqueueStreamResponse:
        answer = pb.EnqueueStreamResponse()
        async for request in requests:
            taken = await self._take(request.jobs)
            answer.jobs += len(taken)
            answer.enqueued += sum(each.new for each in taken)
        return answer

    async def _take(self, specs: Iterable[JobSpec]) -> Sequence[Taken]:
        return await self._shared.intake.take_all([self._shared.intake.prepare(spec) for spec in specs])

    async def GetJob(self, request: pb.GetJobRequest, call: Call) -> pb.GetJobResponse:
        return pb.GetJobResponse(job=await self._views.get(UUID(request.job_id)))

    async def ListJobs(self, request: pb.ListJobsRequest, call: Call) -> pb.ListJobsResponse:
        rows, last = await self._pages.rows(request, self._marks.open(request))
        jobs = await self._views.show(rows)
        for job in jobs:
            job.envelope.payload.ClearField("data")
            job.ClearField("result")
        token = self._marks.close(request, last) if last else ""
        return pb.ListJobsResponse(jobs=jobs, next_page_token=token)

    async def CancelJob(self, request: pb.CancelJobRequest, call: Call) -> pb.CancelJobResponse:
        requested = await self._steering.cancel(UUID(request.job_id))
        job = await self._views.get(UUID(request.job_id))
        return pb.CancelJobResponse(job=job, requested=requested)

    async def RescheduleJob(self, request: pb.RescheduleJobRequest, call: Call) -> pb.RescheduleJobResponse:
        await self._steering.reschedule(UUID(request.job_id), moment(request.due_time))
        return pb.RescheduleJobResponse(job=await self._views.get(UUID(request.job_id)))

    async def RetryJob(self, request: pb.RetryJobRequest, call: Call) -> pb.RetryJobResponse:
        await self._steering.retry(UUID(request.job_id), call.caller.actor)
        return pb.RetryJobResponse(job=await self._views.get(UUID(request.job_id)))

    async def EscalateJob(self, request: pb.EscalateJobRequest, call: Call) -> pb.EscalateJobResponse:
        await self._steering.escalate(UUID(request.job_id), request.priority or PRIORITY_HIGH)
        return pb.EscalateJobResponse(job=await self._views.get(UUID(request.job_id)))

    async def ListAttempts(
        self, request: job_pb2.ListAttemptsRequest, call: Call
    ) -> job_pb2.ListAttemptsResponse:
        return job_pb2.ListAttemptsResponse(attempts=await self._views.attempts(UUID(request.job_id)))

    async def WatchJobs(
        self, request: pb.WatchJobsRequest, call: Call
    ) -> AsyncIterator[pb.WatchJobsResponse]:
        async for response in self._watching.watch(request, call):
            yield response
