"""The suite `balance`: do instant requests wait behind slow ones?"""

from . import loads, peers
from .applications import BALANCE
from .process import Failed
from .server import Case, served
from .suite import CONNECTIONS, Bench, Column, Figures, Suite

WORKERS = 4
RATE = 300  # requests per second
SLOW_EVERY = 50
BURST = 20
ARRIVALS = {"steady": 1, "bursts": BURST}
TURNS = 3
WARM_UP_SECONDS = 0.5


def measure(case: Case, bench: Bench) -> Figures:
    expected = case.application.answer(bench.tools)
    with served(case, bench.tools) as server:

        def load(seconds: float, burst: int) -> dict:
            options = ["--connections", str(CONNECTIONS), "--rate", str(RATE), "--seconds", str(seconds)]
            options += ["--burst", str(burst), "--slow-every", str(SLOW_EVERY), "--slow-path", "/slow"]
            return loads.generator(server.port, server.protocol, expected, options, seconds, bench.tools)

        load(WARM_UP_SECONDS, 1)
        cpu = server.process.cpu_seconds()
        figures = load(bench.seconds, int(case.options["burst"]))
        cpu = server.process.cpu_seconds() - cpu
        server.check_alive()
        if not figures["requests"]:
            raise Failed("answered nothing under load")
        return {
            **{key: figures["instant"][key] for key in ("p50_us", "p90_us", "p99_us", "max_us")},
            "cpu_us": cpu * 1e6 / figures["requests"],
            "late_p99_us": figures["late"].get("p99_us", 0),
            "errors": figures["errors"] + figures["unfinished"],
            "reconnects": figures["reconnects"],
            "command": server.command,
        }


# What is worth many turns: servers in which an instant request does not wait for a slow one. The others are told by one.
# Behind nginx at a steady rate none does: nginx takes the connection that was idle last, or makes another.
CLOSE = (peers.FORKHORN_HTTP, peers.FORKHORN_FASTCGI, peers.UWSGI_HTTP, peers.UWSGI_ROUTER, peers.UWSGI)
DIRECT = (
    peers.FORKHORN_HTTP,
    peers.FORKHORN_FASTCGI,
    peers.UWSGI_HTTP,
    peers.UWSGI_ROUTER,
    peers.GTHREAD,
    peers.GTHREAD_1,
    peers.GRANIAN,
    peers.BJOERN,
)
BEHIND = (peers.FORKHORN_FASTCGI, peers.UWSGI, peers.GTHREAD, peers.GTHREAD_1, peers.GRANIAN, peers.BJOERN)


def case(peer: peers.Peer, arrival: str, nginx: bool) -> Case:
    one_turn = peer not in CLOSE and not (nginx and arrival == "steady")
    return Case(
        peer,
        BALANCE,
        f"{'behind nginx' if nginx else 'direct'}, {arrival}",
        nginx=nginx,
        kept=peer is not peers.UWSGI,
        workers=WORKERS,
        options={"burst": ARRIVALS[arrival], "one_turn": one_turn},
    )


def cases() -> list[Case]:
    return [
        case(peer, arrival, nginx)
        for arrival in ARRIVALS
        for nginx, servers in ((False, DIRECT), (True, BEHIND))
        for peer in servers
    ]


BALANCE_SUITE = Suite(
    name="balance",
    title="Balance: instant requests beside slow ones",
    about=f"{WORKERS} workers, {CONNECTIONS} kept connections, an open loop (`benches/load`) of {RATE} requests/s:"
    f" 1 request in {SLOW_EVERY} sleeps 200 ms, the others are instant, and only their latency is shown,"
    " counted from the moment at which each was due to the moment at which the kernel put the answer to its socket. What"
    " the generator sent too late is its own fault, and left out; *late* shows how much that was. *Steady*: at equal"
    f" distances. *Bursts*: {BURST} at the same moment, at the same mean rate. Each round is {TURNS} turns, with servers"
    " started anew; those that let instant requests wait for slow ones get one of them. The figures are medians of all"
    " turns, *spread* is the least and the greatest. *forkhorn, FastCGI, direct*: the generator speaks FastCGI on kept"
    " connections, as nginx does. uWSGI's http-socket keeps no connection, and its workers wait for the"
    " request of each connection that is made ahead of it. gunicorn's 4 threads make 16 places for requests,"
    " where the others have 4.",
    columns=[
        Column("p50_us", "p50 ms", 2, 1e-3),
        Column("p90_us", "p90 ms", 2, 1e-3),
        Column("p99_us", "p99 ms", 2, 1e-3),
        Column("p99_us", "spread of p99", 2, 1e-3, spread=True),
        Column("max_us", "max ms", 1, 1e-3),
        Column("late_p99_us", "late p99 ms", 2, 1e-3),
        Column("cpu_us", "CPU µs/request", 0),
        Column("reconnects", "reconnects"),
    ],
    chart="p99_us",
    higher_is_better=False,
    logarithmic=True,
    cases=cases(),
    measure=measure,
    turns=TURNS,
    compare=[("p99_us", "peer")],
)
