def child(request, channel, interpreter, script, store):
    """From the fork to the end of the script. Returns only to leave by the interpreter's own way."""
    request.enter(channel, interpreter)
    interpreter.leave(interpreter.run(script, store), request)


def fork_spares(count, is_calm, channel, spares, interpreter, scripts, store):
    for _ in range(count):
        try:
            if os.fork() != 0:
                continue
        except OSError:
            return False
        if is_calm:
            # There is time now for copies of the pages of memory that it will write to.
            rehearse(interpreter, scripts, store, 1)
        channel.send(b"spare")
        request, script = next_request(spares, scripts)
        request.tells_end = is_calm
        request.enter(channel, interpreter)
        rename_process(script.name)
        interpreter.leave(interpreter.run(script, store), request)
        return True
    return False


def next_request(spares, scripts):
    data, descriptors = spares.receive()
    if len(descriptors) != 3:
        os._exit(0)
    request = Request(data, descriptors)
    return request, scripts.find(request.path, request.flags[1:], False)


def serve(channel, spares, interpreter, scripts, store):
    """The parent's whole life; what returns is a child whose script has ended."""
    own_name = process_name()
    stale = False
    while True:
        data, descriptors = channel.receive()
        if data.startswith(b"R\0") and len(descriptors) == 3:
            id, flags, path = data.split(b"\0", 4)[1:4]
            script = scripts.find(path, flags[1:])
            if store.modules and not stale:
                store.shadows(script.directory)
                stale = store.stale()
                if stale:
                    channel.send(b"stale", os.fsencode(stale))
                    store.forget()
            name_process(interpreter.process_name, script.name)
            try:
                pid = os.fork()
            except OSError as error:
                channel.send(b"failed", id, b"%d" % error.errno)
                pid = -1
            if pid == 0:
                return child(Request(data, descriptors), channel, interpreter, script, store)
            name_process(interpreter.process_name, own_name)
            for descriptor in descriptors:
                os.close(descriptor)
        elif data.startswith(b"W\0"):
            _, id, pid = data.split(b"\0")
            try:
                pid, status, usage = os.wait4(int(pid), os.WNOHANG)
                spent = int((usage.ru_utime + usage.ru_stime) * 1e6)
                channel.send(b"exit" if pid else b"running", id, b"%d\0%d" % (status, spent))
            except ChildProcessError:
                channel.send(b"exit", id, b"-1")
        elif data.startswith(b"S\0"):
            _, count, pace, version, path = data.split(b"\0")
            if path:
                scripts.find(path, version)
            if fork_spares(int(count), pace == b"calm", channel, spares, interpreter, scripts, store):
                return
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
    data, descriptors = channel.receive()
    fields = data.decode("utf-8", "surrogateescape").split("\0")
    setup = dict(field.split("=", 1) for field in fields if "=" in field)
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    spares = Channel(descriptors[0]) if descriptors else None
    setup["index"] = setup["index"].encode()
    setup["report"] = b"\0" + bytes.fromhex(setup["report"])
    interpreter = Interpreter(setup, [channel] + ([spares] if spares else []))
    interpreter.streams = piped, make_stdin()
    store = Store()
    loaded = preload(store, [name for name in setup.get("modules", "").split(" ") if name], channel)
    interpreter.settle(frozenset(store.modules))
    scripts = Scripts()
    rehearse(interpreter, scripts, store, ROUNDS)
    compact()
    channel.send(b"ready", *[name.encode() for name in loaded])
    serve(channel, spares, interpreter, scripts, store)


start()
