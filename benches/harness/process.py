"""Server processes: started on a core, measured with all their descendants, and stopped for certain."""

import os
import shlex
import signal
import socket
import subprocess
import time
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
STOP_SECONDS = 5


class Failed(Exception):
    """A peer that can't be measured; the text goes into the table."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def stat_fields(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat after the name, or None if the process is gone: [0] is the state, [1] the parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def tree(root: int) -> list[int]:
    """The process and all its descendants."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal() and (fields := stat_fields(int(name))):
            children.setdefault(int(fields[1]), []).append(int(name))
    found = [root]
    for pid in found:
        found.extend(children.get(pid, []))
    return found


def core_idle_seconds(core: int) -> float:
    """How long a core has idled since the machine was started."""
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith(f"cpu{core} "):
            return sum(map(int, line.split()[4:6])) / TICKS
    raise Failed(f"/proc/stat doesn't list core {core}")


class Process:
    """One server with its workers and scripts, all on one core."""

    def __init__(self, command: list[str], core: int, log: Path, environment: dict[str, str], cwd: Path):
        self.command = ["taskset", "-c", str(core), *command]
        self.log = log
        with log.open("wb") as output:
            self.popen = subprocess.Popen(
                self.command,
                cwd=cwd,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pid = self.popen.pid

    def check_alive(self) -> None:
        if (status := self.popen.poll()) is not None:
            raise Failed(f"ended with status {status}: {self.last_words()}")

    def last_words(self) -> str:
        """The last line of the log that says something."""
        lines = [line.strip() for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1][:200] if lines else f"no word from {shlex.join(self.command)}"

    def cpu_seconds(self) -> float:
        """User and system time of every process of the tree, and of those that they have waited for."""
        ticks = 0
        for pid in tree(self.pid):
            if fields := stat_fields(pid):
                ticks += sum(map(int, fields[11:15]))
        return ticks / TICKS

    def memory_kib(self, name: str) -> int:
        """The sum over the tree of one line of smaps_rollup, such as Pss or Rss."""
        total = 0
        for pid in tree(self.pid):
            try:
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            except OSError:
                continue
            total += sum(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
        return total

    def descriptors(self) -> int:
        total = 0
        for pid in tree(self.pid):
            try:
                total += len(os.listdir(f"/proc/{pid}/fd"))
            except OSError:
                continue
        return total

    def processes(self) -> int:
        return sum(1 for pid in tree(self.pid) if (fields := stat_fields(pid)) and fields[0] != "Z")

    def zombies(self) -> int:
        return sum(1 for pid in tree(self.pid) if (fields := stat_fields(pid)) and fields[0] == "Z")

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """TERM, a while, then KILL to all that is left: of its group, and of those that left the group."""
        if self.popen.returncode is not None:
            return
        members = [(pid, fields[19]) for pid in tree(self.pid) if (fields := stat_fields(pid))]
        self.popen.terminate()
        deadline = time.monotonic() + seconds
        # The process is looked at without being reaped: until it is, its number can't come to mean another group.
        look = os.WEXITED | os.WNOHANG | os.WNOWAIT
        while not os.waitid(os.P_PID, self.pid, look) and time.monotonic() < deadline:
            time.sleep(0.01)
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.popen.wait()
        for pid, started in members[1:]:
            if (fields := stat_fields(pid)) and fields[19] == started:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
