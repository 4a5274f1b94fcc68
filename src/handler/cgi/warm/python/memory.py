def rehearse(interpreter, scripts, store, rounds):
    """Runs what each child is to run, in the parent: what the interpreter notes about code that it has run (where
    attributes were found, which kinds of objects came) is then noted once, and not anew on each child's copies of pages.
    A spare child does it once more, so that these pages are its own by the time that a request comes."""
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    told = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
    # The kernel chooses a name.
    told.bind("")
    told.setblocking(False)
    channel = Channel(theirs.detach())
    real = interpreter.sockets, interpreter.highest, interpreter.report_to, store.modules
    path, group, name = list(sys.path), os.getpgrp(), process_name()
    script = scripts.known[b"/-"] = Script(b"/-", b"1")
    script.code = REHEARSED
    standard = b"".join(number.to_bytes(4, sys.byteorder) for number in range(3))
    message = b"R\0000\0-1\0/-\0/" + b"".join(b"\0N%d\0V" % at for at in range(24))
    interpreter.report_to, store.modules = told.getsockname(), {}
    for _ in range(rounds):
        ours.sendmsg([message], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, standard)])
        request, script = next_request(channel, scripts)
        # Nothing else is closed.
        interpreter.sockets, interpreter.highest = [_socket.socket(), _socket.socket()], 3
        others = [socket.fileno() for socket in interpreter.sockets]
        request.enter(channel, interpreter)
        rename_process(name)
        interpreter.run(script, store)
        if atexit._ncallbacks() == 0:
            interpreter.finish()
        interpreter.tell_end(request, 0)
        ours.recv(100)
        try:
            told.recv(100)
        except BlockingIOError:
            # Nothing was told: this process has waited for the one that has compiled the driver.
            pass
        for descriptor in request.descriptors + others:
            os.close(descriptor)
        sys.path[:] = path
        sys.path_importer_cache.pop(script.path, None)
        clear_environment()
    for socket in (ours, channel.socket, told):
        socket.close()
    os.setpgid(0, group)
    del scripts.known[b"/-"]
    interpreter.sockets, interpreter.highest, interpreter.report_to, store.modules = real


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
