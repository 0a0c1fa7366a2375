"""What the checks share: the files of the tree, C text without comments, and how to report.

A check prints one line for each violation ("lib/kernel/gemm.h:10: what is wrong") and exits 1 when
there was any, 0 when there was none, 77 when it cannot run here. Lines that begin with "warning:"
are shown and do not fail."""
import json
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("B", "build")
SKIPPED = 77
NOT_SOURCES = {"build", ".git", ".venv", "__pycache__", ".pytest_cache"}

_violations = 0


def files(*suffixes, under=("",)):
    """Paths of the tree's files, relative to its top, sorted. What git ignores is left out."""
    if os.path.exists(os.path.join(ROOT, ".git")):
        listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").stdout
        names = [n for n in listed.split("\0") if n and os.path.isfile(os.path.join(ROOT, n))]
    else:
        names = []
        for folder, folders, here in os.walk(ROOT):
            folders[:] = [f for f in folders if f not in NOT_SOURCES]
            names += [os.path.relpath(os.path.join(folder, n), ROOT) for n in here
                      if n != "compile_commands.json"]
    return sorted({n for n in names
                   if n.startswith(tuple(under)) and (not suffixes or n.endswith(suffixes))})


def exists(path):
    return os.path.exists(os.path.join(ROOT, path))


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8", errors="surrogateescape") as f:
        return f.read()


def run(*command, **how):
    """Runs a command at the top of the tree; its output is text."""
    how = {"cwd": ROOT, "capture_output": True, "text": True, "errors": "replace", **how}
    return subprocess.run(command, check=False, **how)


def built(name):
    """Path of something that make builds; without it nothing can be said."""
    path = os.path.join(ROOT, BUILD, name)
    if not os.path.exists(path):
        sys.exit(f"{BUILD}/{name} is missing: run make build")
    return path


def commands():
    """{C file: arguments that compile it} from compile_commands.json."""
    path = os.path.join(ROOT, "compile_commands.json")
    if not os.path.exists(path):
        sys.exit("compile_commands.json is missing: run make compile_commands.json")
    with open(path, encoding="utf-8") as f:
        return {entry["file"]: entry["arguments"] for entry in json.load(f)}


def flags(ending=".c"):
    """What every C file is compiled with, or files with this ending."""
    arguments = next(a for path, a in sorted(commands().items()) if path.endswith(ending))
    return arguments[: arguments.index("-c")]


_TOKEN = re.compile(
    r"""/\*.*?\*/ | //[^\n]* | "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*'""", re.S | re.X)


def _blank(text):
    return re.sub(r"[^\n]", " ", text)


def code(text):
    """C text with comments and the insides of strings blanked; every line stays where it is."""
    return _TOKEN.sub(lambda m: _blank(m.group()) if m.group()[0] == "/"
                      else m.group()[0] + _blank(m.group()[1:-1]) + m.group()[-1], text)


_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"\n]+)[>"]', re.M)


def includes(path):
    """(line, "<" or '"', name) of each #include that is not in a comment."""
    text = _TOKEN.sub(lambda m: _blank(m.group()) if m.group()[0] == "/" else m.group(), read(path))
    return [(line_of(text, m.start(1)), m.group(1), m.group(2)) for m in _INCLUDE.finditer(text)]


def line_of(text, at):
    return text.count("\n", 0, at) + 1


def bad(where, line, message):
    global _violations
    _violations += 1
    print(f"{where}:{line}: {message}" if line else f"{where}: {message}")


def warn(where, line, message):
    print(f"warning: {where}:{line}: {message}" if line else f"warning: {where}: {message}")


def skip(why):
    print(why)
    sys.exit(SKIPPED)


def done():
    sys.exit(1 if _violations else 0)
