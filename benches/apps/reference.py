"""Calls an application once without a server, and writes the body of its answer to standard output.

    reference.py MODULE PATH [BYTES_OF_BODY]

What a server answers has to equal this before it is measured.
"""

import io
import sys
from importlib import import_module
from wsgiref.util import setup_testing_defaults


def main():
    module, path, *rest = sys.argv[1:]
    body = b"x" * int(rest[0] if rest else 0)
    environ = {
        "PATH_INFO": path,
        "REQUEST_METHOD": "POST" if body else "GET",
        "CONTENT_LENGTH": str(len(body)) if body else "",
        "wsgi.input": io.BytesIO(body),
    }
    setup_testing_defaults(environ)
    statuses = []
    iterable = import_module(module).application(environ, lambda status, *_: statuses.append(status))
    answer = b"".join(iterable)
    if statuses != ["200 OK"]:
        sys.exit(f"{module} answered {statuses} at {path}")
    sys.stdout.buffer.write(answer)


main()
