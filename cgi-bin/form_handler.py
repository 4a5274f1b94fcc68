#!/usr/bin/env python3
"""Answers the form of the start page by CGI (RFC 3875), without the module `cgi`, which Python 3.13 removed.

Reads a query string (GET) or an URL-encoded body (POST) as UTF-8 and shows what came, escaped.
The page says which process answered and how long the script took.
"""

import time

STARTED = time.perf_counter_ns()  # before the other imports: they are part of what a script costs

import os
import sys
from html import escape
from urllib.parse import parse_qsl

MAX_BODY_BYTES = 64 * 1024
MAX_FIELDS = 200

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="stylesheet" href="/style.css">
</head>
<body>
<main>
<h1>{title}</h1>
{content}
<section class="how" aria-label="How this page was answered">
<p>Answered by <strong>CGI, Python {version}</strong>, in <strong>process {pid}</strong>, \
which exists for this request alone.</p>
<p><strong>{wall} microseconds</strong> inside the script, from its first line to this one. \
The process has used {cpu} microseconds of processor time since it began, the start of the interpreter included.</p>
</section>
<p><a href="/">Back to the form</a></p>
</main>
</body>
</html>
"""

TABLE = """<table>
<caption>What you sent</caption>
<thead><tr><th scope="col">Field</th><th scope="col">Value</th></tr></thead>
<tbody>
{rows}
</tbody>
</table>"""


class Refused(Exception):
    """The request can't be answered: a status line, and a reason for the reader."""


def main():
    method = os.environ.get("REQUEST_METHOD", "")
    try:
        if method in ("GET", "HEAD"):
            encoded = os.environb.get(b"QUERY_STRING", b"")
        elif method == "POST":
            encoded = body()
        else:
            raise Refused("405 Method Not Allowed", "This page answers GET and POST.")
        answer(method, "200 OK", *greeting(fields(encoded)))
    except Refused as refused:
        status, reason = refused.args
        answer(method, status, status, f"<p>{reason}</p>")


def body():
    """Exactly CONTENT_LENGTH bytes: the end of the stream is not promised to a script."""
    length = os.environ.get("CONTENT_LENGTH") or "0"
    content_type = os.environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower()
    if not (length.isascii() and length.isdigit() and len(length) <= 18):
        raise Refused("400 Bad Request", "The length of the body is not a number.")
    if int(length) > MAX_BODY_BYTES:
        raise Refused("413 Content Too Large", "The form is too large.")
    if int(length) and content_type != "application/x-www-form-urlencoded":
        raise Refused("415 Unsupported Media Type", "This page reads application/x-www-form-urlencoded.")
    content = sys.stdin.buffer.read(int(length))
    if len(content) < int(length):
        raise Refused("400 Bad Request", "The body ended early.")
    return content


def fields(encoded):
    """The name-value pairs of an URL-encoded string, in their order; a name may come more than once."""
    text = encoded.decode("utf-8", "replace")
    try:
        return parse_qsl(text, keep_blank_values=True, errors="replace", max_num_fields=MAX_FIELDS)
    except ValueError:
        raise Refused("400 Bad Request", "The form has too many fields.") from None


def greeting(pairs):
    name = next((value for name, value in pairs if name == "name" and value.strip()), "whoever you are")
    rows = "\n".join(
        f'<tr><th scope="row">{printable(name)}</th><td>{printable(value)}</td></tr>' for name, value in pairs
    )
    rows = rows or '<tr><td colspan="2">The form came without a field.</td></tr>'
    return f"Hello, {printable(name)}!", TABLE.format(rows=rows)


def printable(text):
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return escape("".join(c if c.isprintable() or c in "\t\n" else "\ufffd" for c in text))


def answer(method, status, title, content):
    page = PAGE.format(
        title=title,
        content=content,
        version=".".join(map(str, sys.version_info[:3])),
        pid=os.getpid(),
        wall=(time.perf_counter_ns() - STARTED) // 1000,
        cpu=time.process_time_ns() // 1000,
    ).encode()
    head = [
        f"Status: {status}",
        "Content-Type: text/html; charset=utf-8",
        f"Content-Length: {len(page)}",
        "Cache-Control: no-store",
        "Content-Security-Policy: default-src 'none'; style-src 'self'; base-uri 'none'",
        "X-Content-Type-Options: nosniff",
    ]
    if status.startswith("405"):
        head.append("Allow: GET, HEAD, POST")
    out = sys.stdout.buffer
    out.write("".join(f"{line}\r\n" for line in [*head, ""]).encode())
    if method != "HEAD":
        out.write(page)
    out.flush()


if __name__ == "__main__":
    main()
