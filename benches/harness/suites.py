"""The suites: their cases, and how each is measured. Those of one request's rate are here; the rest come after them."""

from . import peers
from .applications import DJANGO, DOWNLOAD, FILE, FLASK, HELLO, HELLO_LENGTH, UPLOAD, Application
from .server import Case
from .suite import (
    BUSY,
    CPU,
    HTTP_COLUMNS,
    LOAD_BUSY,
    MIB_RATE,
    P50,
    P99,
    PSS,
    RATE,
    Suite,
    rate_over_light,
    rate_over_wrk,
)
from .suites_balance import BALANCE_SUITE
from .suites_cgi import CGI_SUITE
from .suites_process import MEMORY_SUITE, SOAK_SUITE, START_SUITE

HTTP = Suite(
    name="http",
    title="HTTP, no proxy",
    about="`examples/hello.py`, one worker, wrk with 64 kept connections; then the same application with a"
    " Content-Length of its own. Without one, bjoern, gunicorn and uWSGI's http router answer in chunks;"
    " bjoern and the router write the last of them apart, and the router's waits for the acknowledgement of"
    " the others (Nagle's algorithm; for bjoern it is switched off here). gunicorn's sync worker and uWSGI's"
    " http-socket close each connection; wrk then makes a new one.",
    columns=HTTP_COLUMNS,
    chart="rate",
    higher_is_better=True,
    cases=[
        Case(peer, application, group)
        for group, application in (("hello.py", HELLO), ("with Content-Length", HELLO_LENGTH))
        for peer in (
            peers.HTTP_FLOOR,
            peers.FORKHORN_HTTP,
            peers.FASTWSGI,
            peers.BJOERN,
            peers.GRANIAN,
            peers.UWSGI_HTTP,
            peers.UWSGI_ROUTER,
            peers.WAITRESS,
            peers.GUNICORN,
            peers.GTHREAD,
        )
    ],
    measure=rate_over_wrk,
    compare=[("cpu_us", "floor"), ("rate", "peer")],
)

SATURATED = Suite(
    name="saturated",
    title="HTTP, the server at its limit",
    about="The same applications, one worker, 64 kept connections, under a generator that is lighter than wrk: where a"
    " server's core is busy and the load's is not, the rate is the server's own. `benches/light` compares each answer's"
    " length, status and body with those of the first and parses nothing, so a server's answers cost it the same"
    " however many fields they have. The floor answers faster than even this can ask.",
    columns=[RATE, CPU, BUSY, LOAD_BUSY],
    chart="rate",
    higher_is_better=True,
    cases=[
        Case(peer, application, group)
        for group, application in (("hello.py", HELLO), ("with Content-Length", HELLO_LENGTH))
        for peer in (peers.HTTP_FLOOR, peers.FORKHORN_HTTP, peers.FASTWSGI, peers.BJOERN, peers.GRANIAN)
    ],
    measure=rate_over_light,
    compare=[("cpu_us", "floor"), ("rate", "peer")],
)

NGINX = Suite(
    name="nginx",
    title="Behind nginx",
    about="`examples/hello.py`, one worker, wrk with 64 kept connections to nginx; last, the same application with a"
    " Content-Length of its own, for servers that would answer in chunks without it. nginx (one worker) runs on the"
    " load's core, the application's server alone on the other: CPU time is that of the server's processes, without"
    " nginx, and the rate is bounded by nginx and wrk. *Kept* says whether nginx keeps its connections to the server.",
    columns=HTTP_COLUMNS,
    chart="cpu_us",
    higher_is_better=False,
    cases=[
        Case(peers.FASTCGI_FLOOR, HELLO, "FastCGI, kept", nginx=True),
        Case(peers.FORKHORN_FASTCGI, HELLO, "FastCGI, kept", nginx=True),
        Case(peers.FASTCGI_FLOOR, HELLO, "FastCGI, not kept", nginx=True, kept=False),
        Case(peers.FORKHORN_FASTCGI, HELLO, "FastCGI, not kept", nginx=True, kept=False),
        Case(peers.UWSGI_FASTCGI, HELLO, "FastCGI, not kept", nginx=True, kept=False),
        Case(peers.HTTP_FLOOR, HELLO, "HTTP and uwsgi", nginx=True),
        Case(peers.FORKHORN_HTTP, HELLO, "HTTP and uwsgi", nginx=True),
        Case(peers.BJOERN, HELLO, "HTTP and uwsgi", nginx=True),
        Case(peers.GRANIAN, HELLO, "HTTP and uwsgi", nginx=True),
        Case(peers.UWSGI, HELLO, "HTTP and uwsgi", nginx=True, kept=False),
        Case(peers.GUNICORN, HELLO, "HTTP and uwsgi", nginx=True, kept=False),
        Case(peers.GTHREAD, HELLO, "HTTP and uwsgi", nginx=True),
        *(
            Case(peer, HELLO_LENGTH, "with Content-Length", nginx=True)
            for peer in (peers.FORKHORN_FASTCGI, peers.FORKHORN_HTTP, peers.BJOERN, peers.GRANIAN, peers.GTHREAD)
        ),
    ],
    measure=rate_over_wrk,
    compare=[("cpu_us", "floor"), ("cpu_us", "peer"), ("rate", "peer")],
    compare_across_groups=True,
)

ALL_HTTP = (
    peers.FORKHORN_HTTP,
    peers.FASTWSGI,
    peers.BJOERN,
    peers.GRANIAN,
    peers.UWSGI_HTTP,
    peers.WAITRESS,
    peers.GUNICORN,
    peers.GTHREAD,
)

PAGES = Suite(
    name="pages",
    title="Pages of Django and Flask",
    about="`benches/apps/django_page.py` and `flask_page.py`: a template with fifty rows, one worker, wrk with 64 kept"
    " connections.",
    columns=HTTP_COLUMNS,
    chart="rate",
    higher_is_better=True,
    cases=[Case(peer, page, group) for group, page in (("Django", DJANGO), ("Flask", FLASK)) for peer in ALL_HTTP],
    measure=rate_over_wrk,
    compare=[("rate", "peer")],
)


def transfer_cases(application: Application) -> list[Case]:
    """Eight connections: at 1 MiB each, more of them would measure the sizes of the kernel's buffers."""
    options = {"connections": 8}
    behind = (peers.FORKHORN_FASTCGI, peers.FORKHORN_HTTP, peers.BJOERN, peers.GRANIAN, peers.UWSGI)
    return [Case(peer, application, "HTTP", options=options) for peer in ALL_HTTP] + [
        Case(peer, application, "behind nginx", nginx=True, kept=peer is not peers.UWSGI, options=options)
        for peer in behind
    ]


def transfer_suite(name: str, title: str, about: str, application: Application) -> Suite:
    return Suite(
        name=name,
        title=title,
        about=f"{about} One worker, wrk with 8 kept connections; each body has 1 MiB, so MiB/s are requests/s. Behind"
        " nginx, the CPU time is the server's alone.",
        columns=[MIB_RATE, P50, P99, CPU, BUSY, PSS],
        chart="mib_rate",
        higher_is_better=True,
        cases=transfer_cases(application),
        measure=rate_over_wrk,
        compare=[("mib_rate", "peer"), ("cpu_us", "peer")],
    )


UPLOAD_SUITE = transfer_suite(
    "upload", "Upload", "The application reads the body in blocks of 64 KiB and answers its length.", UPLOAD
)
DOWNLOAD_SUITE = transfer_suite("download", "Download", "The application returns one block.", DOWNLOAD)
FILE_SUITE = transfer_suite(
    "file",
    "File",
    "The application returns `wsgi.file_wrapper` of a file in blocks of 64 KiB; where a server has none, an iterator"
    " over such blocks.",
    FILE,
)

SUITES = {
    suite.name: suite
    for suite in (
        HTTP,
        SATURATED,
        NGINX,
        PAGES,
        UPLOAD_SUITE,
        DOWNLOAD_SUITE,
        FILE_SUITE,
        BALANCE_SUITE,
        CGI_SUITE,
        START_SUITE,
        MEMORY_SUITE,
        SOAK_SUITE,
    )
}
