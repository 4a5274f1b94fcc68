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


def needs_destruction(last_module):
    """Whether something is left whose end can be seen: a file with unwritten bytes, a finalizer, a generator."""
    new = gc.get_objects()
    if len(new) > MANY_OBJECTS:
        return True
    kinds = set(map(type, new))
    kinds -= PLAIN
    for kind in kinds:
        if hasattr(kind, "__del__"):
            return True
        if sys.version_info < (3, 8) and issubclass(kind, type) and any(
                isinstance(made, kind) and escapes(made) for made in new):
            return True
    # The interpreter's own modules come first.
    for name in reversed(sys.modules) if sys.version_info >= (3, 8) else list(sys.modules):
        if name == last_module:
            break
        if name in KEEPERS or (name not in BASELINE and is_foreign(sys.modules[name])):
            return True
    return False


def escapes(made):
    """Whether objects of this class have finalizers, and are no containers: no list of objects has them then."""
    return not made.__flags__ & HAVE_GC and hasattr(made, "__del__")


def is_foreign(module):
    """Code that is not the interpreter's may keep bytes in the buffers of the C library."""
    origin = getattr(getattr(module, "__spec__", None), "origin", None)
    return isinstance(origin, str) and origin.endswith(".so") and "lib-dynload" not in origin


def die_of_interrupt():
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    os.kill(os.getpid(), _signal.SIGINT)
    os._exit(130)


# Kinds of objects that end unseen, of those that most scripts make.
PLAIN = frozenset(map(type, ((), [], {}, set(), die_of_interrupt, die_of_interrupt.__code__, sys, Script, Request, len,
                             iter([]), map(len, []), sys._getframe(), [].append, property())))
PLAIN |= {SourceFileLoader, ModuleSpec, Script, Request}
