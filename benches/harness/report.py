"""Writes docs/benchmarks.md and its charts from the JSON that each suite's last run has left.

Beside NAME.json and NAME.svg may stand NAME.md: notes by hand about a suite, which the page takes over as they are.
`instructions.md` is such a page without a suite.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from .chart import Bar, svg
from .suite import Column, Suite

HEAD = """\
# Benchmarks

<!-- Made by scripts/bench: edit benches/, or the notes in docs/benchmarks/, instead of this page. -->

forkhorn beside other servers, measured by `scripts/bench` in interleaved rounds (A B C … A B C …): the server pinned
to core 0, the load to core 1, all over loopback. Each server is started anew for each of its measurements, and
measured only once it has given the right answer. The figures are medians over the rounds; the JSON files beside the
charts hold each round. CPU time is the user and system time of all processes of the server. *Floor* is the same work
without an application: the C programs of `benches/floor`. A server that could not be measured stands in the table
with the reason. [benches/README.md](../benches/README.md) says how to repeat this, and how to add a server.
"""


def write(out: Path, suites: dict[str, Suite]) -> Path:
    folder = out / "benchmarks"
    sections = [HEAD]
    for suite in suites.values():
        path = folder / f"{suite.name}.json"
        if path.exists():
            run = json.loads(path.read_text())
            (folder / f"{suite.name}.svg").write_text(chart(suite, run))
            sections.append(section(suite, run, notes(folder, suite.name)))
    sections.append(notes(folder, "instructions"))
    page = out / "benchmarks.md"
    page.write_text("\n".join(text.rstrip() + "\n" for text in sections if text))
    return page


def notes(folder: Path, name: str) -> str:
    path = folder / f"{name}.md"
    return path.read_text() if path.exists() else ""


def section(suite: Suite, run: dict, note: str) -> str:
    lines = [f"## {suite.title}", "", suite.about, "", f"![{suite.title}](benchmarks/{suite.name}.svg)", ""]
    for group, cases in groups(run).items():
        if group:
            lines += [f"### {group}", ""]
        lines += [*table(suite.columns, cases), ""]
        lines += [*(f"- {line}" for line in comparisons(suite, cases, run["cases"])), ""]
    lines += [*([note.rstrip(), ""] if note else []), *circumstances(run)]
    return "\n".join(lines).replace("\n\n\n", "\n\n")


def groups(run: dict) -> dict[str, list[dict]]:
    found: dict[str, list[dict]] = {}
    for case in run["cases"]:
        found.setdefault(case["group"], []).append(case)
    return found


def formatted(column: Column, figures: dict) -> str:
    value = figures.get(column.key)
    return "" if value is None else f"{value * column.scale:,.{column.digits}f}"


def cell(column: Column, case: dict) -> str:
    if not column.spread:
        return formatted(column, case["figures"])
    values = [figures[column.key] for figures in case["rounds"] if figures.get(column.key) is not None]
    return " to ".join(formatted(column, {column.key: value}) for value in (min(values), max(values))) if values else ""


def table(columns: list[Column], cases: list[dict]) -> Iterator[str]:
    yield "| server | version | " + " | ".join(column.title for column in columns) + " | |"
    yield "| --- | --- |" + " ---: |" * len(columns) + " --- |"
    for case in cases:
        cells = [cell(column, case) for column in columns]
        yield f"| {case['name']} | {case['version']} | {' | '.join(cells)} | {remark(case)} |"


def remark(case: dict) -> str:
    remarks = []
    if failures := case["failures"]:
        reason = failures[0].replace("|", "\\|").replace("\n", " ")
        remarks.append(f"failed in {len(failures)} of {case['rounds_run']} measurements: {reason}")
    if errors := sum(figures.get("errors", 0) for figures in case["rounds"]):
        remarks.append(f"{errors:,.0f} errors")
    if case["figures"].get("closed"):
        remarks.append("closes connections unannounced")
    return "; ".join(remarks)


def comparisons(suite: Suite, cases: list[dict], everything: list[dict]) -> Iterator[str]:
    """How forkhorn stands to the floor of its group, and to the best peer."""
    titles = {column.key: column for column in suite.columns if not column.spread}
    for case in (case for case in cases if case["family"] == "forkhorn"):
        parts = []
        for key, against in suite.compare:
            pool = everything if against == "peer" and suite.compare_across_groups else cases
            best = best_of(suite, key, against, pool)
            mine = case["figures"].get(key)
            if best and mine is not None and best["figures"][key]:
                whom = "the floor's" if against == "floor" else f"that of {best['name']}, the best peer"
                parts.append(f"{titles[key].title} {mine / best['figures'][key]:.2f} × {whom}")
        if parts:
            yield f"{case['name']}: {'; '.join(parts)}"


def best_of(suite: Suite, key: str, against: str, cases: list[dict]) -> dict | None:
    families = (lambda family: family == "floor") if against == "floor" else (lambda f: f not in ("floor", "forkhorn"))
    candidates = [case for case in cases if families(case["family"]) and case["figures"].get(key) is not None]
    # Rates are better high, all the rest is better low, whatever the suite's chart shows.
    choose = max if key in ("rate", "mib_rate") else min
    return choose(candidates, key=lambda case: case["figures"][key], default=None)


def circumstances(run: dict) -> list[str]:
    machine = "; ".join(f"{name} {value}" for name, value in run["machine"].items())
    fronts = f"; {run['nginx']}" if run.get("nginx") else ""
    rounds = "1 round" if run["rounds"] == 1 else f"{run['rounds']} rounds"
    turns = f" of {run['turns']} turns" if run.get("turns", 1) > 1 else ""
    lines = [
        f"Measured with `{run['command']}`: {rounds}{turns} of {run['seconds']:g} seconds. {machine}{fronts}.",
        "",
        "<details><summary>Commands</summary>",
        "",
        "```",
    ]
    seen = dict.fromkeys(case["command"] for case in run["cases"] if case["command"])
    return [*lines, *seen, "```", "", "</details>", ""]


def chart(suite: Suite, run: dict) -> str:
    column = next((column for column in suite.columns if column.key == suite.chart), None)
    column = column or Column(suite.chart, "growth of RSS, KiB")
    bars = {
        group: [
            Bar(
                case["name"],
                case["family"] if case["family"] in ("forkhorn", "floor") else "peer",
                None if (value := case["figures"].get(column.key)) is None else value * column.scale,
                formatted(column, case["figures"]) or "not measured",
            )
            for case in cases
        ]
        for group, cases in groups(run).items()
    }
    better = "higher is better" if suite.higher_is_better else "lower is better"
    return svg(suite.title, f"{column.title}, {better}", bars, suite.logarithmic)
