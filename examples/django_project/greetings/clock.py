"""Middleware: tells a page how it was answered, by which process, and in how many microseconds."""

import os
import sys
import time
from itertools import count

import django


class RequestClock:
    """Stands first in MIDDLEWARE, so that its clock starts before anything else of the project runs."""

    def __init__(self, get_response):
        self.get_response = get_response
        self.answers = count(1)

    def __call__(self, request):
        started = time.perf_counter_ns()
        request.how = {
            "django": django.get_version(),
            "python": ".".join(map(str, sys.version_info[:3])),
            "pid": os.getpid(),
            "answers": next(self.answers),
            # Called by the template at the place that shows it, near the end of the page.
            "microseconds": lambda: (time.perf_counter_ns() - started) // 1000,
        }
        response = self.get_response(request)
        response["Cache-Control"] = "no-store"
        response["Content-Security-Policy"] = "default-src 'none'; style-src 'self'; base-uri 'none'"
        return response
