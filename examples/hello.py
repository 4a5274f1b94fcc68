"""The smallest WSGI application: `forkhorn serve examples/hello.py`."""


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return [b"Hello from forkhorn!\n"]
