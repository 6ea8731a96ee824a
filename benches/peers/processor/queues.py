"""honker and procrastinate as a driver of `cargo xtask peers processor`.

One JSON object a line: greets, then answers {"peer", "dir", "url", "jobs", "payload", "workers", "most_s"} with
{"label", "done", "seconds", "bytes"}: so many jobs with so many bytes each were enqueued, which is in no measured time,
then worked on until none was left or most_s seconds had passed; `done` of them are completed, and their handlers saw
`bytes`. `dir` is an empty directory, `url` an empty database.
"""

import asyncio
import importlib.metadata
import json
import sys
import time
from pathlib import Path

import honker
import procrastinate

ENQUEUE = 500


def honker_queue(request: dict) -> honker.Queue:
    database = honker.open(str(Path(request["dir"]) / "honker.db"))
    queue = database.queue("jobs")
    text = "x" * request["payload"]
    for start in range(0, request["jobs"], ENQUEUE):
        with database.transaction() as transaction:
            for _ in range(min(ENQUEUE, request["jobs"] - start)):
                queue.enqueue({"text": text}, tx=transaction)
    return queue


def honker_single(request: dict) -> dict:
    """One job claimed and acknowledged after the other: two commits each."""
    queue = honker_queue(request)
    done = seen = 0
    started = time.perf_counter()
    while time.perf_counter() - started < request["most_s"]:
        job = queue.claim_one("peer")
        if job is None:
            break
        seen += len(job.payload["text"])
        done += job.ack()
    seconds = time.perf_counter() - started
    return {"label": "claim(1)", "done": done, "seconds": seconds, "bytes": seen}


def honker_batch(request: dict) -> dict:
    """A hundred jobs claimed and acknowledged at a time: two commits a hundred."""
    queue = honker_queue(request)
    done = seen = 0
    started = time.perf_counter()
    while time.perf_counter() - started < request["most_s"]:
        jobs = queue.claim_batch("peer", 100)
        if not jobs:
            break
        seen += sum(len(job.payload["text"]) for job in jobs)
        done += queue.ack_batch([job.id for job in jobs], "peer")
    seconds = time.perf_counter() - started
    return {"label": "batches of 100", "done": done, "seconds": seconds, "bytes": seen}


async def procrastinate_run(request: dict) -> dict:
    """Its worker as it comes, so many jobs at once."""
    url = request["url"].partition("?")[0]  # what follows is for another client
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url, max_size=20))
    seen = {"jobs": 0, "bytes": 0}

    @app.task(name="work")
    async def work(text: str) -> None:
        seen["bytes"] += len(text)
        seen["jobs"] += 1

    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        text = "x" * request["payload"]
        for start in range(0, request["jobs"], ENQUEUE):
            count = min(ENQUEUE, request["jobs"] - start)
            await work.batch_defer_async(*[{"text": text}] * count)
        started = time.perf_counter()
        worker = asyncio.create_task(
            app.run_worker_async(concurrency=request["workers"], wait=False, install_signal_handlers=False)
        )
        await asyncio.wait([worker], timeout=request["most_s"])
        seconds = time.perf_counter() - started
        count = "SELECT count(*) AS done FROM procrastinate_jobs WHERE status = 'succeeded'"
        done = (await app.connector.execute_query_one_async(count))["done"]
        worker.cancel()
        await asyncio.wait([worker], timeout=10)
    return {"label": "as it comes", "done": done, "seconds": seconds, "bytes": seen["bytes"]}


def answer(request: dict) -> dict:
    package, work = {
        "honker": ("honker", honker_single),
        "honker_batch": ("honker", honker_batch),
        "procrastinate": ("procrastinate", lambda wanted: asyncio.run(procrastinate_run(wanted))),
    }[request["peer"]]
    ran = work(request)
    ran["label"] = f"{package} {importlib.metadata.version(package)}, {ran['label']}"
    return ran


def say(document: dict) -> None:
    print(json.dumps(document), flush=True)


def main() -> None:
    say({"name": "Python queues", "version": "3"})
    for line in sys.stdin:
        try:
            say(answer(json.loads(line)))
        except Exception as error:  # a driver answers, whatever happens
            say({"error": f"{type(error).__name__}: {error}"})


main()
