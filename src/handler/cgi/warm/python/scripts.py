class Script:
    """One version of a script: what can be made of it before it runs."""

    def __init__(self, path, version):
        self.version = version
        self.path = os.fsdecode(path)
        # The worker gives the path of the file itself, without symbolic links.
        directory, _, name = path.rpartition(b"/")
        self.directory = os.fsdecode(directory or b"/")
        self.name = name[:15]
        self.loader = SourceFileLoader("__main__", self.path)
        self.code = None
        self.is_refused = not version

    def compile(self):
        """In the parent: compiles it for all children. What the compiler says has to be said to each request."""
        modified, size, _ = map(int, self.version.split(b"."))
        if time.time() * 1e9 - modified < SETTLED_NS:
            return
        self.is_refused = True
        if size > MAX_CACHED_BYTES or identity(self.path) != self.version:
            return
        try:
            code, warnings = compiled_elsewhere(lambda: compiled(self.path))
        except BaseException:
            return
        if not warnings and identity(self.path) == self.version:
            self.code = code
            gc.freeze()


class Scripts:
    """Scripts by path; the worker tells with each request which version of the file it has seen."""

    def __init__(self):
        self.known = {}

    def find(self, path, version, learns=True):
        script = self.known.get(path)
        if script is not None and script.version == version:
            if learns and script.code is None and not script.is_refused:
                # A child has compiled it before, without harm.
                script.compile()
                tidy_modules()
            return script
        if script is None and len(self.known) >= MAX_CACHED_SCRIPTS:
            self.known.pop(next(iter(self.known)))
        script = self.known[path] = Script(path, version)
        return script


def identity(file):
    """A version, as the worker writes it."""
    try:
        stat = os.stat(file)
        return b"%d.%d.%d" % (stat.st_mtime_ns, stat.st_size, stat.st_ino)
    except OSError:
        return None


def tidy_modules():
    """The decoder of a script's encoding may have been imported: only those who use it are to see it."""
    if len(sys.modules) != len(BASELINE):
        for name in sys.modules.keys() - BASELINE:
            if name != USED_BY_WAIT:
                del sys.modules[name]
