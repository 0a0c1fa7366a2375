#!/usr/bin/python3
"""One table of metrics (server/metrics.def): server/README.md names them all, and documents, rules
and dashboards name no other."""
import re

import tree

TABLE, DOCUMENT = "server/metrics.def", "server/README.md"
NAME = re.compile(r"\bperceiverd_[a-z][a-z_]*[a-z]\b")


def table():
    """{name: type}"""
    r = tree.run("gcc", "-E", "-P", "-x", "c", "-", input=(
        "#define METRIC(name, type, ...) @ name type\n" f'#include "{TABLE}"\n'))
    rows = dict(re.findall(r"@ (\w+) (\w+)", r.stdout))
    if r.returncode or not rows:
        raise SystemExit(f"{TABLE}: cannot be read: {r.stderr.strip()}")
    return rows


rows = table()
series = set()
for name, kind in rows.items():
    full = "perceiverd_" + name
    series |= {full + end for end in ("", "_bucket", "_sum", "_count")} if kind == "HISTOGRAM" else {full}

if not tree.exists(DOCUMENT):
    tree.bad(DOCUMENT, 0, "is missing")
else:
    text = tree.read(DOCUMENT)
    for name in rows:
        if not re.search(rf"\bperceiverd_{name}\b", text):
            tree.bad(DOCUMENT, 0, f"does not name perceiverd_{name}, which {TABLE} has")

for path in tree.files(".md", ".yaml", ".yml", ".json", ".rules", ".8", ".1"):
    text = tree.read(path)
    for m in NAME.finditer(text):
        if m.group() not in series:
            tree.bad(path, tree.line_of(text, m.start()), f"there is no metric {m.group()}")
tree.done()
