# The warm interpreter of Python 2.7, in place of all other parts but compiling.py: it answers the same messages. There is no
# gc.freeze, so that each copy ends as the interpreter itself does, and no module is loaded early.

import sys

BASELINE = frozenset(sys.modules)
# The directory of the program, which is a script's yet.
del sys.path[0]
IMPORTER = sys.path_importer_cache.pop(sys.argv[0], None)
IMPORTERS = dict(sys.path_importer_cache)

import os
import posix

if sys.version_info < (2, 7):
    os.write(1, "unusable\0it is Python %d.%d; warm scripts need 2.7, or 3.6 or newer" % sys.version_info[:2])
    os._exit(0)

try:
    import ctypes
except ImportError:
    os.write(1, "unusable\0it has no module ctypes, without which Python 2.7 can't receive descriptors")
    os._exit(0)

import errno
import struct
import time

MESSAGE_BYTES = 256 * 1024
# Room for three descriptors, and a head.
CONTROL_BYTES = 64
# Of the fields of a request.
FIRST_VARIABLE = 5
MAX_CACHED_SCRIPTS = 256
MAX_CACHED_BYTES = 1024 * 1024
# A file that was changed a moment ago may change again without another time or size.
SETTLED_NS = 2 * 10 ** 9
MSG_NOSIGNAL = 0x4000


class Part(ctypes.Structure):
    """struct iovec"""
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


class Message(ctypes.Structure):
    """struct msghdr"""
    _fields_ = [("name", ctypes.c_void_p), ("name_length", ctypes.c_uint32), ("parts", ctypes.POINTER(Part)),
                ("part_count", ctypes.c_size_t), ("control", ctypes.c_void_p), ("control_length", ctypes.c_size_t),
                ("flags", ctypes.c_int)]


class Channel:
    """The worker's messages, and the descriptors that come with them. Python 2 has no function for the latter."""

    library = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(MESSAGE_BYTES)
    control = ctypes.create_string_buffer(CONTROL_BYTES)

    def __init__(self, descriptor):
        self.descriptor = descriptor

    def receive(self):
        part = Part(ctypes.addressof(self.buffer), MESSAGE_BYTES)
        message = Message(None, 0, ctypes.pointer(part), 1, ctypes.addressof(self.control), CONTROL_BYTES, 0)
        length = self.library.recvmsg(self.descriptor, ctypes.byref(message), 0)
        while length < 0 and ctypes.get_errno() == errno.EINTR:
            length = self.library.recvmsg(self.descriptor, ctypes.byref(message), 0)
        if length <= 0:
            os._exit(0)
        descriptors = []
        if message.control_length >= struct.calcsize("Lii"):
            end = struct.unpack_from("L", self.control)[0]
            at = struct.calcsize("Lii")
            descriptors = list(struct.unpack_from("%di" % ((end - at) // 4), self.control, at))
        data = self.buffer[:length]
        # No copy is to find what another request has brought.
        ctypes.memset(self.buffer, 0, length)
        return data, descriptors

    def send(self, *fields):
        data = "\0".join(fields)
        if self.library.send(self.descriptor, data, len(data), MSG_NOSIGNAL) < 0:
            # The worker is gone, or has given this process up.
            os._exit(0)


class Scripts:
    """Compiled scripts by path; the worker tells with each request which version of the file it has seen."""

    def __init__(self):
        self.codes = {}
        self.seen = {}

    def learn(self, path, version):
        """In the parent: compiles what a child has compiled before without harm."""
        if path in self.codes and self.codes[path][0] == version:
            return
        self.codes.pop(path, None)
        if self.seen.get(path) != version:
            if len(self.seen) >= MAX_CACHED_SCRIPTS:
                self.seen.clear()
            self.seen[path] = version
            return
        modified, size, inode = map(int, version.split("."))
        if time.time() * 1e9 - modified < SETTLED_NS or size > MAX_CACHED_BYTES:
            return
        if len(self.codes) >= MAX_CACHED_SCRIPTS:
            self.codes.clear()
        try:
            code, warnings = compiled_elsewhere(lambda: compiled(path))
        except BaseException:
            code, warnings = None, None
        # What the compiler says has to be said to each request. There are no nanoseconds here to compare.
        try:
            stat = os.stat(path)
        except OSError:
            return
        if (stat.st_size, stat.st_ino) == (size, inode) and not warnings:
            self.codes[path] = version, code

    def code(self, path, version):
        known = self.codes.get(path)
        if known is not None and known[0] == version and known[1] is not None:
            return known[1]
        code, warnings = compiled(path)
        if warnings:
            sys.stderr.write(warnings)
        return code


def enter(fields, descriptors, channel, highest):
    """Becomes what execve(2) would have made of this process."""
    os.setpgid(0, 0)
    try:
        os.chdir(fields[4])
    except OSError as error:
        channel.send("failed", fields[1], "%d" % error.errno)
        os._exit(127)
    channel.send("started", fields[1])
    for target, descriptor in enumerate(descriptors):
        os.dup2(descriptor, target)
    os.closerange(3, highest)
    for name in posix.environ:
        os.unsetenv(name)
    posix.environ.clear()
    for at in range(FIRST_VARIABLE, len(fields), 2):
        if posix.environ.setdefault(fields[at], fields[at + 1]) is fields[at + 1]:
            os.putenv(fields[at], fields[at + 1])
    os.environ.data = posix.environ
    try:
        with open("/proc/self/comm", "w") as name:
            name.write(os.path.basename(fields[3])[:15])
    except (IOError, OSError):
        pass


def run(path, version, scripts):
    """Runs the script, and says of an exception what the interpreter would. The exception with which it ends."""
    try:
        code = scripts.code(path, version)
    except BaseException:
        # Starts anew with the script: what is to be said of it is said by an interpreter that begins.
        os.execv(path, [path])
    for name in list(sys.modules):
        if name not in BASELINE:
            del sys.modules[name]
    sys.path.insert(0, os.path.dirname(path))
    sys.argv[:] = [path]
    sys.path_importer_cache.clear()
    sys.path_importer_cache.update(IMPORTERS)
    sys.path_importer_cache[path] = IMPORTER
    names = sys.modules["__main__"].__dict__
    names["__file__"] = path
    try:
        exec(code, names)
        return SystemExit(0)
    except SystemExit as error:
        return error
    except BaseException:
        kind, error, trace = sys.exc_info()
    uncaught(kind, error, trace)
    return SystemExit(1)


def uncaught(kind, error, trace):
    while trace is not None and trace.tb_frame.f_globals is globals():
        trace = trace.tb_next
    sys.exc_clear()
    sys.last_type, sys.last_value, sys.last_traceback = kind, error, trace
    hook = getattr(sys, "excepthook", None)
    if hook is None:
        sys.stderr.write("sys.excepthook is missing\n")
        return sys.__excepthook__(kind, error, trace)
    try:
        hook(kind, error, trace)
    except SystemExit:
        raise
    except BaseException:
        other = sys.exc_info()
        sys.stderr.write("Error in sys.excepthook:\n")
        sys.__excepthook__(other[0], other[1], other[2].tb_next)
        sys.stderr.write("\nOriginal exception was:\n")
        sys.__excepthook__(kind, error, trace)


def fork(fields, descriptors, channel):
    try:
        pid = os.fork()
    except OSError as error:
        channel.send("failed", fields[1], "%d" % error.errno)
        pid = -1
    for descriptor in descriptors if pid else ():
        os.close(descriptor)
    return pid


def wait(fields, channel):
    try:
        pid, status, usage = os.wait4(int(fields[2]), os.WNOHANG)
        spent = int((usage.ru_utime + usage.ru_stime) * 1e6)
        channel.send("exit" if pid else "running", fields[1], "%d" % status, "%d" % spent)
    except OSError:
        channel.send("exit", fields[1], "-1")


def fork_spare(channel, spares):
    """The request of a spare child, in that child."""
    try:
        if os.fork() != 0:
            return None
    except OSError:
        return None
    channel.send("spare")
    data, descriptors = spares.receive()
    if len(descriptors) != 3:
        os._exit(0)
    return data.split("\0"), descriptors


def serve(channel, spares, scripts):
    """The parent's whole life. What returns is a child: its request."""
    while True:
        data, descriptors = channel.receive()
        fields = data.split("\0")
        if fields[0] == "R" and len(descriptors) == 3:
            scripts.learn(fields[3], fields[2][1:])
            if fork(fields, descriptors, channel) == 0:
                return fields, descriptors
        elif fields[0] == "W":
            wait(fields, channel)
        elif fields[0] == "S":
            if fields[4]:
                scripts.learn(fields[4], fields[3])
            for _ in range(int(fields[1])):
                request = fork_spare(channel, spares)
                if request:
                    return request
        else:
            # The worker has no more use for this process.
            os._exit(0)


def start():
    channel = Channel(os.dup(1))
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    _, descriptors = channel.receive()
    spares = Channel(descriptors[0]) if descriptors else None
    hidden = {}
    for name in list(sys.modules):
        if name not in BASELINE:
            hidden[name] = sys.modules.pop(name)
    scripts = Scripts()
    channel.send("ready")
    fields, descriptors = serve(channel, spares, scripts)
    highest = max(descriptors + [channel.descriptor, spares.descriptor if spares else 0]) + 1
    enter(fields, descriptors, channel, highest)
    return run(fields[3], fields[2][1:], scripts)


raise start()
