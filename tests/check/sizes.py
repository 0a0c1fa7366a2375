#!/usr/bin/python3
"""Files and functions that have grown long are named; nothing fails."""
import ast
import re

import tree

FILE, FUNCTION = 600, 80
NAME = re.compile(r"(\w+)\(")


def c_functions(text):
    """(line, name, length) of what stands between "{" and "}" in column 0."""
    head, start = "", 0
    for n, line in enumerate(tree.code(text).splitlines(), 1):
        if line.startswith("{") and not start:
            start = n
        elif line.startswith("}") and start:
            m = NAME.search(head)
            if m:
                yield start, m.group(1), n - start
            start, head = 0, ""
        elif not start:
            head = head + line if line.startswith((" ", "\t")) else line


def python_functions(text):
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.lineno, node.name, node.end_lineno - node.lineno


for path in tree.files(".c", ".h", ".inc", ".def", ".py", ".sh"):
    text = tree.read(path)
    lines = text.count("\n")
    if lines > FILE:
        tree.warn(path, 0, f"{lines} lines, more than {FILE}")
    functions = c_functions if path.endswith((".c", ".h", ".inc")) else python_functions
    for line, name, length in functions(text) if not path.endswith((".sh", ".def")) else ():
        if length > FUNCTION:
            tree.warn(path, line, f"{name}: {length} lines, more than {FUNCTION}")
tree.done()
