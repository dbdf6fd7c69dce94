"""Job queues on PostgreSQL, for `bench.turns` to stand beside. It runs in the peers' own environment (bench/peers.sh).

    .cache/peers/bin/python bench/queues.py {procrastinate,pgqueuer} URL JOBS WORKERS

Jobs that do nothing, all there before the clock starts; prints `{"jobs", "seconds"}` from the start of the worker to
the end of the last job. WORKERS is procrastinate's `concurrency`, and pgqueuer's `batch_size`.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time


async def procrastinate(url: str, jobs: int, workers: int) -> float:
    from procrastinate import App, PsycopgConnector

    app = App(connector=PsycopgConnector(conninfo=url, min_size=1, max_size=workers + 2))
    done = 0

    @app.task(name="nothing")
    async def nothing(number: int) -> None:
        nonlocal done
        done += 1

    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        await nothing.batch_defer_async(*({"number": n} for n in range(jobs)))
        started = time.perf_counter()
        await app.run_worker_async(wait=False, concurrency=workers, install_signal_handlers=False)
        seconds = time.perf_counter() - started
    assert done == jobs, done
    return seconds


async def pgqueuer(url: str, jobs: int, workers: int) -> float:
    import asyncpg
    from pgqueuer import PgQueuer
    from pgqueuer.db import AsyncpgDriver
    from pgqueuer.models import Job
    from pgqueuer.queries import Queries
    from pgqueuer.types import QueueExecutionMode

    connection = await asyncpg.connect(url)
    driver = AsyncpgDriver(connection)
    queries = Queries(driver)
    await queries.install()
    await queries.enqueue(["nothing"] * jobs, [None] * jobs, [0] * jobs)
    queue = PgQueuer(driver)
    done = 0

    @queue.entrypoint("nothing")
    async def nothing(job: Job) -> None:
        nonlocal done
        done += 1

    started = time.perf_counter()
    await queue.run(batch_size=workers, mode=QueueExecutionMode.drain)
    seconds = time.perf_counter() - started
    await connection.close()
    assert done == jobs, done
    return seconds


if __name__ == "__main__":
    name, url, jobs, workers = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    run = {"procrastinate": procrastinate, "pgqueuer": pgqueuer}[name]
    print(json.dumps({"jobs": jobs, "seconds": asyncio.run(run(url, jobs, workers))}))
