"""The peers: how each is started, and which version it is. benches/README.md says how to add one."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import webservers
from .applications import Application
from .process import Failed
from .tools import Tools


@dataclass(frozen=True)
class Job:
    """One start of a peer."""

    tools: Tools
    application: Application
    port: int
    workers: int
    folder: Path  # for configuration and sockets, made for this start

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def callable(self) -> str:
        return f"{self.application.module}:application"

    @property
    def scripts(self) -> Path:
        return self.tools.run / "cgi-bin"

    def program(self, name: str, package: str = "") -> str:
        """A program of the virtual environment, or a failure that says why it isn't there."""
        self.package(package or name)
        return str(self.tools.venv / "bin" / name)

    def package(self, name: str) -> None:
        if name not in self.tools.packages:
            raise Failed(self.tools.failures.get(name, f"{name} is not installed"))


@dataclass(frozen=True)
class Peer:
    family: str  # what --only names
    name: str  # in the table
    protocol: str  # that its port speaks: http, fastcgi, uwsgi; or none, if it isn't a server
    version: Callable[[Tools], str]
    command: Callable[[Job], list[str]]


def packaged(family: str, name: str, protocol: str, command: Callable[[Job], list[str]]) -> Peer:
    """A peer from PyPI, whose distribution is called like its family."""
    return Peer(family, name, protocol, lambda tools: tools.packages.get(family, "not installed"), command)


def system_program(name: str) -> str:
    path = shutil.which(name, path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    if path is None:
        raise Failed(f"{name} is not installed")
    return path


# forkhorn


def forkhorn(name: str, protocol: str, *options: str) -> Peer:
    def command(job: Job) -> list[str]:
        if not job.tools.forkhorn.exists():
            raise Failed("target/release/forkhorn is not built")
        application = job.application
        served = ["--cgi", f"/cgi-bin={job.scripts}"] if application.script else [
            application.file, "--virtualenv", str(job.tools.venv),
        ]  # fmt: skip
        listener = ["--http" if protocol == "http" else "--fastcgi", job.address]
        fixed = ["--workers", str(job.workers), "--log-level", "warn"]
        return [str(job.tools.forkhorn), "serve", *served, *listener, *fixed, *options]

    return Peer("forkhorn", name, protocol, lambda tools: tools.version_of(str(tools.forkhorn), "--version"), command)


FORKHORN_HTTP = forkhorn("forkhorn, HTTP", "http")
FORKHORN_FASTCGI = forkhorn("forkhorn, FastCGI", "fastcgi")
FORKHORN_WARM = forkhorn("forkhorn --warm", "http", "--warm", "python,perl")
FORKHORN_SPARES = forkhorn("forkhorn --warm --warm-spares 8", "http", "--warm", "python,perl", "--warm-spares", "8")
FORKHORN_PRELOADED = forkhorn("forkhorn --preload always", "http", "--preload", "always")
FORKHORN_WARMED_UP = forkhorn("forkhorn --warm-up /", "http", "--preload", "always", "--warm-up", "/")
FORKHORN_NOT_PRELOADED = forkhorn("forkhorn --preload never", "http", "--preload", "never")


# The floors: what the same work costs without an application.


def floor(name: str, protocol: str, program: str) -> Peer:
    return Peer("floor", name, protocol, lambda tools: "C", lambda job: [str(job.tools.built / program), str(job.port)])


HTTP_FLOOR = floor("floor: C epoll loop, HTTP", "http", "http_floor")
FASTCGI_FLOOR = floor("floor: C epoll loop, FastCGI", "fastcgi", "fastcgi_floor")
SPAWN_FLOOR = floor("floor: posix_spawn, read, wait", "none", "spawn_floor")
FORK_FLOOR = Peer("floor", "floor: fork, wait", "none", lambda tools: "the system's", lambda job: [])


# WSGI servers


def by_script(package: str, script: str) -> Callable[[Job], list[str]]:
    """Peers that are a library, started by a script of ours."""

    def command(job: Job) -> list[str]:
        job.package(package)
        return [
            str(job.tools.python),
            f"benches/apps/{script}",
            job.application.module,
            str(job.port),
            str(job.workers),
        ]

    return command


def granian(job: Job) -> list[str]:
    return [
        job.program("granian"), "--interface", "wsgi", "--http", "1", "--no-ws", "--host", "127.0.0.1",
        "--port", str(job.port), "--workers", str(job.workers), "--blocking-threads", "1", "--log-level", "warning",
        job.callable,
    ]  # fmt: skip


def gunicorn(*options: str) -> Callable[[Job], list[str]]:
    def command(job: Job) -> list[str]:
        fixed = ["--bind", job.address, "--workers", str(job.workers), "--log-level", "warning"]
        return [job.program("gunicorn"), *fixed, *options, job.callable]

    return command


def gthread(threads: int) -> Callable[[Job], list[str]]:
    return gunicorn("--worker-class", "gthread", "--threads", str(threads), "--keep-alive", "75")


def uwsgi(*sockets: str) -> Callable[[Job], list[str]]:
    def command(job: Job) -> list[str]:
        fixed = [
            "--master", "--processes", str(job.workers), "--single-interpreter", "--need-app", "--die-on-term",
            "--disable-logging", "--listen", "1024", "--virtualenv", str(job.tools.venv), "--module", job.callable,
        ]  # fmt: skip
        return [job.program("uwsgi"), *(text.format(address=job.address) for text in sockets), *fixed]

    return command


def waitress(job: Job) -> list[str]:
    return [job.program("waitress-serve", "waitress"), f"--listen={job.address}", "--threads=4", job.callable]


BJOERN = packaged("bjoern", "bjoern", "http", by_script("bjoern", "serve_bjoern.py"))
FASTWSGI = packaged("fastwsgi", "fastwsgi", "http", by_script("fastwsgi", "serve_fastwsgi.py"))
GRANIAN = packaged("granian", "granian", "http", granian)
GUNICORN = packaged("gunicorn", "gunicorn sync", "http", gunicorn())
GUNICORN_PRELOADED = packaged("gunicorn", "gunicorn sync --preload", "http", gunicorn("--preload"))
GTHREAD = packaged("gunicorn", "gunicorn gthread, 4 threads", "http", gthread(4))
GTHREAD_1 = packaged("gunicorn", "gunicorn gthread, 1 thread", "http", gthread(1))
UWSGI_HTTP = packaged("uwsgi", "uWSGI http-socket", "http", uwsgi("--http-socket", "{address}"))
UWSGI_ROUTER = packaged(
    "uwsgi",
    "uWSGI http router",
    "http",
    uwsgi("--http", "{address}", "--http-keepalive", "--http-auto-chunked", "--tcp-nodelay"),
)
UWSGI = packaged("uwsgi", "uWSGI, uwsgi protocol", "uwsgi", uwsgi("--socket", "{address}"))
UWSGI_FASTCGI = packaged("uwsgi", "uWSGI, FastCGI", "fastcgi", uwsgi("--fastcgi-socket", "{address}"))
UWSGI_LAZY = packaged("uwsgi", "uWSGI --lazy-apps", "http", uwsgi("--http-socket", "{address}", "--lazy-apps"))
WAITRESS = packaged("waitress", "waitress, 4 threads", "http", waitress)


# CGI servers


def apache(job: Job) -> list[str]:
    return [system_program("apache2"), "-DFOREGROUND", "-f", str(webservers.apache(job.folder, job.port, job.scripts))]


def lighttpd(job: Job) -> list[str]:
    return [system_program("lighttpd"), "-D", "-f", str(webservers.lighttpd(job.folder, job.port, job.scripts))]


def fcgiwrap(job: Job) -> list[str]:
    return [system_program("fcgiwrap"), "-c", "8", "-s", f"tcp:{job.address}"]


def debian(name: str, *version_command: str) -> Callable[[Tools], str]:
    return lambda tools: tools.version_of(system_program(name), *version_command)


APACHE = Peer("apache", "Apache mod_cgid", "http", debian("apache2", "-v"), apache)
LIGHTTPD = Peer("lighttpd", "lighttpd mod_cgi", "http", debian("lighttpd", "-v"), lighttpd)
FCGIWRAP = Peer("fcgiwrap", "fcgiwrap", "cgi", debian("fcgiwrap", "-h"), fcgiwrap)
