def rehearse(interpreter, store, rounds):
    """Runs what each child is to run, in the parent: what the interpreter notes about code that it has run (where
    attributes were found, which kinds of objects came) is then noted once, and not anew on each child's copies of pages."""
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_DGRAM)
    real = interpreter.sockets, interpreter.highest, store.modules
    # Nothing is closed.
    interpreter.sockets, interpreter.highest, store.modules = [], 3, {}
    path, group = list(sys.path), os.getpgrp()
    request = b"R\0000\0-\0/-\0/"
    for _ in range(rounds):
        descriptors = [os.dup(0), os.dup(1), os.dup(2)]
        script = Script(b"/-", b"")
        script.code = REHEARSED
        rehearsed = Request(request + b"".join(b"\0N%d\0V" % at for at in range(24)), descriptors)
        channel = Channel(os.dup(theirs.fileno()))
        rehearsed.enter(channel, interpreter)
        interpreter.run(script, store)
        if atexit._ncallbacks() == 0:
            interpreter.finish()
        ours.recv(100)
        channel.socket.close()
        for descriptor in descriptors:
            os.close(descriptor)
        sys.path[:] = path
        sys.path_importer_cache.pop(script.path, None)
        clear_environment()
    ours.close()
    theirs.close()
    os.setpgid(0, group)
    interpreter.sockets, interpreter.highest, store.modules = real


def clear_environment():
    data = environment_data()
    for name in data:
        os.unsetenv(name)
    data.clear()


def compact():
    """Before the first fork: what a child makes is to lie on few pages of memory, since each page that it writes to is
    copied for it. So the gaps in the memory that is used are filled, and no collection looks at what is old."""
    try:
        # Imports what it needs.
        os.wait4(-1, os.WNOHANG)
    except ChildProcessError:
        pass
    gc.collect()
    # The C library keeps what is set here.
    for number in range(VARIABLES):
        os.putenv("%d_%s" % (number, "x" * (number % 5 * 16)), "")
    for number in range(VARIABLES):
        os.unsetenv("%d_%s" % (number, "x" * (number % 5 * 16)))
    filled = []
    # Free-threaded builds have another allocator, of other pools.
    largest = 0 if "t" in getattr(sys, "abiflags", "") else LARGEST
    for size in range(SMALLEST, largest + 1, ALIGNMENT):
        # A pool of memory begins at such an address: a new one has no gaps.
        for _ in range(MOST_GAPS):
            filler = bytes(size - BYTES_HEAD)
            filled.append(filler)
            if id(filler) & (POOL_BYTES - 1) < ALIGNMENT * 8:
                break
    FILLED.append(filled)
    gc.freeze()


FILLED = []
ROUNDS = 20
VARIABLES = 400
# It leaves no name behind.
REHEARSED = compile("import os, sys\nprint(end='')\ndel os, sys\n", "/-", "exec", 0, True)
