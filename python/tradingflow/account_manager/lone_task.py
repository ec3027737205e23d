"""Jobs of the schedule: Celery tasks that one process at a time runs, however often they are asked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tradingflow.account_manager.celery_worker import app
from tradingflow.account_manager.executor_process import ExecutorProcess, this_process

Job = Callable[[ExecutorProcess], Awaitable[None]]


def lone_task(name: str) -> Callable[[Job], Job]:
    """Register the job as the task `name`: it is skipped while another process does it, and when it was just done.

    A slow one is skipped while any slow one is done, too.
    """

    def register(job: Job) -> Job:
        async def run(process: ExecutorProcess) -> None:
            async with process.alone(name) as alone:
                if alone:
                    await job(process)

        @app.task(name=name, ignore_result=True)
        def task() -> None:
            process = this_process()
            process.run(run(process))

        return job

    return register
