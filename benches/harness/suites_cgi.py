"""The suite `cgi`: a process per request."""

import time

from . import loads, peers
from .applications import SCRIPT_ANSWER, script
from .process import core_idle_seconds
from .server import Case
from .suite import BUSY, CPU, P50, P99, RATE, Bench, Figures, Suite, rate_and_core
from .tools import SERVER_CORE

SCRIPTS = {
    "static C program": "script.c.cgi",
    "sh": "script.sh",
    "Perl": "script.pl",
    "Perl with CGI.pm": "cgi_pm.pl",
    "Python": "script.py",
}
# What warm interpreters can run, and the floor of that.
FORK_FLOORS = {
    "Perl": ["fork_floor.pl"],
    "Perl with CGI.pm": ["fork_floor.pl", "CGI"],
    "Python": ["fork_floor.py"],
}
# Whose answer the floor does not know.
NO_FLOOR = ("Perl with CGI.pm",)
CONNECTIONS = 8
HEAD_BYTES = len(b"Content-Type: text/plain\r\n\r\n")


def measure(case: Case, bench: Bench) -> Figures:
    if case.peer not in (peers.SPAWN_FLOOR, peers.FORK_FLOOR):
        return rate_and_core(case, bench)
    length = HEAD_BYTES + len(SCRIPT_ANSWER)
    began, idle = time.monotonic(), core_idle_seconds(SERVER_CORE)
    if case.peer is peers.SPAWN_FLOOR:
        program = str(bench.tools.run / "cgi-bin" / case.application.script)
        run = loads.spawn_floor(program, length, bench.seconds, bench.tools)
        shown = f"BUILT/spawn_floor {bench.seconds:g} {length} RUN/cgi-bin/{case.application.script}"
    else:
        program, *modules = FORK_FLOORS[case.group.removesuffix(", warm")]
        run = loads.fork_floor([program, *modules], bench.seconds, bench.tools)
        shown = " ".join([f"benches/floor/{program}", f"{bench.seconds:g}", *modules])
    busy = time.monotonic() - began - (core_idle_seconds(SERVER_CORE) - idle)
    return {
        "rate": run["requests"] / run["seconds"],
        "cpu_us": busy * 1e6 / run["requests"],
        "busy": busy / run["seconds"],
        "command": f"taskset -c 0 {shown}",
    }


def cases() -> list[Case]:
    options = {"connections": CONNECTIONS}
    classic = (
        (peers.SPAWN_FLOOR, False, True),
        (peers.FORKHORN_HTTP, False, True),
        (peers.FORKHORN_FASTCGI, True, True),
        (peers.FORKHORN_FASTCGI, True, False),
        (peers.APACHE, False, True),
        (peers.LIGHTTPD, False, True),
        (peers.FCGIWRAP, True, False),
    )
    found = [
        Case(peer, script(name), group, nginx=nginx, kept=kept, options=options)
        for group, name in SCRIPTS.items()
        for peer, nginx, kept in classic
        if peer is not peers.SPAWN_FLOOR or group not in NO_FLOOR
    ]
    warm = (peers.FORK_FLOOR, peers.FORKHORN_WARM, peers.FORKHORN_SPARES)
    return found + [
        Case(peer, script(SCRIPTS[group]), f"{group}, warm", options=options) for group in FORK_FLOORS for peer in warm
    ]


CGI_SUITE = Suite(
    name="cgi",
    title="CGI: a process per request",
    about=f"The scripts of `benches/cgi`, wrk with {CONNECTIONS} kept connections; servers and scripts on one"
    " core, nginx on the load's. One worker of forkhorn; Apache with mpm_event; fcgiwrap with 8 processes."
    " CPU time is all the time that the core was busy, because Apache and fcgiwrap don't wait for their"
    " scripts in a way that the kernel adds up. The floor starts one script after the other with"
    " posix_spawn, reads what it writes, and waits for its end. `--warm` copies an interpreter that runs already;"
    " its floor copies one like it, whose copies end at once, one after the other.",
    columns=[RATE, P50, P99, CPU, BUSY],
    chart="rate",
    higher_is_better=True,
    cases=cases(),
    measure=measure,
    compare=[("rate", "floor"), ("rate", "peer")],
)
