"""The driver: reads the command line, runs the suites in interleaved rounds, and has the report written."""

import argparse
import json
import os
import shutil
import signal
import statistics
import sys
import time
import traceback
from pathlib import Path

from . import report
from .peers import system_program
from .process import Failed
from .server import Case
from .suite import Bench, Suite
from .suites import SUITES
from .suites_cgi import SCRIPTS
from .tools import LOAD_CORE, SERVER_CORE, Tools


def main() -> None:
    arguments = parse()
    available = os.sched_getaffinity(0)
    if not {SERVER_CORE, LOAD_CORE} <= available:
        sys.exit("bench: needs two cores, 0 for the server and 1 for the load")
    os.sched_setaffinity(0, {LOAD_CORE})
    # An end from outside unwinds like Ctrl-C, so that every server is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench: stopped"))
    root = Path(__file__).resolve().parents[2]
    tools = Tools(
        root, root / ".venv-bench", arguments.target.absolute(), arguments.built.absolute(), install_failures(arguments)
    )
    (arguments.out / "benchmarks").mkdir(parents=True, exist_ok=True)
    try:
        prepare_scripts(tools)
        for name in arguments.suites:
            run_suite(SUITES[name], arguments, tools)
    finally:
        if not arguments.keep_logs:
            shutil.rmtree(tools.run, ignore_errors=True)
    say(f"wrote {report.write(arguments.out, SUITES)}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Measures forkhorn and other servers.")
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"of {', '.join(SUITES)} [all]")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds [5]")
    parser.add_argument(
        "--seconds", type=float, default=4, help="length of one measurement [4]"
    )
    parser.add_argument("--requests", type=int, default=1_000_000, help="requests of the soak [1000000]")
    parser.add_argument(
        "--only", default="", metavar="PEER,PEER", help="families of servers, such as forkhorn,floor,bjoern"
    )
    parser.add_argument("--out", type=Path, help="folder of benchmarks.md [docs; target/bench/report with --only]")
    parser.add_argument("--keep-logs", action="store_true", help="leave configurations and logs of the servers")
    parser.add_argument("--target", type=Path, default=Path("target"), help=argparse.SUPPRESS)
    parser.add_argument("--built", type=Path, default=Path("target/bench"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.suites = arguments.suites or list(SUITES)
    if unknown := [name for name in arguments.suites if name not in SUITES]:
        parser.error(f"no such suite: {', '.join(unknown)}")
    families = {case.peer.family for suite in SUITES.values() for case in suite.cases}
    if unknown := set(filter(None, arguments.only.split(","))) - families:
        parser.error(f"no such server: {', '.join(unknown)}; there are {', '.join(sorted(families))}")
    if arguments.rounds < 1 or arguments.seconds <= 0 or arguments.requests < 1:
        parser.error("--rounds, --seconds and --requests are positive")
    if arguments.out is None:
        arguments.out = arguments.built / "report" if arguments.only else Path("docs")
    return arguments


def install_failures(arguments: argparse.Namespace) -> dict[str, str]:
    """What scripts/bench has left: one file per peer that could not be installed."""
    return {path.name: path.read_text().strip() for path in (arguments.built / "failed").glob("*")}


def prepare_scripts(tools: Tools) -> None:
    """Copies the CGI scripts to where the web servers' own users can read them."""
    folder = tools.run / "cgi-bin"
    folder.mkdir(mode=0o755)
    for name in SCRIPTS.values():
        source = tools.built / name if name == "script.c.cgi" else tools.root / "benches" / "cgi" / name
        shutil.copy(source, folder / name)
        (folder / name).chmod(0o755)


def run_suite(suite: Suite, arguments: argparse.Namespace, tools: Tools) -> None:
    families = set(filter(None, arguments.only.split(",")))
    cases = [case for case in suite.cases if not families or case.peer.family in families]
    rounds = min(arguments.rounds, suite.rounds or arguments.rounds)
    bench = Bench(tools, arguments.seconds, arguments.requests)
    machine = tools.machine()
    measured: dict[str, list[dict]] = {case.key: [] for case in cases}
    failures: dict[str, list[str]] = {case.key: [] for case in cases}
    for number in range(1, rounds + 1):
        for turn in range(1, suite.turns + 1):
            where = f"{suite.name} {number}/{rounds}" + (f", turn {turn}/{suite.turns}" if suite.turns > 1 else "")
            for case in cases:
                if turn == 1 or not case.options.get("one_turn"):
                    measure(suite, case, bench, where, measured[case.key], failures[case.key])
    run = {
        "suite": suite.name,
        "command": shown_command(),
        "rounds": rounds,
        "turns": suite.turns,
        "seconds": arguments.seconds,
        "machine": machine,
        "nginx": nginx_version(tools) if any(case.nginx for case in cases) else "",
        "cases": [summary(case, measured[case.key], failures[case.key], tools) for case in cases],
    }
    path = arguments.out / "benchmarks" / f"{suite.name}.json"
    path.write_text(json.dumps(run, indent=1) + "\n")
    # After each suite, so that a run that is broken off has left what it has measured.
    report.write(arguments.out, SUITES)


def measure(suite: Suite, case: Case, bench: Bench, where: str, measured: list[dict], failures: list[str]) -> None:
    started = time.monotonic()
    try:
        figures = suite.measure(case, bench)
    except Exception as failure:  # noqa: BLE001
        # Whatever it is, hours of other measurements must not be lost with this one.
        if not isinstance(failure, Failed):
            failure = Failed(f"{type(failure).__name__}: {failure}")
            traceback.print_exc()
        failures.append(str(failure))
        say(f"{where} {case.key}: FAILED: {failure}")
        return
    measured.append(figures)
    shown = ", ".join(
        f"{column.title} {figures[column.key] * column.scale:,.{column.digits}f}"
        for column in suite.columns
        if isinstance(figures.get(column.key), (int, float))
    )
    say(f"{where} {case.key}: {shown} ({time.monotonic() - started:.0f} s)")


def summary(case: Case, measured: list[dict], failures: list[str], tools: Tools) -> dict:
    numbers = {key for figures in measured for key, value in figures.items() if isinstance(value, (int, float))}
    try:
        version = case.peer.version(tools)
    except Failed as failure:
        version = str(failure)
    return {
        "group": case.group,
        "name": case.name,
        "family": case.peer.family,
        "version": version,
        "command": measured[0]["command"] if measured else "",
        "figures": {key: statistics.median(figures[key] for figures in measured) for key in sorted(numbers)},
        "rounds": [{key: value for key, value in figures.items() if key != "command"} for figures in measured],
        "rounds_run": len(measured) + len(failures),
        "failures": failures,
    }


def nginx_version(tools: Tools) -> str:
    try:
        return f"nginx {tools.version_of(system_program('nginx'), '-v')}"
    except Failed as failure:
        return str(failure)


def shown_command() -> str:
    return " ".join(["scripts/bench", *os.environ.get("BENCH_ARGUMENTS", "").split()])


def say(text: str) -> None:
    print(f"bench: {text}", flush=True)


main()
