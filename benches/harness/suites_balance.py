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


def measure(case: Case, bench: Bench) -> Figures:
    expected = case.application.answer(bench.tools)
    with served(case, bench.tools) as server:

        def load(seconds: float, burst: int) -> dict:
            options = ["--connections", str(CONNECTIONS), "--rate", str(RATE), "--seconds", str(seconds)]
            options += ["--burst", str(burst), "--slow-every", str(SLOW_EVERY), "--slow-path", "/slow"]
            return loads.generator(server.port, server.protocol, expected, options, seconds, bench.tools)

        load(1, 1)
        cpu = server.process.cpu_seconds()
        figures = load(bench.seconds, int(case.options["burst"]))
        cpu = server.process.cpu_seconds() - cpu
        server.check_alive()
        if not figures["requests"]:
            raise Failed("answered nothing under load")
        return {
            **{key: figures["instant"][key] for key in ("p50_us", "p90_us", "p99_us", "max_us")},
            "cpu_us": cpu * 1e6 / figures["requests"],
            "errors": figures["errors"] + figures["unfinished"],
            "reconnects": figures["reconnects"],
            "command": server.command,
        }


def cases() -> list[Case]:
    direct = (
        peers.FORKHORN_HTTP,
        peers.FORKHORN_FASTCGI,
        peers.UWSGI_HTTP,
        peers.UWSGI_ROUTER,
        peers.GTHREAD,
        peers.GTHREAD_1,
        peers.GRANIAN,
        peers.BJOERN,
    )
    behind = (peers.FORKHORN_FASTCGI, peers.UWSGI, peers.GTHREAD, peers.GTHREAD_1, peers.GRANIAN, peers.BJOERN)
    return [
        case
        for name, burst in ARRIVALS.items()
        for case in (
            *(Case(peer, BALANCE, f"direct, {name}", workers=WORKERS, options={"burst": burst}) for peer in direct),
            *(
                Case(
                    peer,
                    BALANCE,
                    f"behind nginx, {name}",
                    nginx=True,
                    kept=peer is not peers.UWSGI,
                    workers=WORKERS,
                    options={"burst": burst},
                )
                for peer in behind
            ),
        )
    ]


BALANCE_SUITE = Suite(
    name="balance",
    title="Balance: instant requests beside slow ones",
    about=f"{WORKERS} workers, {CONNECTIONS} kept connections, an open loop (`benches/load`) of {RATE} requests/s:"
    f" 1 request in {SLOW_EVERY} sleeps 200 ms, the others are instant, and only their latency is shown,"
    f" counted from the moment at which each was due. *Steady*: at equal distances. *Bursts*: {BURST} at the"
    " same moment, at the same mean rate. *forkhorn, FastCGI, direct*: the generator speaks FastCGI on kept"
    " connections, as nginx does. uWSGI's http-socket keeps no connection, and its workers wait for the"
    " request of each connection that is made ahead of it. gunicorn's 4 threads make 16 places for requests,"
    " where the others have 4.",
    columns=[
        Column("p50_us", "p50 ms", 2, 1e-3),
        Column("p90_us", "p90 ms", 2, 1e-3),
        Column("p99_us", "p99 ms", 2, 1e-3),
        Column("max_us", "max ms", 1, 1e-3),
        Column("cpu_us", "CPU µs/request", 0),
        Column("reconnects", "reconnects"),
    ],
    chart="p99_us",
    higher_is_better=False,
    logarithmic=True,
    cases=cases(),
    measure=measure,
    compare=[("p99_us", "peer")],
)
