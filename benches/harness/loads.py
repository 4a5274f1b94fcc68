"""What makes the load: wrk, the load generators, and the loop that is the floor of CGI. All on the load's core."""

import json
import subprocess

from .applications import Application
from .process import Failed
from .tools import LOAD_CORE, SERVER_CORE, Tools


def run(command: list[str], core: int, seconds: float, tools: Tools) -> str:
    """Runs a load to its end, or to half a minute past it."""
    try:
        done = subprocess.run(
            ["taskset", "-c", str(core), *command],
            cwd=tools.root,
            capture_output=True,
            text=True,
            timeout=seconds + 30,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"{command[0]} did not end within {seconds + 30:.0f} s") from None
    if done.returncode != 0:
        raise Failed(f"{command[0].rpartition('/')[2]}: {done.stderr.strip()[-200:]}")
    return done.stdout


def wrk(port: int, application: Application, connections: int, seconds: float, tools: Tools) -> dict[str, float]:
    """Closed loop over HTTP: each connection asks again once it is answered."""
    whole_seconds = max(1, round(seconds))  # wrk knows no fractions
    command = ["wrk", "-t1", f"-c{connections}", f"-d{whole_seconds}s", "--timeout", "10s", "--latency"]
    command += ["-s", "benches/load/wrk.lua", f"http://127.0.0.1:{port}{application.path}"]
    command += ["--", str(application.upload)] if application.upload else []
    output = run(command, LOAD_CORE, whole_seconds, tools)
    found = [line[5:] for line in output.splitlines() if line.startswith("JSON ")]
    if not found:
        raise Failed(f"wrk reported nothing: {output.strip()[-200:]}")
    figures = json.loads(found[0])
    if figures["requests"] == 0:
        raise Failed("answered nothing under load")
    return figures


def light(port: int, application: Application, connections: int, seconds: float, tools: Tools) -> dict[str, float]:
    """benches/light: a closed loop over HTTP that needs less of a processor than wrk, and so asks more of the server."""
    command = [str(tools.built / "light"), str(port), str(seconds), str(connections), application.path]
    return json.loads(run([*command, application.answer(tools).decode()], LOAD_CORE, seconds, tools))


def generator(port: int, protocol: str, body: bytes, options: list[str], seconds: float, tools: Tools) -> dict:
    """benches/load: closed loops over FastCGI too, and open loops. Each answer is compared."""
    command = [str(tools.built / "load"), "--protocol", protocol, "--port", str(port), "--body", body.decode()]
    return json.loads(run(command + options, LOAD_CORE, seconds, tools))


def spawn_floor(program: str, body_bytes: int, seconds: float, tools: Tools) -> dict[str, float]:
    command = [str(tools.built / "spawn_floor"), str(seconds), str(body_bytes), program]
    return json.loads(run(command, SERVER_CORE, seconds, tools))


def fork_floor(command: list[str], seconds: float, tools: Tools) -> dict[str, float]:
    """A program of benches/floor, the interpreter in its first line."""
    program, *arguments = command
    return json.loads(run([f"benches/floor/{program}", str(seconds), *arguments], SERVER_CORE, seconds, tools))
