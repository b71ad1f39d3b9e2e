"""weft.scheduler.v1.WorkflowRunService."""

from collections.abc import AsyncIterator, Mapping
from uuid import UUID

from services.chassis.method import Call
from services.scheduler import reading
from services.scheduler.domain.progress import TaskRun
from services.scheduler.domain.workflow import Definition
from services.scheduler.service import pack
from services.scheduler.service.shared import Shared
from services.scheduler.service.watching import Watchers
from services.scheduler.store import workflow as store
from weft.scheduler.v1 import workflow_run_pb2 as pb
from weft.scheduler.v1.workflow_pb2 import StartRule
from weft.scheduler.v1.workflow_run_pb2_grpc import WorkflowRunServiceServicer

COLOURS = {
    "STARTED": "lightblue",
    "SUCCEEDED": "palegreen",
    "FAILED": "salmon",
    "SKIPPED": "lightgrey",
    "CANCELLED": "lightgrey",
    "COMPENSATING": "orange",
    "COMPENSATED": "khaki",
    "COMPENSATION_FAILED": "red",
}


class WorkflowRuns(WorkflowRunServiceServicer):
    def __init__(self, shared: Shared, watchers: Watchers) -> None:
        self._shared, self._watchers = shared, watchers

    async def StartWorkflowRun(
        self, request: pb.StartWorkflowRunRequest, call: Call
    ) -> pb.StartWorkflowRunResponse:
        given, run_id = reading.json_of(request.input), UUID(request.run_id)
        async with self._shared.db.transaction() as tx:
            run = await self._shared.launcher.start(
                tx, UUID(request.workflow_id), given, "rpc", run_id, request.version
            )
            tasks = await store.tasks(tx, run_id)
        return pb.StartWorkflowRunResponse(run=pack.workflow_run(run, tasks.values()))

    async def GetWorkflowRun(
        self, request: pb.GetWorkflowRunRequest, call: Call
    ) -> pb.GetWorkflowRunResponse:
        async with self._shared.db.transaction() as tx:
            run = await store.run(tx, UUID(request.run_id))
            tasks = await store.tasks(tx, run.run_id)
        return pb.GetWorkflowRunResponse(run=pack.workflow_run(run, tasks.values()))

    async def GetWorkflowRunGraph(
        self, request: pb.GetWorkflowRunGraphRequest, call: Call
    ) -> pb.GetWorkflowRunGraphResponse:
        async with self._shared.db.transaction() as tx:
            run = await store.run(tx, UUID(request.run_id))
            tasks = await store.tasks(tx, run.run_id)
            version = await store.version(tx, run.workflow_id, run.version)
        definition = reading.definition(version.settings)
        nodes = [
            pb.GraphNode(
                name=task.name,
                state=pack.task_state(tasks[task.name]),
                job_type=task.job_type,
                when=StartRule.Value(f"START_RULE_{task.rule}"),
                compensable=task.undo is not None,
                level=definition.levels[task.name],
            )
            for task in definition.order
        ]
        edges = [
            pb.GraphEdge(to=task.name, **{"from": need}) for task in definition.order for need in task.needs
        ]
        return pb.GetWorkflowRunGraphResponse(
            state=pack.workflow_run(run).state, nodes=nodes, edges=edges, dot=dot(definition, tasks)
        )

    async def ListWorkflowRuns(
        self, request: pb.ListWorkflowRunsRequest, call: Call
    ) -> pb.ListWorkflowRunsResponse:
        page = store.RUNS.page(request, self._shared.page_key)
        async with self._shared.db.transaction() as tx:
            rows, token = await store.run_page(tx, page)
        return pb.ListWorkflowRunsResponse(runs=map(pack.workflow_run, rows), next_page_token=token)

    async def WatchWorkflowRuns(
        self, request: pb.WatchWorkflowRunsRequest, call: Call
    ) -> AsyncIterator[pb.WatchWorkflowRunsResponse]:
        async for answer in self._watchers.watch(request, call):
            yield answer

    async def CancelWorkflowRun(
        self, request: pb.CancelWorkflowRunRequest, call: Call
    ) -> pb.CancelWorkflowRunResponse:
        async with self._shared.db.transaction() as tx:
            run = await self._shared.launcher.cancel(tx, UUID(request.run_id))
            tasks = await store.tasks(tx, run.run_id)
        return pb.CancelWorkflowRunResponse(run=pack.workflow_run(run, tasks.values()))

    async def RetryWorkflowRun(
        self, request: pb.RetryWorkflowRunRequest, call: Call
    ) -> pb.RetryWorkflowRunResponse:
        async with self._shared.db.transaction() as tx:
            run = await self._shared.launcher.retry(tx, UUID(request.run_id))
            tasks = await store.tasks(tx, run.run_id)
        return pb.RetryWorkflowRunResponse(run=pack.workflow_run(run, tasks.values()))


def dot(definition: Definition, tasks: Mapping[str, TaskRun]) -> str:
    """The graph in the DOT language; names of tasks need no quoting beyond quotes."""
    lines = ["digraph run {", "  rankdir=LR; node [shape=box, style=filled, fillcolor=white];"]
    for task in definition.order:
        state = tasks[task.name].state
        colour = COLOURS.get(state, "white")
        lines.append(f'  "{task.name}" [label="{task.name}\\n{state}", fillcolor={colour}];')
        lines += [f'  "{need}" -> "{task.name}" [label="{task.rule}"];' for need in task.needs]
    return "\n".join([*lines, "}"])
