"""The queue of jobs: DBOS workflows, one a run of a job, in one partition an owner.

The service only enqueues and cancels here; `amodal_service.worker` runs. A job is enqueued in the
transaction that makes it: there is no moment at which one of the two is lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dbos import DBOS, DBOSClient, EnqueueOptions
from sqlalchemy.engine import Connection

from amodal_service.database import Database

APP_NAME = "amodal"
QUEUE = "amodal-jobs"
WORKFLOW = "run-job"
WORKFLOW_VERSION = "1"
"""Of the order of steps in a workflow: workers of one version finish each other's jobs."""

HIGHEST_PRIORITY = 9
"""The API's priorities are 0 to 9, higher first; DBOS counts the other way, from 1."""


class JobQueue:
    """Enqueues and cancels runs of jobs; `open_job_queue` makes it."""

    def __init__(self, client: DBOSClient) -> None:
        self._client = client

    def add(
        self, connection: Connection, job_id: str, run: int, *, owner: str, priority: int
    ) -> None:
        """Enqueue a run of a job within a transaction."""
        options: EnqueueOptions = {
            "workflow_name": WORKFLOW,
            "queue_name": QUEUE,
            "workflow_id": workflow_id(job_id, run),
            "app_version": WORKFLOW_VERSION,
            "queue_partition_key": owner,
            "priority": HIGHEST_PRIORITY + 1 - priority,
        }
        self._client.enqueue_in_transaction(connection, options, job_id, run)

    def cancel(self, job_id: str, run: int) -> None:
        """Take a run off the queue; the worker that runs it stops by itself."""
        self._client.cancel_workflow(workflow_id(job_id, run))

    def forget(self, job_id: str, runs: int) -> None:
        """Remove every run of a job."""
        self._client.delete_workflows([workflow_id(job_id, run + 1) for run in range(runs)])

    def release_dead(self, live_workers: frozenset[str]) -> list[str]:
        """Put the runs that no live worker has back into the queue; return their ids.

        Two workers may do this at once and for one run: the epoch of the job lets only the last of
        its starts write.
        """
        pending = self._client.list_workflows(
            name=WORKFLOW, status="PENDING", load_input=False, load_output=False
        )
        left = [each.workflow_id for each in pending if each.executor_id not in live_workers]
        if left:
            self._client.resume_workflows(left, queue_name=QUEUE)
        return left

    def find_lost(self, workflow_ids: list[str]) -> set[str]:
        """Return the runs among some that neither wait nor run."""
        found = self._client.list_workflows(
            workflow_ids=workflow_ids,
            status=["ENQUEUED", "DELAYED", "PENDING"],
            load_input=False,
            load_output=False,
        )
        return set(workflow_ids) - {each.workflow_id for each in found}

    def release(self, workflow_ids: list[str]) -> None:
        """Put runs back into the queue."""
        if workflow_ids:
            self._client.resume_workflows(workflow_ids, queue_name=QUEUE)

    def pending_of(self, worker: str) -> list[str]:
        """Return the runs that a worker has taken from the queue and not finished."""
        pending = self._client.list_workflows(
            name=WORKFLOW,
            status="PENDING",
            executor_id=worker,
            load_input=False,
            load_output=False,
        )
        return [each.workflow_id for each in pending]


@contextmanager
def open_job_queue(database: Database) -> Iterator[JobQueue]:
    """Yield the queue in a database; its tables are made where they are missing."""
    url = queue_url(database)
    DBOS.migrate(url)
    client = DBOSClient(system_database_url=url, application_name=APP_NAME)
    try:
        yield JobQueue(client)
    finally:
        client.destroy()


def queue_url(database: Database) -> str:
    """Return the URL of the database as DBOS takes it."""
    return database.engine.url.render_as_string(hide_password=False)


def workflow_id(job_id: str, run: int) -> str:
    """Return the id of a run of a job."""
    return f"{job_id}.{run}"
