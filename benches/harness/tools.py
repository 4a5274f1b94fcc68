"""Where everything is, and what it is called: paths, versions, the machine."""

import json
import os
import platform
import re
import subprocess
import tempfile
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path

SERVER_CORE, LOAD_CORE = 0, 1
VERSION = re.compile(r"\d+(\.\d+)+")


@dataclass(frozen=True, eq=False)
class Tools:
    root: Path  # the project's folder
    venv: Path  # with the peers that are Python packages
    target: Path  # cargo's
    built: Path  # the C programs of benches/
    failures: dict[str, str]  # peer -> why it could not be installed

    @property
    def forkhorn(self) -> Path:
        return self.target / "release" / "forkhorn"

    @property
    def python(self) -> Path:
        return self.venv / "bin" / "python3"

    @cached_property
    def run(self) -> Path:
        """A folder for configurations, logs and what is served, that web servers' own users can read."""
        path = Path(tempfile.mkdtemp(prefix="forkhorn-bench-"))
        path.chmod(0o755)
        return path

    @cached_property
    def packages(self) -> dict[str, str]:
        """Version of each Python package of the virtual environment, by its name in lower case."""
        code = (
            "import importlib.metadata as m, json;"
            " print(json.dumps({d.name.lower(): d.version for d in m.distributions()}))"
        )
        return json.loads(subprocess.run([self.python, "-c", code], capture_output=True, check=True, text=True).stdout)

    def version_of(self, *command: str) -> str:
        """The first version number that a command prints."""
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=20)
        except (OSError, subprocess.TimeoutExpired):
            return "missing"
        found = VERSION.search(done.stdout + done.stderr)
        return found.group() if found else "unknown"

    def shown(self, command: list[str], ports: dict[int, str]) -> str:
        """A command as the report shows it: paths from the project's folder, names for ports."""
        text = " ".join(command)
        for path, name in (
            (self.run, "RUN"),
            (self.built, "BUILT"),
            (self.venv, ".venv-bench"),
            (self.target, "target"),
        ):
            text = text.replace(f"{path}/", f"{name}/").replace(str(path), name)
        text = text.replace(f"{self.root}/", "").replace(str(self.root), ".")
        for port, name in ports.items():
            text = re.sub(rf"\b{port}\b", name, text)
        return text

    def machine(self) -> dict[str, str]:
        cpus = Path("/proc/cpuinfo").read_text()
        model = re.search(r"model name\s*:\s*(.*)", cpus)
        memory = re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())
        return {
            "CPU": model.group(1) if model else platform.machine(),
            "cores": str(os.cpu_count()),
            "memory": f"{int(memory.group(1)) / 1048576:.1f} GiB" if memory else "unknown",
            "kernel": platform.release(),
            "system": distribution(),
            "Python": self.version_of(str(self.python), "--version"),
            "forkhorn": f"{self.version_of(str(self.forkhorn), '--version')} ({self.commit()})",
            "load average at the start": f"{os.getloadavg()[0]:.2f}",
            "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        }

    def commit(self) -> str:
        def git(*arguments: str) -> str:
            return subprocess.run(["git", *arguments], cwd=self.root, capture_output=True, text=True).stdout.strip()

        changed = git(
            "status", "--porcelain", "--untracked-files=no", "--", "src", "python", "Cargo.toml", "Cargo.lock"
        )
        return f"commit {git('rev-parse', '--short', 'HEAD') or 'unknown'}{', changed' if changed else ''}"


def distribution() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"
