"""Answers the form of the start page as a bare WSGI application (PEP 3333), held in memory by the workers.

Only the standard library. It may be mounted anywhere: it looks at PATH_INFO, never at the whole path.
"""

import os
import sys
import time
from html import escape
from itertools import count
from urllib.parse import parse_qsl

MAX_BODY_BYTES = 64 * 1024
MAX_FIELDS = 200

# Of this process: every worker is a copy of the process that loaded the application, and counts for itself.
ANSWERS = count(1)

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
<p>Answered by a <strong>WSGI application, Python {version}</strong>, \
held in memory by <strong>process {pid}</strong>; this is page {answers} of that process.</p>
<p><strong>{wall} microseconds</strong> inside the application, from its call to this line. \
Nothing had to be started for it.</p>
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
    """The request can't be answered: a status line, a reason for the reader, more header fields."""


def application(environ, start_response):
    started = time.perf_counter_ns()
    more = []
    try:
        status = "200 OK"
        title, content = greeting(fields(form(environ)))
    except Refused as refused:
        status, reason, more = refused.args
        title, content = status, f"<p>{reason}</p>"
    page = PAGE.format(
        title=title,
        content=content,
        version=".".join(map(str, sys.version_info[:3])),
        pid=os.getpid(),
        answers=next(ANSWERS),
        wall=(time.perf_counter_ns() - started) // 1000,
    ).encode()
    headers = [
        ("Content-Type", "text/html; charset=utf-8"),
        ("Content-Length", str(len(page))),
        ("Cache-Control", "no-store"),
        ("Content-Security-Policy", "default-src 'none'; style-src 'self'; base-uri 'none'"),
        ("X-Content-Type-Options", "nosniff"),
        *more,
    ]
    start_response(status, headers)
    return [page]


def form(environ):
    """The URL-encoded form: the query string of a GET, the body of a POST."""
    if environ.get("PATH_INFO", "") not in ("", "/"):
        raise Refused("404 Not Found", "There is no such page.", [])
    method = environ["REQUEST_METHOD"]
    if method in ("GET", "HEAD"):
        # PEP 3333 hands over bytes as Latin-1 strings.
        return environ.get("QUERY_STRING", "").encode("latin-1")
    if method == "POST":
        return body(environ)
    allow = [("Allow", "GET, HEAD, POST")]
    raise Refused("405 Method Not Allowed", "This page answers GET and POST.", allow)


def body(environ):
    length = environ.get("CONTENT_LENGTH") or "0"
    content_type = environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower()
    if not (length.isascii() and length.isdigit() and len(length) <= 18):
        raise Refused("400 Bad Request", "The length of the body is not a number.", [])
    if int(length) > MAX_BODY_BYTES:
        raise Refused("413 Content Too Large", "The form is too large.", [])
    if int(length) and content_type != "application/x-www-form-urlencoded":
        raise Refused("415 Unsupported Media Type", "This page reads application/x-www-form-urlencoded.", [])
    content = environ["wsgi.input"].read(int(length))
    if len(content) < int(length):
        raise Refused("400 Bad Request", "The body ended early.", [])
    return content


def fields(encoded):
    """The name-value pairs of an URL-encoded string, in their order; a name may come more than once."""
    text = encoded.decode("utf-8", "replace")
    try:
        return parse_qsl(text, keep_blank_values=True, errors="replace", max_num_fields=MAX_FIELDS)
    except ValueError:
        raise Refused("400 Bad Request", "The form has too many fields.", []) from None


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
