class Interpreter:
    """How this interpreter was started, and how it starts a script."""

    def __init__(self, setup, channels):
        self.argv = [setup["argv0"]] + ([setup["flag"]] if setup.get("flag") else [])
        self.report_to = setup.get("report")
        self.index = setup["index"]
        self.own_environment = own_environment()
        self.has_safe_path = bool(getattr(sys.flags, "safe_path", sys.flags.isolated))
        self.sockets = [channel.socket for channel in channels]
        self.process_name = open_process_name()
        # No descriptor is higher: those of a request are given the lowest free numbers.
        self.highest = max([self.process_name] + [socket.fileno() for socket in self.sockets]) + 4
        # Kept, since to take apart what is replaced costs more than the rest of the start.
        self.first_stdin = sys.stdin
        self.outputs = sys.stdout, sys.stderr
        self.streams = None
        self.loaded = ()
        self.handlers = 0
        self.last_module = None

    def settle(self, loaded):
        """All is loaded: what is here now is not of a script's doing."""
        self.loaded = loaded
        self.handlers = atexit._ncallbacks()
        self.last_module = list(sys.modules)[-1]

    def choose_stdin(self):
        piped, null = self.streams
        try:
            os.lseek(0, 0, os.SEEK_CUR)
            sys.stdin = sys.__stdin__ = null
        except OSError:
            sys.stdin = sys.__stdin__ = piped

    def run_cold(self, path):
        """Starts anew with the script: for what must be said by an interpreter that begins."""
        os.execv(path, [path])

    def run(self, script, store):
        path, code = script.path, script.code
        self.choose_stdin()
        if code is None:
            try:
                code, warnings = compiled(path)
            except BaseException:
                self.run_cold(path)
            if warnings:
                sys.stderr.write(warnings)
        sys.modules.pop(USED_BY_WAIT, None)
        if store.modules:
            if store.stale() or store.shadows(script.directory):
                store.forget()
            else:
                store.trusted.add(script.directory)
                sys.meta_path.insert(0, store)
        if not self.has_safe_path:
            sys.path.insert(0, script.directory)
        sys.argv[:] = [path]
        sys.path_importer_cache.setdefault(path, None)
        if hasattr(sys, "orig_argv"):
            sys.orig_argv[:] = self.argv + [path]
        names = sys.modules["__main__"].__dict__
        names["__loader__"] = script.loader
        names["__file__"] = path
        names["__cached__"] = None
        return execute(code, names)

    def finish(self):
        """As the interpreter ends, but for the taking apart of what nobody can see. True: that has to be seen to."""
        try:
            threading = sys.modules.get("threading")
            if threading is not None:
                threading._shutdown()
                if sys.version_info < (3, 8):
                    # There, it must not be called again.
                    threading._shutdown = bool
            count = atexit._ncallbacks()
            if count > self.handlers:
                known = sum(name in sys.modules and name not in self.loaded for name in USUAL_HANDLERS)
                if count > self.handlers + known:
                    # The script's own: where they fail the interpreter says so in its own way.
                    return True
            if count:
                atexit._run_exitfuncs()
            for stream in self.outputs:
                stream.flush()
            if sys.stdout is not self.outputs[0] or sys.stderr is not self.outputs[1]:
                return True
        except BaseException:
            # The interpreter tries again, and says what it has to say.
            return True
        return needs_destruction(self.last_module)

    def leave(self, status, request):
        whole = self.finish()
        if request.flags.startswith(b"l"):
            self.report()
        if status < 0:
            die_of_interrupt()
        if whole:
            # What is frozen is never taken apart.
            gc.unfreeze()
            raise SystemExit(status)
        if request.tells_end:
            self.tell_end(request, status)
        os._exit(status)

    def tell_end(self, request, status):
        """Tells the worker that nothing comes any more: the kernel does so when it has given all memory back, which takes
        longer than all of a short script."""
        try:
            # Where the script has waited for other processes, their time is to be told too: the kernel has it.
            if times()[2:4] == (0.0, 0.0):
                self.tell(b"ends", request.id, b"%d" % status, b"%d" % (process_time() * 1e6))
        except BaseException:
            pass

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
        self.tell(*names)

    def tell(self, *fields):
        try:
            socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
            socket.setblocking(False)
            socket.sendto(b"\0".join(fields), self.report_to)
            socket.close()
        except OSError:
            pass


# As they are before a script may put something else in their place.
times, process_time = os.times, time.process_time
