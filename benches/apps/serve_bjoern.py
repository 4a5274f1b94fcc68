"""Starts bjoern, which has no command of its own: serve_bjoern.py MODULE PORT WORKERS.

Workers beyond the first are forked after the socket is open, as bjoern's documentation shows it.
"""

import os
import signal
import socket
import sys
from importlib import import_module

import bjoern

module, port, workers = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
listener = bjoern.listen(import_module(module).application, "127.0.0.1", port)
# bjoern writes heads and bodies apart: without this, which accepted connections inherit, each answer on a kept
# connection waits 40 ms for the acknowledgement of its head.
listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
if workers > 1:
    children = []
    for _ in range(workers):
        child = os.fork()
        if child == 0:
            bjoern.run()
            os._exit(0)
        children.append(child)
    signal.signal(signal.SIGTERM, lambda *_: [os.kill(child, signal.SIGKILL) for child in children])
    for child in children:
        os.waitpid(child, 0)
else:
    bjoern.run()
