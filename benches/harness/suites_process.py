"""The suites about processes: `start`, `memory`, `soak`."""

import http.client
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

from . import loads, peers
from .applications import DJANGO, HELLO
from .process import TICKS, Failed
from .server import START_SECONDS, Case, Server, ask, check_answer, served
from .suite import CONNECTIONS, Bench, Column, Figures, Suite


QUIET_SECONDS = 0.4
TICK_SECONDS = 1 / TICKS


def start(case: Case, bench: Bench) -> Figures:
    """From exec to the first right answer, and to the moment from which no process has anything left to do."""
    expected = case.application.answer(bench.tools)
    before = time.monotonic()
    with served(case, bench.tools, wait=False) as server:
        while True:
            with suppress(OSError, http.client.HTTPException):
                status, body = ask(server.port, case.application, timeout=START_SECONDS)
                elapsed = time.monotonic() - before
                check_answer(status, body, expected)
                break
            server.check_alive()
            if time.monotonic() - before > START_SECONDS:
                raise Failed(f"no answer within {START_SECONDS} s: {server.process.last_words()}")
            time.sleep(0.0005)
        quiet_since, cpu = quiet(server, elapsed + before)
        return {
            "start_ms": elapsed * 1000,
            "ready_ms": (quiet_since - before) * 1000,
            "cpu_ms": cpu * 1000,
            "pss_mib": server.process.memory_kib("Pss") / 1024,
            "errors": 0,
            "command": server.command,
        }


def quiet(server: Server, since: float) -> tuple[float, float]:
    """When the server's processes last used a core, but for a tick now and then, and how much they have used."""
    deadline = time.monotonic() + 2 * START_SECONDS
    cpu = server.process.cpu_seconds()
    while time.monotonic() < since + QUIET_SECONDS:
        time.sleep(0.005)
        used = server.process.cpu_seconds()
        if used > cpu + TICK_SECONDS * 1.5:
            cpu, since = used, time.monotonic()
        if time.monotonic() > deadline:
            raise Failed("it does not come to rest")
    server.check_alive()
    return since, server.process.cpu_seconds()


POOLS = (
    peers.FORKHORN_PRELOADED,
    peers.FORKHORN_NOT_PRELOADED,
    peers.GUNICORN_PRELOADED,
    peers.GUNICORN,
    peers.UWSGI_HTTP,
    peers.UWSGI_LAZY,
)

START_SUITE = Suite(
    name="start",
    title="Start",
    about="From exec of the command to the first right answer over HTTP, and until all workers have loaded, which is when"
    f" none of the server's processes has used a core for {QUIET_SECONDS * 1000:.0f} ms; with the CPU time and the PSS of"
    " all of them up to then. The files are in the page cache. With several workers, each server in both ways that it"
    " has: the application is loaded once and copied, or loaded by each worker.",
    columns=[
        Column("start_ms", "first answer, ms"),
        Column("ready_ms", "all loaded, ms"),
        Column("cpu_ms", "CPU ms"),
        Column("pss_mib", "PSS MiB", 1),
    ],
    chart="ready_ms",
    higher_is_better=False,
    logarithmic=True,
    cases=[
        Case(peer, application, group)
        for group, application in (("hello.py, 1 worker", HELLO), ("Django, 1 worker", DJANGO))
        for peer in (
            peers.FORKHORN_HTTP,
            peers.FASTWSGI,
            peers.BJOERN,
            peers.GRANIAN,
            peers.UWSGI_HTTP,
            peers.WAITRESS,
            peers.GUNICORN,
        )
    ]
    + [Case(peer, DJANGO, f"Django, {workers} workers", workers=workers) for workers in (8, 32) for peer in POOLS],
    measure=start,
    rounds=3,
    compare=[("start_ms", "peer"), ("ready_ms", "peer")],
)


MEMORY_WORKERS = (1, 8, 32)
SLOW_DJANGO = replace(DJANGO, path="/slow/")


def memory(case: Case, bench: Bench) -> Figures:
    """PSS of all processes with one worker, and with more, after each worker has served."""
    totals = {}
    for workers in MEMORY_WORKERS:
        with served(replace(case, workers=workers), bench.tools) as server:
            reach_all(server, workers)
            loads.wrk(server.port, case.application, CONNECTIONS, min(bench.seconds, 2), bench.tools)
            server.check_alive()
            totals[workers] = server.process.memory_kib("Pss") / 1024
            processes, command = server.process.processes(), server.command
    one, *_, many = totals.values()
    most = MEMORY_WORKERS[-1]
    return {
        **{f"pss_{workers}": total for workers, total in totals.items()},
        "further": (many - one) / (most - 1),
        "processes": processes,
        "errors": 0,
        "command": command,
    }


def reach_all(server: Server, workers: int) -> None:
    """Has every worker answer at least once: as many slow requests at a time as there are workers."""
    seen: set[str] = set()

    def ask_slowly(_: int) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=START_SECONDS)
        try:
            connection.request("GET", SLOW_DJANGO.path)
            response = connection.getresponse()
            response.read()
            return response.headers.get("X-Worker", "")
        except (OSError, http.client.HTTPException):
            return ""
        finally:
            connection.close()

    deadline = time.monotonic() + START_SECONDS
    with ThreadPoolExecutor(workers) as threads:
        while len(seen) < workers:
            seen.update(filter(None, threads.map(ask_slowly, range(workers))))
            server.check_alive()
            if time.monotonic() > deadline:
                raise Failed(f"only {len(seen)} of {workers} workers have answered")


MEMORY_SUITE = Suite(
    name="memory",
    title="Memory",
    about="Proportional set size (PSS) of all processes of a server, the master included, with the Django page of"
    f" `benches/apps`: with {', '.join(map(str, MEMORY_WORKERS))} workers, after each of them has answered and two seconds"
    f" under wrk with {CONNECTIONS} connections.",
    columns=[
        *(Column(f"pss_{workers}", f"{workers} worker{'s' if workers > 1 else ''}, MiB", 1) for workers in MEMORY_WORKERS),
        Column("further", "each further worker, MiB", 1),
        Column("processes", f"processes with {MEMORY_WORKERS[-1]}"),
    ],
    chart="further",
    higher_is_better=False,
    cases=[Case(peer, DJANGO) for peer in (peers.FORKHORN_WARMED_UP, *POOLS, peers.GRANIAN)],
    measure=memory,
    rounds=1,
    compare=[("further", "peer"), (f"pss_{MEMORY_WORKERS[-1]}", "peer")],
)


SOAK_WARM_UP = 20_000


def soak(case: Case, bench: Bench) -> Figures:
    """A million requests; what the server holds before and after them."""
    expected = case.application.answer(bench.tools)
    with served(case, bench.tools) as server:

        def ask_for(requests: int) -> dict:
            options = ["--connections", str(CONNECTIONS), "--requests", str(requests)]
            return loads.generator(server.port, server.protocol, expected, options, 1800, bench.tools)

        ask_for(min(SOAK_WARM_UP, bench.requests))
        before = holdings(server)
        load = ask_for(bench.requests)
        after = holdings(server)
        server.check_alive()
        return {
            "requests": load["requests"],
            **{f"{key}_before": value for key, value in before.items()},
            **{f"{key}_after": value for key, value in after.items()},
            "growth_kib": after["rss_kib"] - before["rss_kib"],
            "errors": load["errors"] + load["unfinished"],
            "reconnects": load["reconnects"],
            "command": server.command,
        }


def holdings(server: Server) -> dict[str, int]:
    """Taken once the connections of the last load are closed on the server's side too, or after a second."""
    process = server.process
    deadline, last = time.monotonic() + 1, -1
    while (count := process.descriptors()) != last and time.monotonic() < deadline:
        last = count
        time.sleep(0.1)
    return {
        "rss_kib": process.memory_kib("Rss"),
        "descriptors": process.descriptors(),
        "processes": process.processes(),
        "zombies": process.zombies(),
    }


SOAK_SUITE = Suite(
    name="soak",
    title="Soak",
    about=f"`examples/hello.py` over {CONNECTIONS} kept connections, two workers; each answer is compared. RSS,"
    " descriptors and processes are the sums over all processes, before and after the requests;"
    f" {SOAK_WARM_UP:,} others came first.",
    columns=[
        Column("requests", "requests"),
        Column("errors", "errors"),
        Column("reconnects", "reconnects"),
        Column("rss_kib_before", "RSS before, KiB"),
        Column("rss_kib_after", "RSS after, KiB"),
        Column("descriptors_before", "descriptors before"),
        Column("descriptors_after", "after"),
        Column("processes_before", "processes before"),
        Column("processes_after", "after"),
        Column("zombies_after", "zombies"),
    ],
    chart="growth_kib",
    higher_is_better=False,
    cases=[
        Case(peer, HELLO, workers=2)
        for peer in (peers.FORKHORN_HTTP, peers.FORKHORN_FASTCGI, peers.BJOERN, peers.GRANIAN)
    ],
    measure=soak,
    rounds=1,
)
