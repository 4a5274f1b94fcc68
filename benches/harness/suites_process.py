"""The suites about processes: `start`, `memory`, `soak`."""

import http.client
import time
from contextlib import suppress
from dataclasses import replace

from . import loads, peers
from .applications import DJANGO, HELLO
from .process import Failed
from .server import START_SECONDS, Case, Server, ask, check_answer, served
from .suite import CONNECTIONS, Bench, Column, Figures, Suite


def start(case: Case, bench: Bench) -> Figures:
    """From exec to the first right answer."""
    expected = case.application.answer(bench.tools)
    before = time.monotonic()
    with served(case, bench.tools, wait=False) as server:
        while True:
            with suppress(OSError, http.client.HTTPException):
                status, body = ask(server.port, case.application, timeout=START_SECONDS)
                elapsed = time.monotonic() - before
                check_answer(status, body, expected)
                return {"start_ms": elapsed * 1000, "errors": 0, "command": server.command}
            server.check_alive()
            if time.monotonic() - before > START_SECONDS:
                raise Failed(f"no answer within {START_SECONDS} s: {server.process.last_words()}")
            time.sleep(0.0005)


START_SUITE = Suite(
    name="start",
    title="Start",
    about="From exec of the command to the first right answer over HTTP, one worker. The files are in the page cache.",
    columns=[Column("start_ms", "ms", 0)],
    chart="start_ms",
    higher_is_better=False,
    cases=[
        Case(peer, application, group)
        for group, application in (("hello.py", HELLO), ("Django", DJANGO))
        for peer in (
            peers.FORKHORN_HTTP,
            peers.FASTWSGI,
            peers.BJOERN,
            peers.GRANIAN,
            peers.UWSGI_HTTP,
            peers.WAITRESS,
            peers.GUNICORN,
        )
    ],
    measure=start,
    compare=[("start_ms", "peer")],
)


def memory(case: Case, bench: Bench) -> Figures:
    """PSS of all processes with one worker and with many, after each worker has served."""
    totals = {}
    for workers in (1, int(case.options["workers"])):
        with served(replace(case, workers=workers), bench.tools) as server:
            loads.wrk(server.port, case.application, CONNECTIONS, bench.seconds, bench.tools)
            server.check_alive()
            totals[workers] = server.process.memory_kib("Pss") / 1024
            processes, command = server.process.processes(), server.command
    one, many = totals.values()
    count = int(case.options["workers"])
    return {
        "one": one,
        "many": many,
        "each": many / count,
        "further": (many - one) / (count - 1),
        "processes": processes,
        "errors": 0,
        "command": command,
    }


MEMORY_WORKERS = 8

MEMORY_SUITE = Suite(
    name="memory",
    title="Memory",
    about=f"Proportional set size (PSS) of all processes of a server, the master included, with the Django page of"
    f" `benches/apps`, after a time under wrk with {CONNECTIONS} connections: with 1 worker and with {MEMORY_WORKERS}.",
    columns=[
        Column("one", "1 worker, MiB", 1),
        Column("many", f"{MEMORY_WORKERS} workers, MiB", 1),
        Column("each", f"per worker of {MEMORY_WORKERS}, MiB", 1),
        Column("further", "each further worker, MiB", 1),
        Column("processes", f"processes with {MEMORY_WORKERS}"),
    ],
    chart="each",
    higher_is_better=False,
    cases=[
        Case(peer, DJANGO, options={"workers": MEMORY_WORKERS})
        for peer in (
            peers.FORKHORN_PRELOADED,
            peers.FORKHORN_NOT_PRELOADED,
            peers.GUNICORN_PRELOADED,
            peers.GUNICORN,
            peers.UWSGI_HTTP,
            peers.UWSGI_LAZY,
            peers.GRANIAN,
        )
    ],
    measure=memory,
    rounds=3,
    compare=[("each", "peer")],
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
