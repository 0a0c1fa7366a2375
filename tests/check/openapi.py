#!/usr/bin/python3
"""proto/openapi.yaml describes exactly the routes of server/routes*.c, under this version, and what
it refers to is there."""
import re

import yaml

import tree

DOCUMENT = "proto/openapi.yaml"
METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}
# A row of the table of routes: {"GET", "/v2/models/{m}", ...
ROW = re.compile(r'\{\s*"(GET|PUT|POST|DELETE|PATCH)"\s*,\s*"(/[^"]*)"')


def shape(pattern):
    """Names of parameters do not matter: /v1/models/{m} is /v1/models/{model}."""
    return re.sub(r"\{[^}]*\}", "{}", pattern)


def routes():
    """{(method, shape): (file, line)}"""
    found = {}
    for path in tree.files(".c", under=("server/routes",)):
        text = tree.read(path)
        for m in ROW.finditer(text):
            found[m.group(1), shape(m.group(2))] = (path, tree.line_of(text, m.start()))
    if not found:
        raise SystemExit("server/routes*.c: no table of routes in it")
    return found


def check_references(node, where, document):
    if isinstance(node, dict):
        target = node.get("$ref")
        if isinstance(target, str):
            at = document
            for part in target.removeprefix("#/").split("/"):
                at = at.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(at, dict) else None
            if not target.startswith("#/") or at is None:
                tree.bad(DOCUMENT, 0, f"{where}: $ref {target} leads nowhere")
        for key, value in node.items():
            check_references(value, f"{where}.{key}", document)
    elif isinstance(node, list):
        for i, value in enumerate(node):
            check_references(value, f"{where}[{i}]", document)


document = yaml.safe_load(tree.read(DOCUMENT))
described, names = {}, {}
for path, item in document["paths"].items():
    wanted = set(re.findall(r"\{([^}]*)\}", path))
    for method, operation in item.items():
        if method not in METHODS:
            continue
        described[method.upper(), shape(path)] = path
        name = operation.get("operationId")
        if name in names:
            tree.bad(DOCUMENT, 0, f"{method} {path}: operationId {name} is {names[name]}'s")
        names[name] = f"{method} {path}"
        parameters = item.get("parameters", []) + operation.get("parameters", [])
        got = set()
        for p in parameters:
            if "$ref" in p:
                p = document["components"]["parameters"].get(p["$ref"].rsplit("/", 1)[1], {})
            if p.get("in") == "path":
                got.add(p["name"])
        if got != wanted:
            tree.bad(DOCUMENT, 0, f"{method} {path}: path parameters {sorted(got)}, the path has "
                                  f"{sorted(wanted)}")

served = routes()
for key, (file, line) in sorted(served.items()):
    if key not in described:
        tree.bad(file, line, f"{key[0]} {key[1]} is not in {DOCUMENT}")
for key, path in sorted(described.items()):
    if key not in served:
        tree.bad(DOCUMENT, 0, f"{key[0]} {path} is no route of server/routes*.c")
check_references(document, "$", document)

version = re.search(r"^VERSION := (\S+)$", tree.read("Makefile"), re.M)
if not version or str(document["info"]["version"]) != version.group(1):
    tree.bad(DOCUMENT, 0, f"info.version is {document['info']['version']}, the Makefile's VERSION is "
                          f"{version.group(1) if version else 'missing'}")
tree.done()
