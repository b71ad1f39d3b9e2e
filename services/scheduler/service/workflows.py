"""weft.scheduler.v1.WorkflowService."""

from uuid import UUID

from services.chassis.db import Tx
from services.chassis.events import emit
from services.chassis.masks import check_etag
from services.chassis.method import Call
from services.scheduler import knowing, reading
from services.scheduler.domain.workflow import (
    Definition,
    Workflow,
    WorkflowIdReused,
    WorkflowInUse,
    WorkflowRefused,
    WorkflowVersion,
)
from services.scheduler.service import pack
from services.scheduler.service.shared import Shared
from services.scheduler.store import workflow as store
from services.scheduler.store.once import written
from weft.scheduler.v1 import workflow_pb2 as pb
from weft.scheduler.v1.events_pb2 import WorkflowChanged, WorkflowDeleted
from weft.scheduler.v1.workflow_pb2_grpc import WorkflowServiceServicer


class Workflows(WorkflowServiceServicer):
    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    async def CreateWorkflow(
        self, request: pb.CreateWorkflowRequest, call: Call
    ) -> pb.CreateWorkflowResponse:
        definition, workflow_id = checked(request.settings), UUID(request.workflow_id)
        settings = request.settings.SerializeToString(deterministic=True)
        async with self._shared.db.transaction() as tx:
            now, name = self._shared.clock.now(), request.settings.name
            new = Workflow(workflow_id=workflow_id, name=name, version=1, created_at=now)
            fresh = await written(tx, new)
            row = await store.get(tx, workflow_id)
            if fresh:
                version = await self._add_version(tx, row, settings, definition)
            else:
                version = await store.version(tx, workflow_id, 1)
        if version.settings != settings:
            raise WorkflowIdReused(workflow_id=workflow_id)
        return pb.CreateWorkflowResponse(workflow=pack.workflow(row, version))

    async def _add_version(
        self, tx: Tx, row: Workflow, settings: bytes, definition: Definition
    ) -> WorkflowVersion:
        now = self._shared.clock.now()
        version = WorkflowVersion(
            workflow_id=row.workflow_id, version=row.version, settings=settings, created_at=now
        )
        tx.add(version)
        kinds = [trigger.event_type for trigger in definition.triggers]
        await store.replace_triggers(tx, row.workflow_id, kinds, now)
        await tx.flush()
        await emit(tx, WorkflowChanged(workflow_id=str(row.workflow_id), version=row.version))
        return version

    async def ValidateWorkflow(
        self, request: pb.ValidateWorkflowRequest, call: Call
    ) -> pb.ValidateWorkflowResponse:
        definition = checked(request.settings)
        return pb.ValidateWorkflowResponse(order=[task.name for task in definition.order])

    async def GetWorkflow(self, request: pb.GetWorkflowRequest, call: Call) -> pb.GetWorkflowResponse:
        async with self._shared.db.transaction() as tx:
            row = await store.get(tx, UUID(request.workflow_id))
            version = await store.version(tx, row.workflow_id, request.version or row.version)
        return pb.GetWorkflowResponse(workflow=pack.workflow(row, version))

    async def ListWorkflows(self, request: pb.ListWorkflowsRequest, call: Call) -> pb.ListWorkflowsResponse:
        page = store.WORKFLOWS.page(request, self._shared.page_key)
        async with self._shared.db.transaction() as tx:
            rows, token = await store.page(tx, page)
        packed = [pack.workflow(row, version) for row, version in rows]
        return pb.ListWorkflowsResponse(workflows=packed, next_page_token=token)

    async def UpdateWorkflow(
        self, request: pb.UpdateWorkflowRequest, call: Call
    ) -> pb.UpdateWorkflowResponse:
        definition = checked(request.settings)
        settings = request.settings.SerializeToString(deterministic=True)
        async with self._shared.db.transaction() as tx:
            row = await store.get(tx, UUID(request.workflow_id), lock=True)
            check_etag(request.etag, row.version)
            version = await store.version(tx, row.workflow_id, row.version)
            if version.settings != settings:
                row.name, row.version = request.settings.name, row.version + 1
                version = await self._add_version(tx, row, settings, definition)
        return pb.UpdateWorkflowResponse(workflow=pack.workflow(row, version))

    async def DeleteWorkflow(
        self, request: pb.DeleteWorkflowRequest, call: Call
    ) -> pb.DeleteWorkflowResponse:
        async with self._shared.db.transaction() as tx:
            row = await store.get(tx, UUID(request.workflow_id), lock=True)
            schedules, runs = await store.users(tx, row.workflow_id)
            if schedules or runs:
                raise WorkflowInUse(workflow_id=row.workflow_id, schedules=schedules, runs=runs)
            await tx.delete(row)
            await emit(tx, WorkflowDeleted(workflow_id=request.workflow_id))
        return pb.DeleteWorkflowResponse()


def checked(settings: pb.WorkflowSettings) -> Definition:
    """Raises WorkflowRefused, ExpressionRefused."""
    definition = reading.definition_of(settings)
    definition.check()
    for n, task in enumerate(settings.tasks):
        for job in (task.job, task.compensation.job):
            if problem := reading.template_problem(job, bare=not job.HasField("payload")):
                raise WorkflowRefused(problem=problem, field=f"settings.tasks[{n}]")
    for n, trigger in enumerate(definition.triggers):
        if knowing.event(trigger.event_type) is None:
            field = f"settings.triggers[{n}].event_type"
            raise WorkflowRefused(problem=f"{trigger.event_type} is no event", field=field)
    return definition
