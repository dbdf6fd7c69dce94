"""Files on disk into threads, side by side on the same Maildir: agentmail, the usual glue, notmuch, mu.

    python -m bench ingest [--messages 20000] [--rounds 1] [--only agentmail,glue,notmuch,mu] [--postgres URL]

Raw bytes and the full-text index are included wherever the contender has them (the glue has no index; notmuch and mu
keep no raw bytes, they index the Maildir). Each run starts a process of its own, with Python's code compiled before, as
an installer leaves it: with PYTHONDONTWRITEBYTECODE a checkout would be compiled anew at each start. The wall time and
the CPU time of the process with its children are measured from outside. Compare the ratios: CPU time says what it
costs, wall time says how long one waits, and a busy machine shows in the second only.

With `--postgres`: the same rows once by agentmail and once by asyncpg's own executemany, in turn.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from . import corpus

ROOT = Path(__file__).parent.parent


def _measured(*words: str, env: dict[str, str] | None = None) -> tuple[float, float]:
    """Wall and CPU seconds of a command."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(ROOT / ".cache" / "bytecode"), **(env or {})}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    subprocess.run(words, check=True, env=environment, stdout=subprocess.DEVNULL)
    wall = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def agentmail(box: Path, work: Path) -> tuple[float, float]:
    command = Path(sys.executable).with_name("agentmail")
    return _measured(str(command), "import", str(box), "--store", f"sqlite:///{work}/agentmail.db", "--json")


def glue(box: Path, work: Path) -> tuple[float, float]:
    count = len(list((box / "cur").iterdir()))
    return _measured(sys.executable, "-m", "bench.glue", str(box), str(work / "glue.db"), str(count))


def notmuch(box: Path, work: Path) -> tuple[float, float]:
    config = work / "notmuch-config"
    config.write_text(f"[database]\npath={box}\n[new]\ntags=\n[maildir]\nsynchronize_flags=false\n")
    try:
        return _measured("notmuch", "new", "--quiet", env={"NOTMUCH_CONFIG": str(config)})
    finally:
        shutil.rmtree(box / ".notmuch", ignore_errors=True)


def mu(box: Path, work: Path) -> tuple[float, float]:
    home = f"--muhome={work / 'mu'}"
    subprocess.run(["mu", "init", home, f"--maildir={box}", "-q"], check=True, stdout=subprocess.DEVNULL)
    return _measured("mu", "index", home, "-q")


CONTENDERS: dict[str, Callable[[Path, Path], tuple[float, float]]] = {
    "agentmail": agentmail, "glue": glue, "notmuch": notmuch, "mu": mu,
}  # fmt: skip


def _box(messages: int, directory: Path) -> Path:
    """A Maildir of the first messages of the corpus, made of links: the contenders may write beside them."""
    source = corpus.ready(max(messages, 2_000)) / "maildir"
    box = directory / "box"
    for name in ("cur", "new", "tmp"):
        (box / name).mkdir(parents=True)
    for path in sorted((source / "cur").iterdir())[:messages]:
        os.link(path, box / "cur" / path.name)
    return box


def side_by_side(messages: int, rounds: int, names: list[str]) -> None:
    if {"notmuch", "mu"} & set(names):
        subprocess.run(["sh", str(Path(__file__).with_name("peers.sh")), "mail"], check=True, stdout=subprocess.DEVNULL)
    for name in {"agentmail", "glue"} & set(names):
        with tempfile.TemporaryDirectory(dir=ROOT / ".cache") as directory:
            CONTENDERS[name](_box(60, Path(directory)), Path(directory))  # compiles
    print(f"{'':>10} {'msgs/s wall':>12} {'msgs/CPU-s':>11} {'x wall':>7} {'x CPU':>7}")
    for _ in range(rounds):
        ours: tuple[float, float] | None = None
        for name in names:
            with tempfile.TemporaryDirectory(dir=ROOT / ".cache") as directory:
                work = Path(directory)
                box = _box(messages, work)
                wall, cpu = CONTENDERS[name](box, work)
            ours = ours or (wall, cpu)
            print(f"{name:>10} {messages / wall:>12.0f} {messages / cpu:>11.0f} {wall / ours[0]:>7.1f} "
                  f"{cpu / ours[1]:>7.1f}", flush=True)  # fmt: skip


async def floor(messages: int) -> None:
    """What no import can do without, each part by itself in one process: where the CPU time goes, and what is left to
    gain by writing it better."""
    from agentmail.archive.ahead import Terms, prepare_batch
    from agentmail.archive.reading import Unread, read_small
    from agentmail.message.parse import parse
    from agentmail.store import ThreadStore
    from agentmail.store.search import index

    gc.freeze()
    gc.set_threshold(100_000)  # as the import does
    files = sorted((corpus.ready(max(messages, 2_000)) / "maildir" / "cur").iterdir())[:messages]
    unread = [Unread(str(path), True, path.stat().st_size) for path in files]
    costs: dict[str, float] = {}

    def spent(name: str, started: float) -> None:
        costs[name] = (time.process_time() - started) / messages * 1e6

    for part in (unread[:200], unread):  # the first ones warm what is built once
        started = time.process_time()
        for one in part:
            parse(read_small(one).raw)
        spent("reading the file and parsing", started)
    with tempfile.TemporaryDirectory(dir=ROOT / ".cache") as directory:
        async with ThreadStore(f"sqlite:///{directory}/a.db") as store, ThreadStore(f"sqlite:///{directory}/b.db") as b:
            terms = Terms("", frozenset(), store.secret)
            started = time.process_time()
            batches = [prepare_batch(unread[n : n + 500], terms) for n in range(0, messages, 500)]
            spent("all that needs no database, parsing included", started)
            ready = [one for batch in batches for one in batch.arrivals]
            started = time.process_time()
            for n in range(0, messages, 500):
                words = [(n + i + 1, one.row["at"], one.words) for i, one in enumerate(ready[n : n + 500])]
                await b.db.run(lambda tx, words=words: index(tx, "", words))
            spent("the words into FTS5 alone", started)
            started = time.process_time()
            for batch in batches:
                await store.db.run(lambda tx, b=batch: store.file_batch(tx, b.arrivals, account=None))
            spent("filing, FTS5 included", started)
        some = min(messages, 500)
        box = _box(some, Path(directory))
        cost = {n: _measured(sys.executable, "-m", "bench.glue", str(box), f"{directory}/{n}.db", str(n))[1]
                for n in (some // 10, some)}  # fmt: skip
        glued = (cost[some] - cost[some // 10]) / (some - some // 10) * 1e6
        costs["the usual glue, once started"] = glued
        costs["a twentieth of that: what an import twenty times as cheap may cost"] = glued / 20
    for name, cost in costs.items():
        print(f"{cost:>8.0f} µs CPU a message  {name}", flush=True)


async def postgres(messages: int, url: str) -> None:
    """Filing into PostgreSQL against asyncpg writing the same rows of the two large tables and the index, batch by
    batch in turn, so that both meet the same machine."""
    import asyncpg

    from agentmail.archive.ahead import Terms, prepare_batch
    from agentmail.archive.reading import Found
    from agentmail.message.parse import parse
    from agentmail.store import ThreadStore
    from agentmail.store.queries import place
    from agentmail.store.words import tsvector

    async with ThreadStore(url) as store:
        terms = Terms("", frozenset(), store.secret)
        batches, some = [], []
        for mail in corpus.generate(messages):
            some.append(Found("", mail.raw))
            if len(some) == 100:
                batches.append(prepare_batch(some, terms))
                some = []
        await store.file(parse(b"Message-ID: <warm@up>\n\nx"))
        connection = await asyncpg.connect(url.replace("+asyncpg", ""))
        names = list(batches[0].arrivals[0].row)
        for like in ("message", "raw", "search"):
            await connection.execute(f"CREATE TABLE bench_{like[0]} (LIKE {like} INCLUDING ALL)")
        columns = ["id", "thread", "cluster", "variant", *names]
        marks = ", ".join(f"${n + 1}" for n in range(len(columns)))
        number, ours, raw = 0, 0.0, 0.0
        for turn, batch in enumerate(batches):
            for filing in (True, False) if turn % 2 else (False, True):
                started = time.perf_counter()
                if filing:
                    await store.db.run(lambda tx, b=batch: store.file_batch(tx, b.arrivals, account=None))
                    ours += time.perf_counter() - started
                    continue
                rows, raws, words = [], [], []
                for one in batch.arrivals:
                    number += 1
                    rows.append((number, 1, 1, False, *(one.row[n] for n in names)))
                    raws.append((number, one.arrival.raw))
                    words.append((place(one.row["at"], number), number, "", tsvector(one.words)))
                async with connection.transaction():
                    await connection.executemany(f"INSERT INTO bench_m ({', '.join(columns)}) VALUES ({marks})", rows)
                    await connection.executemany("INSERT INTO bench_r (message, data) VALUES ($1, $2)", raws)
                    await connection.executemany(
                        "INSERT INTO bench_s (place, message, account, words) "
                        "VALUES ($1, $2, $3, CAST(CAST($4 AS text) AS tsvector))", words
                    )  # fmt: skip
                raw += time.perf_counter() - started
        await connection.execute("DROP TABLE bench_m, bench_r, bench_s")
        await connection.close()
    print(f"PostgreSQL: agentmail files {messages / ours:.0f} messages/s, threads, ids and people included; asyncpg "
          f"writes the rows of message, raw and search alone at {messages / raw:.0f}/s: "
          f"agentmail reaches {raw / ours:.2f}x its rate", flush=True)  # fmt: skip


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench ingest")
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", default=",".join(CONTENDERS))
    parser.add_argument("--postgres", metavar="URL", nargs="?", const="", help="a server, by any database of it; "
                        "without a URL one is started")  # fmt: skip
    parser.add_argument("--floor", action="store_true", help="the parts of our own import, one by one")
    given = parser.parse_args(arguments)
    (ROOT / ".cache").mkdir(exist_ok=True)
    if given.floor:
        asyncio.run(floor(given.messages // 500 * 500))
        return
    if given.postgres is not None:
        from .turns import database, postgresql

        with postgresql(given.postgres or None) as server, database(server) as url:
            asyncio.run(postgres(given.messages // 100 * 100, url))
        return
    side_by_side(given.messages, given.rounds, given.only.split(","))


if __name__ == "__main__":
    main(sys.argv[1:])
