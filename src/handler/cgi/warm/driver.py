# The warm interpreter of Python scripts: run once, by a line of Python in a file, and copied for each request.
#
# Descriptor 1 is the channel to the worker, SOCK_SEQPACKET: each message is its fields, joined by NUL. Answered are
# R (run a script), W (wait for a child that has ended) and S (fork spare children); the file `link.rs` has the table. What is
# imported beyond what every interpreter has at its start is hidden from scripts until they import it themselves.

import sys

if sys.version_info < (3, 7):
    # No gc.freeze, and in Python 2 no recvmsg.
    import os
    os.write(1, ("unusable\0it is Python %d.%d; warm scripts need 3.7 or newer" % sys.version_info[:2]).encode("ascii"))
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

MESSAGE_BYTES = 256 * 1024
REPORT_BYTES = 60 * 1024
MAX_CACHED_SCRIPTS = 256
MAX_CACHED_BYTES = 1024 * 1024
# A file that was changed a moment ago may change again without another time or size.
SETTLED_NS = 2 * 10 ** 9
STALE_CHECK_SECONDS = 1.0
# Modules of the standard library that register one function with atexit when they are imported.
USUAL_HANDLERS = ("logging", "multiprocessing.util")
# With more new objects than this the interpreter's own way out costs no more than the look at them.
MANY_OBJECTS = 20000


class Channel:
    """Both ends of what the worker says: its messages, and the descriptors that come with them."""

    def __init__(self, descriptor):
        self.socket = _socket.socket(fileno=descriptor)

    def receive(self):
        data, control, _, _ = self.socket.recvmsg(MESSAGE_BYTES, _socket.CMSG_SPACE(16))
        descriptors = []
        for _, _, raw in control:
            descriptors += [int.from_bytes(raw[at:at + 4], sys.byteorder) for at in range(0, len(raw) - 3, 4)]
        return data.split(b"\0"), descriptors

    def send(self, *fields):
        try:
            self.socket.send(b"\0".join(fields), _socket.MSG_NOSIGNAL)
        except OSError:
            # The worker is gone, or has given this process up.
            os._exit(0)

    def close(self):
        self.socket.close()


class Store:
    """Modules that are loaded, and hidden until a script imports them; a finder of sys.meta_path, and a loader."""

    def __init__(self):
        self.modules = {}
        self.needs = {}
        self.specs = {}
        self.files = {}
        self.tops = frozenset()
        self.trusted = set(sys.path)
        self.directories = {}
        self.checked_at = 0.0
        self.warnings = None

    def hide(self):
        """Takes from sys.modules what was not there at the start."""
        for name in [name for name in sys.modules if name not in BASELINE]:
            self.modules[name] = sys.modules.pop(name)
        for name, module in self.modules.items():
            parent, _, leaf = name.rpartition(".")
            package = self.modules.get(parent) or sys.modules.get(parent)
            if package is not None and package.__dict__.get(leaf) is module:
                del package.__dict__[leaf]

    def load(self, name):
        """Imports a module, notes what it needs, and hides it with all that came with it."""
        self.specs = {known: getattr(module, "__spec__", None) for known, module in self.modules.items()}
        real = builtins.__import__
        builtins.__import__ = traced(real, self.needs)
        said = Warnings(self.warnings)
        try:
            with said:
                __import__(name)
            done = True
        except BaseException:
            done = False
        builtins.__import__ = real
        # Imported by other means than a statement: as if this module had one.
        new = {known for known in sys.modules if known not in BASELINE}
        reached = set().union(*self.needs.values())
        self.needs.setdefault(name, set()).update(new - reached - {name})
        self.hide()
        return done, said.any

    def settle(self):
        """All is loaded: what is needed to see that a module is not what a script would get by itself."""
        self.specs = {name: getattr(module, "__spec__", None) for name, module in self.modules.items()}
        self.tops = frozenset(name.partition(".")[0] for name in self.modules)
        for module in self.modules.values():
            file = getattr(module, "__file__", None)
            if isinstance(file, str):
                self.files[file] = identity(file)

    def find_spec(self, name, path=None, target=None):
        if name not in self.modules:
            return None
        for entry in sys.path:
            if entry not in self.trusted:
                if self.shadows(entry):
                    self.forget()
                    return None
                self.trusted.add(entry)
        return ModuleSpec(name, self)

    def create_module(self, spec):
        return self.modules[spec.name]

    def exec_module(self, module):
        # What it needs first, and without a look at sys.path: it was loaded with just these.
        name = module.__spec__.name
        waiting, seen, shown = [name], {name}, []
        while waiting:
            for needed in self.needs.get(waiting.pop(), ()):
                if needed not in seen and needed in self.modules:
                    seen.add(needed)
                    waiting.append(needed)
                    if needed not in sys.modules:
                        sys.modules[needed] = self.modules[needed]
                        shown.append(needed)
        for needed in shown:
            parent, _, leaf = needed.rpartition(".")
            package = sys.modules.get(parent)
            if package is not None and not hasattr(package, leaf):
                setattr(package, leaf, sys.modules[needed])
        # The import system has put its own there.
        module.__spec__ = self.specs[name]

    def forget(self):
        self.modules.clear()

    def shadows(self, directory):
        """Whether a directory of sys.path holds something by the name of a hidden module."""
        try:
            changed = os.stat(directory or ".").st_mtime_ns
            known = self.directories.get(directory)
            if known is None or known[0] != changed:
                names = {entry.partition(".")[0] for entry in os.listdir(directory or ".")}
                known = self.directories[directory] = changed, not self.tops.isdisjoint(names)
            return known[1]
        except (OSError, ValueError, TypeError):
            # No directory: an archive, or nothing at all. Only the former can hold modules.
            return os.path.isfile(directory) if isinstance(directory, str) else True

    def stale(self):
        """A file of a hidden module that is not what it was."""
        now = time.monotonic()
        if now - self.checked_at < STALE_CHECK_SECONDS:
            return None
        self.checked_at = now
        for file, known in self.files.items():
            if identity(file) != known:
                return file
        return None


class Warnings:
    """Notes whether anything warns, whatever the filters say."""

    def __init__(self, warnings):
        self.warnings = warnings
        self.any = False

    def __enter__(self):
        # Where it is missing, warnings are printed and not noted.
        sys.modules["warnings"] = self.warnings
        self.catcher = self.warnings.catch_warnings(record=True, module=self.warnings)
        self.found = self.catcher.__enter__()
        self.warnings.simplefilter("always")

    def __exit__(self, *error):
        self.catcher.__exit__(*error)
        # Those about the syntax of a file come only when it is compiled, not when its code is read from a cache.
        self.any = any(not issubclass(entry.category, (SyntaxWarning, ImportWarning, ResourceWarning))
                       for entry in self.found)


def identity(file):
    try:
        stat = os.stat(file)
        return stat.st_mtime_ns, stat.st_size, stat.st_ino
    except OSError:
        return None


def traced(real, needs):
    """builtins.__import__ that notes which module imports which."""
    def __import__(name, globals=None, locals=None, fromlist=(), level=0):
        result = real(name, globals, locals, fromlist, level)
        importer = (globals or {}).get("__name__")
        if level:
            package = ((globals or {}).get("__package__") or "").rsplit(".", level - 1)[0]
            name = package + "." + name if name else package
        found = needs.setdefault(importer, set())
        found.add(name)
        while "." in name:
            name = name.rpartition(".")[0]
            found.add(name)
        for leaf in fromlist or ():
            full = "%s.%s" % (getattr(result, "__name__", ""), leaf)
            if full in sys.modules:
                found.add(full)
        return result
    return __import__


def surroundings():
    """What importing a module must leave as it was, for the processes that don't import it."""
    warnings = sys.modules.get("warnings") or sys.modules.get("_warnings")
    found = {
        "starts threads": len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else _thread._count(),
        "opens descriptors, such as sockets": sorted(os.listdir("/proc/self/fd")),
        "changes the environment": dict(os.environ),
        "changes the working directory": os.getcwd(),
        "changes sys.path": list(sys.path),
        "changes sys.meta_path": list(map(id, sys.meta_path)),
        "changes sys.path_hooks": list(map(id, sys.path_hooks)),
        "replaces a standard stream": [id(sys.stdin), id(sys.stdout), id(sys.stderr)],
        "replaces a hook of sys": [id(sys.excepthook), id(sys.displayhook), id(sys.breakpointhook)],
        "changes builtins": {name: id(value) for name, value in vars(builtins).items() if name != "__import__"},
        "sets a trace or profile function": [id(sys.gettrace()), id(sys.getprofile())],
        "changes the limits of the interpreter": [sys.getrecursionlimit(), gc.get_threshold(), gc.isenabled()],
        "handles signals": [_signal.getsignal(number) for number in range(1, _signal.NSIG)
                            if number not in (32, 33)],
    }
    if "_warnings" in sys.modules:
        # Filters that `warnings` itself adds when it is imported are those of every interpreter.
        found["changes the filters of warnings"] = [repr(entry) for entry in sys.modules["_warnings"].filters]
    mask = os.umask(0)
    os.umask(mask)
    found["changes the umask"] = mask
    return found


def preload(store, names, channel):
    """Imports modules one by one. One that does more than to be there costs this process its life: the worker starts
    another without it."""
    if not names or not os.path.isdir("/proc/self/fd"):
        for name in [name for name in sys.modules if name not in BASELINE]:
            del sys.modules[name]
        return []
    store.warnings = __import__("warnings")
    sys.meta_path.insert(0, store)
    # So that what every interpreter may import at any time is not taken for the doing of a module.
    for name in ("warnings", "re"):
        store.load(name)
    loaded = []
    for name in names:
        before = surroundings()
        done, warned = store.load(name)
        after = surroundings()
        reasons = [what for what in before if before[what] != after[what]]
        if warned:
            reasons.append("warns")
        if fixed_chance(store.modules):
            reasons.append("draws random numbers")
        if reasons:
            channel.send(b"refused", name.encode(), reasons[0].encode())
            os._exit(0)
        if done:
            loaded.append(name)
    sys.meta_path.remove(store)
    store.settle()
    return loaded


def fixed_chance(modules):
    """Random numbers that were begun at the import would be the same in every copy."""
    if "numpy.random" in modules:
        return True
    module = modules.get("random") or sys.modules.get("random")
    return module is not None and any(
        isinstance(candidate, module.Random) and not isinstance(candidate, module.SystemRandom)
        and candidate is not module._inst for candidate in gc.get_objects())


class Recorder:
    """In the place of sys.stderr, while something is compiled."""

    def __init__(self):
        self.text = []

    def write(self, text):
        self.text.append(text)

    def flush(self):
        pass


class Scripts:
    """Compiled scripts, by path; each checked against its file at every request."""

    def __init__(self):
        self.codes = {}
        self.seen = {}

    def learn(self, path):
        """In the parent: compiles a script that a child has compiled before without harm."""
        key = identity(path)
        known = self.codes.get(path)
        if key is None or (known is not None and known[0] == key):
            return
        self.codes.pop(path, None)
        if self.seen.get(path) != key:
            if len(self.seen) >= MAX_CACHED_SCRIPTS * 4:
                self.seen.clear()
            self.seen[path] = key
            return
        if key[1] > MAX_CACHED_BYTES or time.time_ns() - key[0] < SETTLED_NS:
            return
        if len(self.codes) >= MAX_CACHED_SCRIPTS:
            self.codes.pop(next(iter(self.codes)))
        try:
            code, warnings = compiled(path)
        except BaseException:
            return
        # What the compiler says has to be said to each request.
        if not warnings and identity(path) == key:
            self.codes[path] = key, code

    def code(self, path):
        known = self.codes.get(path)
        if known is not None and known[0] == identity(path):
            return known[1]
        code, warnings = compiled(path)
        if warnings:
            sys.stderr.write(warnings)
        return code


def compiled(path):
    """The code of a script, and what the compiler has to say about it."""
    with open(path, "rb") as file:
        source = file.read()
    stderr, sys.stderr = sys.stderr, Recorder()
    try:
        return compile(source, path, "exec", 0, True), "".join(sys.stderr.text)
    finally:
        sys.stderr = stderr


class Request:
    """One run, in the process that is to become the script."""

    def __init__(self, fields, descriptors):
        self.id, flags, self.path, self.directory = fields[1:5]
        self.learn = b"l" in flags
        self.environment = fields[5:]
        self.descriptors = descriptors

    def enter(self, channel, own_environment):
        """Becomes what execve(2) would have made of this process. Then the script may run."""
        os.setpgid(0, 0)
        try:
            os.chdir(self.directory)
        except OSError as error:
            channel.send(b"failed", self.id, b"%d" % error.errno)
            os._exit(127)
        channel.send(b"started", self.id)
        channel.close()
        for target, descriptor in enumerate(self.descriptors):
            os.dup2(descriptor, target)
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.set_environment(own_environment)
        self.set_name()

    def set_environment(self, own):
        data = os.environ._data
        for name in data:
            os.unsetenv(name)
        data.clear()
        names = {variable.partition(b"=")[0] for variable in self.environment}
        for variable in self.environment + [variable for variable in own if variable.partition(b"=")[0] not in names]:
            name, _, value = variable.partition(b"=")
            data[name] = value
            os.putenv(name, value)

    def set_name(self):
        """What process lists show."""
        try:
            descriptor = os.open("/proc/self/comm", os.O_WRONLY)
            os.write(descriptor, os.path.basename(self.path)[:15])
            os.close(descriptor)
        except OSError:
            pass


class Interpreter:
    """How this interpreter was started, and how it starts a script."""

    def __init__(self, setup):
        self.argv = [setup["argv0"]] + ([setup["flag"]] if setup.get("flag") else [])
        self.report_to = setup.get("report")
        # What the interpreter itself has set at its start (PEP 538: LC_CTYPE).
        self.own_environment = own_environment()
        self.index = setup["index"]
        self.streams = None
        self.loaded = ()
        self.handlers = 0

    def choose_stdin(self):
        piped, null = self.streams
        self.streams = None
        try:
            os.lseek(0, 0, os.SEEK_CUR)
            sys.stdin = sys.__stdin__ = null
        except OSError:
            sys.stdin = sys.__stdin__ = piped

    def run_cold(self, path):
        """Starts anew with the script: for what must be said by an interpreter that begins."""
        os.execv(path, [path])

    def run(self, request, scripts, store):
        path = os.fsdecode(request.path)
        try:
            code = scripts.code(path)
        except BaseException:
            self.run_cold(path)
        # Imported by functions that the parent has called: `resource`, by os.wait4.
        for name in sys.modules.keys() - BASELINE:
            del sys.modules[name]
        directory = os.path.dirname(os.path.realpath(path))
        if store.modules and (store.stale() or store.shadows(directory)):
            store.forget()
        if store.modules:
            store.trusted.add(directory)
            sys.meta_path.insert(0, store)
        if not getattr(sys.flags, "safe_path", sys.flags.isolated):
            sys.path.insert(0, directory)
        sys.argv[:] = [path]
        sys.path_importer_cache.setdefault(path, None)
        if hasattr(sys, "orig_argv"):
            sys.orig_argv[:] = self.argv + [path]
        main = sys.modules["__main__"]
        names = main.__dict__
        main.__loader__ = SourceFileLoader("__main__", path)
        main.__file__ = path
        main.__cached__ = None
        status = execute(code, names)
        self.finish(status, request)

    def finish(self, status, request):
        """As the interpreter ends, but for the taking apart of what nobody can see."""
        whole = False
        threading = sys.modules.get("threading")
        try:
            if threading is not None:
                threading._shutdown()
            known = sum(name in sys.modules and name not in self.loaded for name in USUAL_HANDLERS)
            if atexit._ncallbacks() > self.handlers + known:
                # The script's own: where they fail the interpreter says so in its own way.
                whole = True
                return self.leave(status, request, whole)
            atexit._run_exitfuncs()
            for stream in (sys.stdout, sys.stderr):
                if stream is not None and not getattr(stream, "closed", False):
                    stream.flush()
        except BaseException:
            # The interpreter tries again, and says what it has to say.
            whole = True
        self.leave(status, request, whole)

    def leave(self, status, request, whole):
        if request.learn:
            self.report()
        if status < 0:
            die_of_interrupt()
        if whole or needs_destruction():
            # What is frozen is never taken apart.
            gc.unfreeze()
            raise SystemExit(status)
        os._exit(status)

    def report(self):
        """Tells the worker which modules of the interpreter's own directories the script has imported."""
        names, length = [b"learned", self.index], 0
        for name, module in list(sys.modules.items()):
            spec = getattr(module, "__spec__", None)
            origin = getattr(spec, "origin", None)
            if name in BASELINE or not isinstance(origin, str) or spec.name != name \
                    or not origin.startswith(tuple(entry + "/" for entry in PATH if entry)):
                continue
            length += len(name) + 1
            if length > REPORT_BYTES:
                break
            names.append(name.encode("utf-8", "replace"))
        try:
            socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
            socket.setblocking(False)
            socket.sendto(b"\0".join(names), self.report_to)
            socket.close()
        except OSError:
            pass


def own_environment():
    try:
        with open("/proc/self/environ", "rb") as file:
            given = {variable.partition(b"=")[0] for variable in file.read().split(b"\0")}
    except OSError:
        return []
    return [name + b"=" + value for name, value in os.environ._data.items() if name not in given]


def execute(code, names):
    """Runs the script, and says of an exception what the interpreter would. Its exit status; -1 for an interrupt."""
    try:
        exec(code, names)
        return 0
    except BaseException as error:
        caught = error
    # Out here the exception is not the context of what its report may raise.
    return exit_status(caught) if isinstance(caught, SystemExit) else uncaught(caught)


def exit_status(error):
    code = error.code
    if code is None:
        return 0
    if isinstance(code, int):
        # As the C library takes it; what no long can hold is -1 there.
        return int(code) & 0xff if -2 ** 63 <= code < 2 ** 63 else 0xff
    try:
        sys.stderr.write(str(code))
        sys.stderr.write("\n")
        sys.stderr.flush()
    except BaseException:
        pass
    return 1


def uncaught(error):
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals is globals():
        trace = trace.tb_next
    error.__traceback__ = trace
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, trace
    if sys.version_info >= (3, 12):
        sys.last_exc = error
    status = -1 if isinstance(error, KeyboardInterrupt) and sys.version_info >= (3, 8) else 1
    hook = getattr(sys, "excepthook", None)
    try:
        if hook is None:
            sys.stderr.write("sys.excepthook is missing\n")
            sys.__excepthook__(type(error), error, trace)
        else:
            hook(type(error), error, trace)
    except SystemExit as other:
        return exit_status(other)
    except BaseException as other:
        trace_of_other = other.__traceback__.tb_next if other.__traceback__ is not None else None
        sys.stderr.write("Error in sys.excepthook:\n")
        sys.__excepthook__(type(other), other.with_traceback(trace_of_other), trace_of_other)
        sys.stderr.write("\nOriginal exception was:\n")
        sys.__excepthook__(type(error), error, trace)
    return status


def needs_destruction():
    """Whether an object is left whose end can be seen: a file with unwritten bytes, a finalizer, a generator."""
    new = gc.get_objects()
    if len(new) > MANY_OBJECTS:
        return True
    if any(hasattr(kind, "__del__") for kind in set(map(type, new))):
        return True
    # Code that is not the interpreter's may keep bytes in the buffers of the C library.
    for name, module in list(sys.modules.items()):
        origin = getattr(getattr(module, "__spec__", None), "origin", None)
        if name not in BASELINE and isinstance(origin, str) and origin.endswith(".so") \
                and "lib-dynload" not in origin:
            return True
    return "ctypes" in sys.modules


def die_of_interrupt():
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    os.kill(os.getpid(), _signal.SIGINT)
    os._exit(130)


def make_stdin():
    """sys.stdin, as an interpreter makes it of descriptor 0."""
    raw = open(0, "rb", -1, None, None, None, False)
    raw.raw.name = "<stdin>"
    old = sys.stdin
    stream = type(old)(raw, old.encoding, old.errors, "\n", False, False)
    stream.mode = "r"
    return stream


def child(channel, spares, request, interpreter, scripts, store):
    """From the fork to the end of the script. Returns only to leave by the interpreter's own way."""
    if spares is not None:
        spares.close()
    request.enter(channel, interpreter.own_environment)
    interpreter.choose_stdin()
    interpreter.run(request, scripts, store)


def fork_spares(count, channel, spares, interpreter, scripts, store):
    for _ in range(count):
        try:
            if os.fork() != 0:
                continue
        except OSError:
            return
        channel.send(b"spare")
        fields, descriptors = Channel.receive(spares)
        if len(descriptors) != 3:
            os._exit(0)
        child(channel, spares, Request(fields, descriptors), interpreter, scripts, store)


def serve(channel, spares, interpreter, scripts, store):
    """The parent's whole life; what returns is a child whose script has ended."""
    stale = False
    while True:
        fields, descriptors = channel.receive()
        kind = fields[0]
        if kind == b"R" and len(descriptors) == 3:
            request = Request(fields, descriptors)
            path = os.fsdecode(request.path)
            scripts.learn(path)
            if store.modules and not stale:
                store.shadows(os.path.dirname(os.path.realpath(path)))
                stale = store.stale()
                if stale:
                    channel.send(b"stale", os.fsencode(stale))
                    store.forget()
            try:
                pid = os.fork()
            except OSError as error:
                channel.send(b"failed", request.id, b"%d" % error.errno)
                pid = -1
            if pid == 0:
                return child(channel, spares, request, interpreter, scripts, store)
            for descriptor in descriptors:
                os.close(descriptor)
        elif kind == b"W":
            try:
                pid, status, usage = os.wait4(int(fields[2]), os.WNOHANG)
                spent = int((usage.ru_utime + usage.ru_stime) * 1e6)
                channel.send(b"exit" if pid else b"running", fields[1], b"%d" % status, b"%d" % spent)
            except ChildProcessError:
                channel.send(b"exit", fields[1], b"-1")
        elif kind == b"S":
            fork_spares(int(fields[1]), channel, spares, interpreter, scripts, store)
        else:
            # The worker has ended, or has no more use for this process.
            os._exit(0)


def start():
    global PATH
    if not getattr(sys.flags, "safe_path", sys.flags.isolated):
        # The directory of the program, which is a script's yet.
        del sys.path[0]
    sys.path_importer_cache.pop(sys.argv[0], None)
    PATH = list(sys.path)
    channel = Channel(os.dup(1))
    # What a request without a body reads, and what one with a body reads: streams are made differently of them.
    os.dup2(1, 0)
    piped = make_stdin()
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    fields, descriptors = channel.receive()
    setup = dict(field.decode("utf-8", "surrogateescape").split("=", 1) for field in fields if b"=" in field)
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    spares = Channel(descriptors[0]) if descriptors else None
    setup["index"] = setup["index"].encode()
    setup["report"] = b"\0" + bytes.fromhex(setup["report"])
    interpreter = Interpreter(setup)
    interpreter.streams = piped, make_stdin()
    store = Store()
    names = [name for name in setup.get("modules", "").split(" ") if name]
    loaded = preload(store, names, channel)
    interpreter.loaded = frozenset(store.modules)
    interpreter.handlers = atexit._ncallbacks()
    scripts = Scripts()
    gc.collect()
    gc.freeze()
    channel.send(b"ready", *[name.encode() for name in loaded])
    serve(channel, spares, interpreter, scripts, store)


start()
