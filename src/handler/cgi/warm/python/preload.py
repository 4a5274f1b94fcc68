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
        "replaces a hook of sys": [id(sys.excepthook), id(sys.displayhook), id(getattr(sys, "breakpointhook", None))],
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
        if not done:
            # Unknown, or it has failed half way, which can't be taken back.
            reasons.insert(0, "can not be loaded by itself")
        if reasons:
            channel.send(b"refused", name.encode(), reasons[0].encode())
            os._exit(0)
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
