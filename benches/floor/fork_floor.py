#!/usr/bin/python3
"""The floor of warm CGI: this interpreter, which has only started, is copied, one copy after the other; each ends at
once and is waited for. No script, no web. Prints one line of JSON:

    fork_floor.py SECONDS
"""

import gc
import os
import sys
import time

seconds = float(sys.argv[1])
gc.freeze()
began, forks = time.monotonic(), 0
while time.monotonic() - began < seconds:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    if os.wait4(pid, 0)[1] != 0:
        sys.exit("a copy has failed")
    forks += 1
print('{"requests": %d, "seconds": %.6f}' % (forks, time.monotonic() - began))
