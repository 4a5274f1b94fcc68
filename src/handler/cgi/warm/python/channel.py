# The warm interpreter of Python scripts: run once, by `boot.py`, and copied for each request.
#
# Descriptor 1 is the channel to the worker, SOCK_SEQPACKET: each message is its fields, joined by NUL. Answered are
# R (run a script), W (wait for a child that has ended) and S (fork spare children); the file `link.rs` has the table. What is
# imported beyond what every interpreter has at its start is hidden from scripts until they import it themselves.

import sys

if sys.version_info < (3, 6):
    import os
    os.write(1, ("unusable\0it is Python %d.%d; warm scripts need 2.7, or 3.6 or newer" % sys.version_info[:2]).encode("ascii"))
    os._exit(0)

if sys.version_info < (3, 10):
    # There, what is registered lies in the module, of which there must not be two.
    import atexit

BASELINE = frozenset(sys.modules)

import _signal
import _socket
import _thread
import atexit
import builtins
import errno
import gc
import os
import time
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import SourceFileLoader

# The module that os.wait4 imports: it stays in the parent.
USED_BY_WAIT = "resource" if "resource" not in BASELINE else None
MESSAGE_BYTES = 256 * 1024
CONTROL_BYTES = _socket.CMSG_SPACE(16)
# Of the fields of a request.
FIRST_VARIABLE = 5
REPORT_BYTES = 60 * 1024
MAX_CACHED_SCRIPTS = 256
MAX_CACHED_BYTES = 1024 * 1024
# A file that was changed a moment ago may change again without another time or size.
SETTLED_NS = 2 * 10 ** 9
STALE_CHECK_SECONDS = 1.0
# Modules of the standard library that register one function with atexit when they are imported.
USUAL_HANDLERS = ("logging", "multiprocessing.util")
# Modules whose objects may have written less than it seems.
KEEPERS = frozenset(("ctypes", "_dbm", "_gdbm", "readline", "_curses"))
# Py_TPFLAGS_HAVE_GC
HAVE_GC = 1 << 14
# With more new objects than this the interpreter's own way out costs no more than the look at them.
MANY_OBJECTS = 20000


# How CPython hands out memory for small objects.
POOL_BYTES = 16384 if sys.version_info >= (3, 10) else 4096
ALIGNMENT = 16 if sys.maxsize > 2 ** 32 and sys.version_info >= (3, 7) else 8
SMALLEST, LARGEST = 48, 512
BYTES_HEAD = sys.getsizeof(b"")
MOST_GAPS = 4000


if not hasattr(gc, "freeze"):
    # Python 3.6: all objects are new, so that a child ends as the interpreter itself does.
    gc.freeze = gc.unfreeze = bool
    MANY_OBJECTS = 0


class Channel:
    """Both ends of what the worker says: its messages, and the descriptors that come with them."""

    # One for all messages: memory that each of them has to be given anew would be copied with each fork.
    buffer = bytearray(MESSAGE_BYTES)
    view = memoryview(buffer)
    buffers = [buffer]

    def __init__(self, descriptor):
        self.socket = _socket.socket(fileno=descriptor)

    def receive(self):
        try:
            length, control, _, _ = self.socket.recvmsg_into(self.buffers, CONTROL_BYTES)
        except OSError:
            os._exit(0)
        descriptors = []
        for _, _, raw in control:
            descriptors += memoryview(raw).cast("i").tolist()
        data = bytes(self.view[:length])
        # No copy is to find what another request has brought.
        self.view[:length] = bytes(length)
        return data, descriptors

    def send(self, *fields):
        try:
            self.socket.send(b"\0".join(fields), _socket.MSG_NOSIGNAL)
        except OSError:
            # The worker is gone, or has given this process up.
            os._exit(0)
