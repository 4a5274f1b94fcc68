# Compiles a script, for the drivers of both Pythons.


class Recorder:
    """In the place of sys.stderr, while something is compiled."""

    def __init__(self):
        self.text = []

    def write(self, text):
        self.text.append(text)

    def flush(self):
        pass


def compiled(path):
    """The code of a script, and what the compiler has to say about it."""
    with open(path, "rb") as file:
        source = file.read()
    stderr, sys.stderr = sys.stderr, Recorder()
    try:
        return compile(source, path, "exec", 0, True), "".join(sys.stderr.text)
    finally:
        sys.stderr = stderr
