#!/usr/bin/python3
"""Includes go downward only.

lib:     base < kernel < attention < input, output, load < layout < model; folders on one level do
         not know each other, except that lib/load reads picture settings into lib/input/image.h.
         perceiver.h, the public header, declares for all of lib; it includes base's and
         safetensors' public headers alone.
proto:   itself and lib/base/.
server:  itself, proto/ and the library's public headers.
tests:   anything. Nobody includes a .c file; X_internal.h belongs to X*.c."""
import tree

LEVELS = {"base": 0, "kernel": 1, "attention": 2, "input": 3, "output": 3, "load": 3, "layout": 4,
          "model": 5}
SIDEWAYS = {("load", "lib/input/image.h")}
PUBLIC = {"lib/perceiver.h", "lib/base/err.h", "lib/base/tensor.h", "lib/load/safetensors.h"}
# Headers that make writes to build/, and who may have them.
MADE = {"version.h": "lib/base/version.c"}


def lib_may(path, name):
    if path == "lib/perceiver.h":
        return name in PUBLIC
    if name == "lib/perceiver.h":
        return path not in PUBLIC
    mine, theirs = path.split("/")[1], name.split("/")[1]
    if mine not in LEVELS or theirs not in LEVELS:
        return False
    return (mine == theirs or LEVELS[theirs] < LEVELS[mine] or (mine, name) in SIDEWAYS)


def may(path, name):
    layer = path.split("/")[0]
    if layer == "lib":
        return name.startswith("lib/") and lib_may(path, name)
    if layer == "proto":
        return name.startswith(("proto/", "lib/base/"))
    if layer == "server":
        return name.startswith(("server/", "proto/")) or name in PUBLIC
    return True


def cycle(graph, path, way):
    """The first ring of includes through path, or None."""
    for name in graph.get(path, ()):
        if name in way:
            return way[way.index(name):] + [name]
        found = cycle(graph, name, way + [name]) if name not in seen else None
        if found:
            return found
    seen.add(path)
    return None


graph, seen = {}, set()
for path in tree.files(".c", ".h", ".inc", ".def"):
    layer = path.split("/")[0]
    if layer == "lib" and path != "lib/perceiver.h" and path.split("/")[1] not in LEVELS:
        tree.bad(path, 0, "a folder that has no place among the layers of lib")
    for line, kind, name in tree.includes(path):
        if kind == "<":
            if name.startswith(("lib/", "proto/", "server/", "tests/")):
                tree.bad(path, line, f"<{name}>: headers of the tree are written in quotes")
            continue
        if name in MADE:
            if path != MADE[name]:
                tree.bad(path, line, f"\"{name}\" is for {MADE[name]} alone")
            continue
        if not tree.exists(name):
            tree.bad(path, line, f"\"{name}\" is no path from the top of the tree")
            continue
        graph.setdefault(path, []).append(name)
        if name.endswith(".c"):
            tree.bad(path, line, f"includes {name}")
        elif not may(path, name):
            tree.bad(path, line, f"{layer} must not know {name}" if layer != "lib" else
                     f"{'/'.join(path.split('/')[:-1])} must not know {name}")
        owner = name.rsplit("_internal.h", 1)[0]
        if name.endswith("_internal.h") and layer != "tests" and not path.startswith(owner):
            tree.bad(path, line, f"{name} belongs to {owner}*.c")

for path in sorted(graph):
    ring = cycle(graph, path, [path])
    if ring:
        tree.bad(path, 0, "headers include each other: " + " > ".join(ring))
tree.done()
