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
