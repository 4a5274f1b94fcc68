"""What a suite is, and the measurements that several suites share."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from . import loads
from .process import Failed, core_idle_seconds
from .server import Case, Server, served
from .tools import SERVER_CORE, Tools

Figures = dict[str, float | str]

WARM_UP_SECONDS = 1
CONNECTIONS = 64


@dataclass(frozen=True)
class Bench:
    """What the command line says, for one measurement."""

    tools: Tools
    seconds: float
    requests: int  # of the soak


@dataclass(frozen=True)
class Column:
    key: str
    title: str
    digits: int = 0
    scale: float = 1.0
    spread: bool = False  # the least and the greatest of the rounds, in place of their median


@dataclass(frozen=True)
class Suite:
    name: str
    title: str
    about: str  # how it is measured, for the report
    columns: list[Column]
    chart: str  # key of the column that is drawn
    higher_is_better: bool
    cases: list[Case]
    measure: Callable[[Case, Bench], Figures]
    logarithmic: bool = False
    rounds: int = 0  # at most so many; 0 for as many as asked for
    turns: int = 1  # each round measures so often, A B C … A B C …; of the cases with the option `one_turn` only once
    compare: list[tuple[str, str]] = field(default_factory=list)  # (key, "floor" or "peer") of the summary
    compare_across_groups: bool = False  # the best peer is that of the suite, not of the group


RATE = Column("rate", "requests/s")
P50 = Column("p50_us", "p50 µs")
P99 = Column("p99_us", "p99 µs")
CPU = Column("cpu_us", "CPU µs/request", 1)
BUSY = Column("busy", "core busy %", 0, 100)
LOAD_BUSY = Column("load_busy", "load's core busy %", 0, 100)
PSS = Column("pss_mib", "PSS MiB", 1)
MIB_RATE = Column("mib_rate", "MiB/s")
HTTP_COLUMNS = [RATE, P50, P99, CPU, BUSY, PSS]


def rate_over_wrk(case: Case, bench: Bench) -> Figures:
    """Requests per second of one server under wrk, and what each cost its processes."""
    return under_wrk(case, bench, lambda server: server.process.cpu_seconds())


def rate_and_core(case: Case, bench: Bench) -> Figures:
    """The same, with all the time that the server's core was busy: some servers don't wait for their scripts, whose
    time is then in no process's account."""
    return under_wrk(case, bench, lambda server: time.monotonic() - core_idle_seconds(SERVER_CORE))


def under_wrk(case: Case, bench: Bench, spent: Callable[[Server], float]) -> Figures:
    connections = int(case.options.get("connections", CONNECTIONS))
    with served(case, bench.tools) as server:
        loads.wrk(server.port, case.application, connections, WARM_UP_SECONDS, bench.tools)
        cpu = spent(server)
        load = loads.wrk(server.port, case.application, connections, bench.seconds, bench.tools)
        cpu = spent(server) - cpu
        server.check_alive()
        return figures(load, cpu, server)


def rate_over_light(case: Case, bench: Bench) -> Figures:
    """Requests per second of a server that the lightest generator keeps busy."""
    with served(case, bench.tools) as server:
        loads.light(server.port, case.application, CONNECTIONS, WARM_UP_SECONDS, bench.tools)
        cpu = server.process.cpu_seconds()
        load = loads.light(server.port, case.application, CONNECTIONS, bench.seconds, bench.tools)
        cpu = server.process.cpu_seconds() - cpu
        server.check_alive()
        return {
            "rate": load["requests"] / load["seconds"],
            "cpu_us": cpu * 1e6 / load["requests"],
            "busy": cpu / load["seconds"],
            "load_busy": load["busy"],
            "command": server.command,
        }


def figures(load: dict[str, float], cpu_seconds: float, server: Server) -> Figures:
    if load["status_errors"] * 100 > load["requests"]:
        raise Failed(f"{load['status_errors']:.0f} of {load['requests']:.0f} answers had a wrong status under load")
    rate = load["requests"] / load["seconds"]
    return {
        "rate": rate,
        "mib_rate": rate,  # of the suites whose bodies are 1 MiB
        "p50_us": load["p50_us"],
        "p99_us": load["p99_us"],
        "cpu_us": cpu_seconds * 1e6 / load["requests"],
        "busy": cpu_seconds / load["seconds"],
        "pss_mib": server.process.memory_kib("Pss") / 1024,
        "errors": load["status_errors"] + load["timeouts"],
        "closed": load["socket_errors"],
        "command": server.command,
    }
