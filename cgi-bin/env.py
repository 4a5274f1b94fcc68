#!/usr/bin/env python3
"""Shows what a Python CGI script gets: its environment, argument, working directory and interpreter.

The values come from the client, so all of them are escaped. Take this script off a public server: it tells
visitors where things lie.
"""

import time

STARTED = time.perf_counter_ns()  # before the other imports: they are part of what a script costs

import os
import sys
from html import escape

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Environment of a Python script</title>
<link rel="stylesheet" href="/style.css">
</head>
<body>
<main>
<h1>Environment of a Python script</h1>
<table>
<caption>Meta-variables (RFC 3875) and the rest of the environment</caption>
<tbody>
{environment}
</tbody>
</table>
<table>
<caption>The process</caption>
<tbody>
{process}
</tbody>
</table>
<section class="how" aria-label="How this page was answered">
<p>Answered by <strong>CGI, Python {version}</strong>, in <strong>process {pid}</strong>, \
which exists for this request alone.</p>
<p><strong>{wall} microseconds</strong> inside the script, from its first line to this one.</p>
</section>
<p><a href="/">Back to the start</a></p>
</main>
</body>
</html>
"""


def text(value):
    decoded = os.fsencode(value).decode("utf-8", "replace")
    return escape("".join(c if c.isprintable() else "\ufffd" for c in decoded))


def open_descriptors():
    listed = os.listdir("/proc/self/fd")
    # The listing itself needed a descriptor, which is gone by now.
    return sorted((fd for fd in listed if os.path.lexists(f"/proc/self/fd/{fd}")), key=int)


def rows(pairs):
    return "\n".join(f'<tr><th scope="row">{text(k)}</th><td>{text(v)}</td></tr>' for k, v in pairs)


process = [
    ("arguments", " ".join(sys.argv)),
    ("working directory", os.getcwd()),
    ("interpreter", sys.executable),
    ("user id, group id", f"{os.geteuid()}, {os.getegid()}"),
    ("open descriptors", " ".join(open_descriptors())),
]
page = PAGE.format(
    environment=rows(sorted(os.environ.items())),
    process=rows(process),
    version=".".join(map(str, sys.version_info[:3])),
    pid=os.getpid(),
    wall=(time.perf_counter_ns() - STARTED) // 1000,
).encode()
head = [
    "Content-Type: text/html; charset=utf-8",
    f"Content-Length: {len(page)}",
    "Cache-Control: no-store",
    "Content-Security-Policy: default-src 'none'; style-src 'self'; base-uri 'none'",
    "X-Content-Type-Options: nosniff",
    "",
]
out = sys.stdout.buffer
out.write("".join(f"{line}\r\n" for line in head).encode())
if os.environ.get("REQUEST_METHOD") != "HEAD":
    out.write(page)
