#!/usr/bin/python3
"""One table of options (server/options.def), and everything that speaks of options agrees with it.

--help lists exactly the table's; etc/perceiverd.conf is what --print-config prints; the manual page
names every option and no other; README.md names those that a first user needs; commands, units and
documents use no option, variable or perceiverctl option that does not exist."""
import os
import re

import tree

FIRST_NEEDED = ["--listen", "--model", "--models-dir", "--threads", "--config"]
# Beside the table: what perceiverd does instead of serving.
ACTIONS = {"--config", "--check-config", "--print-config", "--version", "--help"}
PLACEHOLDERS = {"PERCEIVERD_SECTION_KEY", "PERCEIVERD_KEY"}
TABLE, SAMPLE, MANUAL = "server/options.def", "etc/perceiverd.conf", "deploy/man/perceiverd.8"
CTL_MANUAL = "deploy/man/perceiverctl.1"
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]*[a-z]\b")
CLEAN = {k: v for k, v in os.environ.items() if not k.startswith("PERCEIVERD_")}


def table():
    """(section, key) of each row, in order."""
    r = tree.run("gcc", "-E", "-P", "-x", "c", "-", input=(
        "#define OPT(section, key, ...) @ section key\n"
        "#define MOPT(key, ...) @ model key\n"
        f'#include "{TABLE}"\n'))
    rows = re.findall(r"@ (\w+) (\w+)", r.stdout)
    if r.returncode or not rows:
        raise SystemExit(f"{TABLE}: cannot be read: {r.stderr.strip()}")
    return rows


def flag_of(section, key):
    name = key if section == "server" else f"{section}-{key}"
    return "--" + name.replace("_", "-")


def variable_of(section, key):
    return ("PERCEIVERD_" + (key if section == "server" else f"{section}_{key}")).upper()


def output(program, *arguments):
    r = tree.run(tree.built(program), *arguments, env=CLEAN)
    if r.returncode:
        tree.bad(program, 0, f"{' '.join(arguments)} exits with {r.returncode}: {r.stderr.strip()}")
    return r.stdout


def roff(path):
    """A manual page as plain text."""
    text = re.sub(r'^[.\']\\".*$', "", tree.read(path), flags=re.M)
    return re.sub(r"\\f(?:[BIRP]|\[\w*\]|\(\w\w)", "", text).replace("\\-", "-").replace("\\", "")


def compare(where, found, wanted, what):
    for name in sorted(wanted - found):
        tree.bad(where, 0, f"does not name {name}, {what}")
    for name in sorted(found - wanted):
        tree.bad(where, 0, f"names {name}, which is no option")


def check_help(flags):
    found = set(FLAG.findall("\n".join(
        line for line in output("perceiverd", "--help").splitlines() if line.startswith("  --"))))
    compare("build/perceiverd --help", found, flags | ACTIONS, f"which {TABLE} has")


def check_sample():
    printed = output("perceiverd", "--print-config").splitlines()
    shipped = tree.read(SAMPLE).splitlines()
    for n, (a, b) in enumerate(zip(printed + [""] * len(shipped), shipped + [""] * len(printed)), 1):
        if a != b:
            tree.bad(SAMPLE, n, f"differs from perceiverd --print-config, which says: {a!r}")
            return


def check_manual(rows, flags):
    if not tree.exists(MANUAL):
        tree.bad(MANUAL, 0, "is missing")
        return
    text = roff(MANUAL)
    compare(MANUAL, set(FLAG.findall(text)), flags | ACTIONS, f"which {TABLE} has")
    if ("model", "path") in rows and not re.search(r"^path\b|\bpath *=", text, re.M):
        tree.bad(MANUAL, 0, f"does not name path, which {TABLE} has in [model]")


def check_readme():
    if not tree.exists("README.md"):
        tree.bad("README.md", 0, "is missing")
        return
    text = tree.read("README.md")
    for name in FIRST_NEEDED:
        if name not in FLAG.findall(text):
            tree.bad("README.md", 0, f"does not name {name}")
    if SAMPLE not in text:
        tree.bad("README.md", 0, f"does not say that all options stand in {SAMPLE}")


def ctl_commands():
    """{command: its options} as perceiverctl says itself."""
    listed = re.findall(r"^  ([a-z][a-z-]*) ", output("perceiverctl", "--help"), re.M)
    return {c: set(FLAG.findall(output("perceiverctl", c, "--help"))) for c in listed}


def check_ctl_manual(commands):
    if not tree.exists(CTL_MANUAL):
        tree.bad(CTL_MANUAL, 0, "is missing")
        return
    text = roff(CTL_MANUAL)
    for c in commands:
        if not re.search(rf"\b{c}\b", text):
            tree.bad(CTL_MANUAL, 0, f"does not name the command {c}")
    compare(CTL_MANUAL, set(FLAG.findall(text)), set().union(*commands.values(), {"--version", "--help"}),
            "an option of perceiverctl")


def check_uses(flags, variables, commands):
    """Commands in documents, scripts and units."""
    texts = [p for p in tree.files() if p.endswith((".md", ".service", ".socket", ".sh", ".yaml",
                                                    ".yml")) or p.startswith(("deploy/", "etc/"))]
    for path in texts:
        if path.endswith((".png", ".jpg", ".safetensors", ".8", ".1")):
            continue
        text = tree.read(path).replace("\\\n", "  ")
        for m in re.finditer(r"(?<!-u )\bperceiverd((?:[ \t]+[^\s|`&;)>]+)+)", text):
            for name in FLAG.findall(m.group(1)):
                if name not in flags | ACTIONS:
                    tree.bad(path, tree.line_of(text, m.start()), f"perceiverd has no option {name}")
        for m in re.finditer(r"\bperceiverctl\"? +([a-z]+)\b([^|`&;)>\n]*)", text):
            command, rest = m.group(1), m.group(2)
            for name in FLAG.findall(rest) if command in commands else []:
                if name not in commands[command]:
                    tree.bad(path, tree.line_of(text, m.start()),
                             f"perceiverctl {command} has no option {name}")
        for m in re.finditer(r"\bPERCEIVERD_[A-Z][A-Z_]*[A-Z]\b", text):
            if m.group() not in variables | PLACEHOLDERS:
                tree.bad(path, tree.line_of(text, m.start()), f"no option has the variable {m.group()}")


rows = table()
flags = {flag_of(s, k) for s, k in rows if (s, k) != ("model", "path")}
commands = ctl_commands()
check_help(flags)
check_sample()
check_manual(rows, flags)
check_readme()
check_ctl_manual(commands)
check_uses(flags, {variable_of(s, k) for s, k in rows}, commands)
tree.done()
