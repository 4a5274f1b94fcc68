class Request:
    """One run, in the process that is to become the script. Each page of memory that is written to here is copied for
    this run alone: so few objects are touched, and none is freed."""

    # Whether the worker is told that the script has ended before the kernel tells it.
    tells_end = False

    def __init__(self, data, descriptors):
        self.fields = fields = data.split(b"\0")
        self.id, self.flags, self.path, self.directory = fields[1:5]
        self.descriptors = descriptors

    def enter(self, channel, interpreter):
        """Becomes what execve(2) would have made of this process. Then the script may run."""
        os.setpgid(0, 0)
        try:
            os.chdir(self.directory)
        except OSError as error:
            channel.send(b"failed", self.id, b"%d" % error.errno)
            os._exit(127)
        channel.send(b"started", self.id)
        stdin, stdout, stderr = self.descriptors
        os.dup2(stdin, 0)
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        # The channel and all else that is not the script's: their numbers may be another's from here on.
        for socket in interpreter.sockets:
            socket.detach()
        os.closerange(3, interpreter.highest)
        fields, data, putenv = self.fields, environment_data(), os.putenv
        for at in range(FIRST_VARIABLE, len(fields), 2):
            name, value = fields[at], fields[at + 1]
            data[name] = value
            putenv(name, value)
        for name, value in interpreter.own_environment:
            if name not in data:
                data[name] = value
                putenv(name, value)


def environment_data():
    """What os.environ keeps."""
    return os.environ._data


def own_environment():
    """What the interpreter itself has set at its start (PEP 538: LC_CTYPE)."""
    try:
        with open("/proc/self/environ", "rb") as file:
            given = {variable.partition(b"=")[0] for variable in file.read().split(b"\0")}
    except OSError:
        return []
    return [(name, value) for name, value in environment_data().items() if name not in given]


def make_stdin():
    """sys.stdin, as an interpreter makes it of descriptor 0."""
    raw = open(0, "rb", -1, None, None, None, False)
    raw.raw.name = "<stdin>"
    old = sys.stdin
    stream = type(old)(raw, old.encoding, old.errors, "\n", False, False)
    stream.mode = "r"
    return stream


def name_process(descriptor, name):
    """What process lists show. A name that is set before a fork is that of both."""
    try:
        os.write(descriptor, name)
    except OSError:
        pass


def rename_process(name):
    descriptor = open_process_name()
    name_process(descriptor, name)
    os.close(descriptor)


def open_process_name():
    try:
        return os.open("/proc/self/comm", os.O_WRONLY)
    except OSError:
        return -1


def process_name():
    try:
        with open("/proc/self/comm", "rb") as file:
            return file.read().rstrip(b"\n")
    except OSError:
        return b""
