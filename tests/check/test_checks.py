"""Every check can fail: each case plants one violation in a copy of the tree and looks for the line
that names it, which must not have been there before."""
import json
import os
import shutil
import subprocess

import pytest

import tree

BUILT = ("perceiverd", "perceiverctl", "libperceiver.a", "libperceiver.so", "version.h")


def add(text):
    return lambda old: old + text


def replace(old, new):
    def edit(text):
        assert old in text, f"nothing to replace: {old!r} is not there"
        return text.replace(old, new, 1)
    return edit


def write(text):
    return lambda old: text


# check, file, edit, what the check must then say. With "+" the file is also compiled again.
CASES = [
    ("layers", "lib/base/mem.c", add('#include "lib/kernel/gemm.h"\n'),
     "lib/base must not know lib/kernel/gemm.h"),
    ("layers", "lib/kernel/gemm.c", add('#include "lib/attention/layer.h"\n'),
     "lib/kernel must not know lib/attention/layer.h"),
    ("layers", "lib/attention/self.c", add('#include "lib/input/text.h"\n'),
     "lib/attention must not know lib/input/text.h"),
    ("layers", "lib/input/text.c", add('#include "lib/load/config.h"\n'),
     "lib/input must not know lib/load/config.h"),
    ("layers", "lib/load/config.c", add('#include "lib/input/text.h"\n'),
     "lib/load must not know lib/input/text.h"),
    ("layers", "lib/output/top_k.c", add('#include "lib/load/config.h"\n'),
     "lib/output must not know lib/load/config.h"),
    ("layers", "lib/layout/hf.c", add('#include "lib/model/plan.h"\n'),
     "lib/layout must not know lib/model/plan.h"),
    ("layers", "lib/model/plan.c", add('#include "proto/wire.h"\n'),
     "lib/model must not know proto/wire.h"),
    ("layers", "lib/perceiver.h", add('#include "lib/base/mem.h"\n'), "lib must not know lib/base/mem.h"),
    ("layers", "lib/base/tensor.h", add('#include "lib/perceiver.h"\n'),
     "lib/base must not know lib/perceiver.h"),
    ("layers", "proto/wire.c", add('#include "lib/perceiver.h"\n'), "proto must not know lib/perceiver.h"),
    ("layers", "proto/wire.c", add('#include "server/http.h"\n'), "proto must not know server/http.h"),
    ("layers", "server/log.c", add('#include "lib/base/mem.h"\n'), "server must not know lib/base/mem.h"),
    ("layers", "server/log.c", add('#include "log.h"\n'), '"log.h" is no path from the top of the tree'),
    ("layers", "server/log.c", add("#include <lib/perceiver.h>\n"), "are written in quotes"),
    ("layers", "server/log.c", add('#include "server/heap.c"\n'), "includes server/heap.c"),
    ("layers", "server/log.c", add('#include "server/http_internal.h"\n'), "belongs to server/http*.c"),
    ("layers", "server/log.c", add('#include "version.h"\n'), "is for lib/base/version.c alone"),
    ("layers", "server/heap.h", add('#include "server/batcher.h"\n'), "headers include each other: "),
    ("layers", "lib/extra/thing.c", write("\n"), "no place among the layers of lib"),

    ("places", "lib/load/config.c", add("#include <cblas.h>\n"), "<cblas.h> belongs in lib/kernel/gemm.c"),
    ("places", "lib/model/plan.c", add("#include <jansson.h>\n"), "<jansson.h> belongs in proto/*"),
    ("places", "lib/kernel/gemm.c", add("#include <immintrin.h>\n"), "<immintrin.h> belongs in"),
    ("places", "lib/kernel/gemm.c", add("void f(void) { _mm_sfence(); }\n"), "_mm_sfence(: intrinsics"),
    ("places", "lib/input/text.c", add("#include <spng.h>\n"), "<spng.h> belongs in lib/input/media_*.c"),
    ("places", "lib/base/mem.c", add("int f(void) { return openblas_get_num_threads(); }\n"),
     "openblas_get_num_threads(: cblas belong in lib/kernel/gemm.c"),
    ("places", "lib/base/mem.c", add('__attribute__((target("avx2"))) void f(void);\n'),
     "compiler flags in the source"),
    ("places", "proto/wire.c", add("#include <sys/socket.h>\n"), "<sys/socket.h> belongs in server/*"),
    ("places", "server/routes.c", add("#include <microhttpd.h>\n"), "<microhttpd.h> belongs in server/http.c"),
    ("places", "server/batcher.c", add("#include <uv.h>\n"), "<uv.h> belongs in"),
    ("places", "server/log.c", add("#include <systemd/sd-journal.h>\n"), "belongs in server/notify.c"),
    ("places", "server/log.c", add("#include <zlib.h>\n"), "<zlib.h> belongs in server/body.c"),
    ("places", "server/log.c", add("#include <ini.h>\n"), "<ini.h> belongs in server/config*.c"),
    ("places", "server/log.c", add("#include <curl/curl.h>\n"), "belongs in server/ctl_http.c"),
    ("places", "server/log.c", add("#include <glib.h>\n"), "<glib.h>: a library that has no place"),

    ("headers", "lib/planted.h", write("#ifndef A\n#define A\nsize_t f(void);\n#endif\n"),
     "lib/planted.h: does not compile alone: "),
    ("headers", "lib/planted.h", write("struct planted {\n    int a;\n};\n"),
     "lib/planted.h: does not compile alone: "),

    ("manners", "lib/base/mem.c", add("void f(void)\n{\n    exit(1);\n}\n"), "exit: this code never ends the process"),
    ("manners", "lib/base/mem.c", add('void f(void)\n{\n    puts("");\n}\n'), "puts: this code never prints"),
    ("manners", "proto/wire.c", add('void *f(void)\n{\n    return getenv("A");\n}\n'),
     "getenv: this code never reads the environment"),
    ("manners", "lib/base/mem.c", add("#include <stdio.h>\nvoid *f(void)\n{\n    return stderr;\n}\n"),
     "stderr: this code never prints"),
    ("manners", "server/heap.c", add('int f(void)\n{\n    return atoi("3");\n}\n'),
     "atoi: this code never takes what is no number for one"),
    # What shows in the object alone.
    ("manners+", "lib/base/mem.c", add("#include <assert.h>\n#define sure assert\n"
                                       "void pcv_planted(int a)\n{\n    sure(a);\n}\n"),
     "calls __assert_fail: this code never ends the process"),
    ("manners+", "lib/base/mem.c", add("int pcv_planted(void)\n{\n    static int n;\n    return ++n;\n}\n"),
     "is a mutable variable outside all objects (.bss"),
    ("manners+", "lib/base/mem.c", add("int pcv_planted = 3;\n"), "pcv_planted is a mutable variable"),
    ("manners+", "proto/wire.c", add("_Thread_local int wire_planted;\n"), "wire_planted is a mutable variable"),
    ("manners+", "proto/wire.c", add("int planted(void)\n{\n    return 3;\n}\n"), "begin with wire_"),
    ("manners+", "server/heap.c", add("int planted(void)\n{\n    return 3;\n}\n"), "begin with "),

    ("options", "server/options.def", add('OPT(server, planted, INT, "1", 1, 2, "", "Nothing.")\n'),
     "build/perceiverd --help: does not name --planted"),
    ("options", "server/options.def", replace("OPT(server, lanes,", "OPT(server, planted,"),
     "names --lanes, which is no option"),
    ("options", "etc/perceiverd.conf", replace("# threads = 0", "# threads = 1"),
     "differs from perceiverd --print-config"),
    ("options", "etc/perceiverd.conf", add("\n# more\n"), "differs from perceiverd --print-config"),
    ("options", "deploy/man/perceiverd.8", write(".TH perceiverd 8\n\\fB\\-\\-listen\\fR \\-\\-lissen\n"),
     "deploy/man/perceiverd.8: names --lissen, which is no option"),
    ("options", "deploy/man/perceiverd.8", write(".TH perceiverd 8\n\\fB\\-\\-listen\\fR\n"),
     "deploy/man/perceiverd.8: does not name --threads"),
    ("options", "deploy/man/perceiverctl.1", write(".TH perceiverctl 1\neval inspect\n"),
     "deploy/man/perceiverctl.1: does not name --stages"),
    ("options", "README.md", write("Nothing.\n"), "README.md: does not name --listen"),
    ("options", "lib/README.md", add("\n    perceiverd --planted 3\n"), "perceiverd has no option --planted"),
    ("options", "lib/README.md", add("\n    PERCEIVERD_PLANTED=1 perceiverd\n"),
     "no option has the variable PERCEIVERD_PLANTED"),
    ("options", "lib/README.md", add("\n    perceiverctl eval a b c --planted\n"),
     "perceiverctl eval has no option --planted"),

    ("metrics", "server/metrics.def", add('METRIC(planted, GAUGE, "", NONE, "Nothing.")\n'),
     "server/README.md: does not name perceiverd_planted"),
    ("metrics", "server/README.md", write("Nothing.\n"), "does not name perceiverd_requests_total"),
    ("metrics", "lib/README.md", add("\n`perceiverd_planted_total`\n"), "there is no metric perceiverd_planted_total"),

    ("openapi", "server/routes.c", replace('{"GET", "/v1/models", ', '{"GET", "/v1/planted", '),
     "GET /v1/planted is not in proto/openapi.yaml"),
    ("openapi", "server/routes.c", replace('{"GET", "/v1/models", ', '{"POST", "/v1/models", '),
     "GET /v1/models is no route"),
    ("openapi", "proto/openapi.yaml", replace("  /metrics:\n", "  /planted:\n"), "GET /planted is no route"),
    ("openapi", "proto/openapi.yaml", replace("operationId: home", "operationId: metrics"),
     "operationId metrics is "),
    ("openapi", "proto/openapi.yaml", replace("#/components/schemas/NativeError", "#/components/schemas/Planted"),
     "$ref #/components/schemas/Planted leads nowhere"),
    ("openapi", "proto/openapi.yaml", replace("      name: m\n", "      name: planted\n"),
     "path parameters ['planted'"),
    ("openapi", "Makefile", replace("VERSION := ", "VERSION := 9"), "the Makefile's VERSION is 9"),

    ("format", "server/heap.c", add("int  planted ( void ) ;\n"), "server/heap.c:"),

    ("tidy server/heap.c", "server/heap.c", add("int srv_planted(int a)\n{\n    int *p = 0;\n"
                                                "    return a ? *p : 0;\n}\n"), "core.NullDereference"),
    ("tidy server/heap.c", "server/heap.c", add("void srv_planted(void)\n{\n    calloc(1, 1);\n}\n"),
     "cert-err33-c"),
    ("tidy server/heap.c", "server/heap.c", add("float *srv_planted(float *p, int rows, int cols)\n{\n"
                                                "    return p + rows * cols;\n}\n"),
     "bugprone-implicit-widening-of-multiplication-result"),

    ("words", "lib/README.md", add("\n/wor" "k/main\n"), "a path of one machine"),
    ("words", "lib/README.md", add("\n../share" "d/x\n"), "a path outside the tree"),
    ("words", "lib/base/mem.c", add("/* TO" "DO: more */\n"), "a note to finish later"),
    ("words", "lib/base/mem.c", add("/* FIX" "ME */\n"), "a note to finish later"),
    ("words", "Makefile", add("# https://pyp" "i.org/simple\n"), "a package registry"),
    ("words", "lib/README.md", add("blank \n"), "the line ends in blanks"),
    ("words", "lib/README.md", add("no end"), "the last line has no end"),

    ("units", "deploy/systemd/perceiverd.service", add("[Service]\nPlanted=yes\n"), "Planted"),
    ("units", "deploy/systemd/perceiverd.socket", replace("ListenStream=", "ListenStream=nowhere:"),
     "perceiverd.socket"),

    ("scripts", "planted.py", write("def f(:\n"), "planted.py:1: does not compile"),
    ("scripts", "planted.py", write('x = "\\d"\n'), "planted.py:1: does not compile"),
    ("scripts", "planted.sh", write("#!/bin/sh\nif true\n"), "planted.sh: "),
    ("scripts", "planted.py", write("#!/usr/bin/python3\n"), "may not be executed: chmod +x"),

    ("readmes", "lib/base/planted/x.c", write("\n"), "lib/base/planted/: has no README.md"),
    ("readmes", "lib/README.md", add("\n`planted.c`\n"), "planted.c is not in the tree"),
    ("readmes", "lib/README.md", add("\n`lib/planted/`\n"), "lib/planted/ is not in the tree"),
    ("readmes", "lib/README.md", add("\n[here](planted.md)\n"), "the link to planted.md leads nowhere"),

    ("public_header", "build/include/perceiver.h", add("void pcv_planted(void);\n"),
     "declares pcv_planted, which libperceiver.so does not export"),
    ("public_header", "build/include/perceiver.h", replace("int pcv_top_k(", "int pcv_top_j("),
     "exports pcv_top_k, which perceiver.h does not declare"),
    ("public_header", "build/include/perceiver.h", replace("#include <stdatomic.h>\n", ""), "shared link: "),
    ("public_header", "build/include/perceiver.h", add('#include "lib/base/err.h"\n'), "header that is not installed"),

    ("sizes", "lib/base/planted.c", write("void f(void)\n{\n" + "    ;\n" * 90 + "}\n"), "f: 91 lines, more than 80"),
    ("sizes", "lib/base/planted.c", write("\n" * 700), "lib/base/planted.c: 700 lines, more than 600"),
    ("sizes", "planted.py", write("def f():\n" + "    pass\n" * 90), "f: 90 lines, more than 80"),
]


class Copy:
    """The tree in a folder of its own, with links to what was built."""

    def __init__(self, top):
        self.top = str(top)
        self.before = {}
        self.files = tree.files()
        for path in self.files:
            to = self.path(path)
            os.makedirs(os.path.dirname(to), exist_ok=True)
            shutil.copy2(os.path.join(tree.ROOT, path), to)
        built = os.path.join(tree.ROOT, os.environ.get("PERCEIVER_BUILD", "build"))
        os.makedirs(self.path("build/include"))
        shutil.copy2(os.path.join(built, "include/perceiver.h"), self.path("build/include"))
        for name in BUILT:
            os.symlink(os.path.join(built, name), self.path("build/" + name))
        for folder, _, names in os.walk(os.path.join(built, "obj")):
            to = self.path("build/" + os.path.relpath(folder, built))
            os.makedirs(to)
            for name in names:
                if name.endswith(".o"):
                    os.symlink(os.path.join(folder, name), os.path.join(to, name))
        made = self.run("make", "-s", "compile_commands.json")
        assert made.returncode == 0, made.stderr

    def path(self, name):
        return os.path.join(self.top, name)

    def run(self, *command):
        env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
        return subprocess.run(command, cwd=self.top, env={**env, "B": "build"}, capture_output=True,
                              text=True, errors="replace", check=False)

    def check(self, name, *arguments):
        r = self.run(self.path(f"tests/check/{name}.py"), *arguments)
        return r.returncode, r.stdout + r.stderr

    def untouched(self, name, *arguments):
        """What the check says about the tree as it is, asked once."""
        key = (name, *arguments)
        if key not in self.before:
            self.before[key] = self.check(*key)[1]
        return self.before[key]


@pytest.fixture(scope="module", name="copy")
def make_copy(tmp_path_factory):
    return Copy(tmp_path_factory.mktemp("tree"))


@pytest.mark.parametrize("check, path, edit, expected", CASES,
                         ids=[f"{c[0].split()[0]}-{n}" for n, c in enumerate(CASES)])
def test_planted_violation_is_found(copy, check, path, edit, expected):
    name, *arguments = check.replace("+", "").split()
    assert expected not in copy.untouched(name, *arguments), "was there before"
    full = copy.path(path)
    old, made = None, []
    if os.path.exists(full):
        with open(full, encoding="utf-8") as f:
            old = f.read()
    folder = os.path.dirname(full)
    while not os.path.isdir(folder):
        made.append(folder)
        folder = os.path.dirname(folder)
    os.makedirs(os.path.dirname(full), exist_ok=True)
    o = copy.path("build/obj/" + path[:-2] + ".o")
    was = os.readlink(o) if check.endswith("+") else None
    try:
        with open(full, "w", encoding="utf-8") as f:
            f.write(edit(old or ""))
        if was:
            os.unlink(o)
            commands = json.load(open(copy.path("compile_commands.json"), encoding="utf-8"))
            command = next(c["arguments"] for c in commands if c["file"] == path)
            compiled = copy.run(*command, "-o", o)
            assert compiled.returncode == 0, compiled.stderr
        code, said = copy.check(name, *arguments)
    finally:
        if old is None:
            os.unlink(full)
        else:
            with open(full, "w", encoding="utf-8") as f:
                f.write(old)
        for folder in made:
            os.rmdir(folder)
        if was:
            if os.path.exists(o):
                os.unlink(o)
            os.symlink(was, o)
    assert expected in said
    assert code == (0 if name == "sizes" else 1)


def test_every_check_has_a_case(copy):
    listed = copy.run(copy.path("tests/check/run"), "nothing").stderr.split("there are ")[1].split()
    assert set(listed) == {c[0].split()[0].replace("+", "") for c in CASES}
    scripts = {n[:-3] for n in os.listdir(copy.path("tests/check")) if n.endswith(".py")}
    assert set(listed) == scripts - {"tree", "compile_commands", "test_checks"}


def test_run_reports_and_fails(copy):
    good = copy.run(copy.path("tests/check/run"), "layers", "places")
    assert good.returncode == 0
    assert good.stdout.splitlines()[-1] == "2 passed, 0 failed"
    with open(copy.path("planted.md"), "w", encoding="utf-8") as f:
        f.write("blank \n")
    try:
        bad = copy.run(copy.path("tests/check/run"), "layers", "words")
    finally:
        os.unlink(copy.path("planted.md"))
    lines = bad.stdout.splitlines()
    assert bad.returncode == 1
    assert lines[0] == "ok layers"
    assert lines[1] == "FAIL words: 1 found"
    assert lines[-1] == "1 passed, 1 failed"


def test_compile_commands_know_instruction_sets(copy):
    with open(copy.path("compile_commands.json"), encoding="utf-8") as f:
        entries = {e["file"]: e["arguments"] for e in json.load(f)}
    assert set(entries) == {f for f in copy.files if f.endswith(".c")}
    assert {f for f, a in entries.items() if "-mavx2" in a} == {
        f for f in entries if "lib/kernel/" in f and f.endswith("_avx2.c")}
