"""A case of a suite, and its server: started, asked until it answers right, and stopped."""

import hashlib
import http.client
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from . import webservers
from .applications import Application
from .peers import Job, Peer, system_program
from .process import Failed, Process, free_port
from .tools import LOAD_CORE, SERVER_CORE, Tools

START_SECONDS = 30


@dataclass(frozen=True)
class Case:
    """One row of a table."""

    peer: Peer
    application: Application
    group: str = ""  # tables and charts are divided by it
    nginx: bool = False
    kept: bool = True  # nginx keeps its connections to the peer
    workers: int = 1
    label: str = ""  # in place of the peer's name
    options: dict[str, float] = field(default_factory=dict, hash=False)  # the suite's own

    @property
    def name(self) -> str:
        if self.label:
            return self.label
        kept = (
            "" if not self.nginx or self.peer.protocol in ("uwsgi", "cgi") else ", kept" if self.kept else ", not kept"
        )
        return f"{self.peer.name}{kept}"

    @property
    def key(self) -> str:
        return f"{self.group}/{self.name}"


@dataclass
class Server:
    process: Process
    front: Process | None
    port: int  # of the front, if there is one
    protocol: str  # spoken there
    command: str  # as the report shows it

    def check_alive(self) -> None:
        self.process.check_alive()
        if self.front:
            self.front.check_alive()


@contextmanager
def served(case: Case, tools: Tools, wait: bool = True) -> Iterator[Server]:
    """Starts the case's server, and nginx where it belongs in front; waits until the right answer comes."""
    folder = new_folder(tools)
    environment = case.application.environment(tools) if case.application.module else {}
    with ExitStack() as stack:

        def start(command: list[str], core: int, name: str) -> Process:
            process = Process(command, core, folder / f"{name}.log", environment, tools.root)
            stack.callback(process.stop)
            return process

        job = Job(tools, case.application, free_port(), case.workers, folder)
        process = start(case.peer.command(job), SERVER_CORE, "server")
        shown = with_environment(case, tools) + tools.shown(process.command, {job.port: "PORT"})
        server = Server(process, None, job.port, case.peer.protocol, shown)
        if case.nginx:
            port = free_port()
            conf = webservers.nginx(folder, port, job.port, case.peer.protocol, case.kept, job.scripts)
            front = start([system_program("nginx"), "-p", str(folder), "-c", str(conf)], LOAD_CORE, "nginx")
            server = Server(process, front, port, "http", shown)
        if wait:
            wait_for_answer(server, case, tools)
        yield server


def with_environment(case: Case, tools: Tools) -> str:
    """The variables that a reader needs to repeat the command."""
    if not case.application.module or case.peer.family in ("floor", "forkhorn"):
        return ""
    return f"PYTHONPATH={case.application.folder} "


def new_folder(tools: Tools) -> Path:
    number = sum(1 for _ in tools.run.glob("start-*"))
    folder = tools.run / f"start-{number}"
    folder.mkdir(mode=0o755)
    return folder


def ask(port: int, application: Application, timeout: float) -> tuple[int, bytes]:
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        if application.upload:
            connection.request("POST", application.path, b"x" * application.upload)
        else:
            connection.request("GET", application.path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def check_answer(status: int, body: bytes, expected: bytes) -> None:
    if status != 200 or body != expected:
        raise Failed(
            f"answers {status} with {len(body)} bytes (SHA-256 {hashlib.sha256(body).hexdigest()[:8]}),"
            f" not 200 with {len(expected)} ({hashlib.sha256(expected).hexdigest()[:8]})"
        )


def wait_for_answer(server: Server, case: Case, tools: Tools) -> None:
    expected = case.application.answer(tools)
    deadline = time.monotonic() + START_SECONDS
    while True:
        server.check_alive()
        try:
            if server.protocol == "http":
                status, body = ask(server.port, case.application, timeout=START_SECONDS)
            else:
                status, body = ask_fastcgi(server.port, case.application, expected, tools)
        except (OSError, http.client.HTTPException) as error:
            status, body, problem = 0, b"", f"{type(error).__name__}: {error}"
        else:
            problem = ""
        # nginx answers 502 while the peer behind it is starting.
        if not problem and (status != 502 or not server.front):
            return check_answer(status, body, expected)
        if time.monotonic() > deadline:
            raise Failed(f"no answer within {START_SECONDS} s ({problem or status}): {server.process.last_words()}")
        time.sleep(0.02)


def ask_fastcgi(port: int, application: Application, expected: bytes, tools: Tools) -> tuple[int, bytes]:
    """The load generator asks, and compares; it says only whether all was right."""
    command = [str(tools.built / "load"), "--protocol", "fastcgi", "--port", str(port), "--requests", "1"]
    command += ["--connections", "1", "--path", application.path, "--body", expected.decode()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=START_SECONDS)
    if done.returncode != 0:
        raise OSError(done.stderr.strip())
    outcome = json.loads(done.stdout)
    if outcome["unfinished"]:
        # The socket is open before there is somebody to answer, and the generator doesn't wait for long.
        raise OSError("no answer yet")
    return (200, expected) if outcome["requests"] == 1 else (0, b"")
