"""What is served, and what the right answer to it is."""

import os
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from .process import Failed
from .tools import Tools

MIB = 1024 * 1024
SCRIPT_ANSWER = b"Hello from a script!\n"


@dataclass(frozen=True)
class Application:
    """One request to one application: a WSGI module, or a CGI script if there is no module."""

    module: str
    folder: str  # below the project's folder
    path: str = "/"
    upload: int = 0  # bytes of the body
    script: str = ""

    @property
    def file(self) -> str:
        return f"{self.folder}/{self.module}.py"

    def environment(self, tools: Tools) -> dict[str, str]:
        return {"PYTHONPATH": str(tools.root / self.folder), "BENCH_FILE": str(served_file(tools))}

    def answer(self, tools: Tools) -> bytes:
        return SCRIPT_ANSWER if self.script else reference(self, tools)


HELLO = Application("hello", "examples")
HELLO_LENGTH = Application("hello_length", "benches/apps")
DJANGO = Application("django_page", "benches/apps")
FLASK = Application("flask_page", "benches/apps")
BALANCE = Application("transfer", "benches/apps")
DOWNLOAD = Application("transfer", "benches/apps", "/download")
UPLOAD = Application("transfer", "benches/apps", "/upload", upload=MIB)
FILE = Application("transfer", "benches/apps", "/file")


def script(name: str) -> Application:
    return Application("", "", f"/cgi-bin/{name}", script=name)


def served_file(tools: Tools) -> Path:
    """The file of the suite `file`: 1 MiB."""
    path = tools.run / "file.bin"
    if not path.exists():
        path.write_bytes(b"fedcba9876543210" * (MIB // 16))
    return path


@lru_cache(maxsize=None)
def reference(application: Application, tools: Tools) -> bytes:
    """What the application answers if it is called without a server."""
    command = [str(tools.python), "benches/apps/reference.py", application.module, application.path]
    command += [str(application.upload)] if application.upload else []
    environment = {**os.environ, **application.environment(tools)}
    done = subprocess.run(command, cwd=tools.root, env=environment, capture_output=True, timeout=60)
    if done.returncode != 0:
        raise Failed(f"the application itself fails: {done.stderr.decode(errors='replace').strip()[-200:]}")
    return done.stdout
