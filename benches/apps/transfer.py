"""What the suites upload, download, file and balance serve. Each path does one thing, and answers alike everywhere."""

import os
import time

MIB = 1024 * 1024
PAGE = b"0123456789abcdef" * (MIB // 16)
FILE = os.environ.get("BENCH_FILE", "")
SLOW_SECONDS = 0.2
BLOCK = 64 * 1024


def application(environ, start_response):
    return PATHS[environ["PATH_INFO"]](environ, start_response)


def answer(start_response, *blocks):
    length = sum(map(len, blocks))
    start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(length))])
    return list(blocks)


def instant(environ, start_response):
    return answer(start_response, b"ok\n")


def slow(environ, start_response):
    time.sleep(SLOW_SECONDS)
    return answer(start_response, b"ok\n")


def download(environ, start_response):
    return answer(start_response, PAGE)


def upload(environ, start_response):
    """Reads the body in blocks and answers with its length."""
    left = int(environ.get("CONTENT_LENGTH") or 0)
    total = 0
    while left > 0:
        block = environ["wsgi.input"].read(min(left, BLOCK))
        if not block:
            break
        total += len(block)
        left -= len(block)
    return answer(start_response, b"%d\n" % total)


def file(environ, start_response):
    """A file through wsgi.file_wrapper; a server that has none gets the same file in blocks."""
    start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(MIB))])
    opened = open(FILE, "rb")
    wrapper = environ.get("wsgi.file_wrapper")
    return wrapper(opened, BLOCK) if wrapper else Blocks(opened)


class Blocks:
    def __init__(self, opened):
        self.opened = opened

    def __iter__(self):
        return iter(lambda: self.opened.read(BLOCK), b"")

    def close(self):
        self.opened.close()


PATHS = {"/": instant, "/slow": slow, "/download": download, "/upload": upload, "/file": file}
