"""examples/hello.py with the length of its answer, as Django's CommonMiddleware and Flask send it."""

BODY = b"Hello from forkhorn!\n"


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(BODY)))])
    return [BODY]
