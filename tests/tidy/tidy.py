"""The rules of docs/style.md that a program can check. Prints each breach; exit status 1 if any.

usage: tidy.py ROOT [--stats]
"""
import pathlib
import re
import subprocess
import sys

LINE_MAX = 100
FUNCTION_MAX = 70
FILE_MAX = 1500
FUNCTION_P50_MAX = 15
FUNCTION_P90_MAX = 50
# Of the whole tree without tests; lines that have a comment, alone or behind code.
ASSERTS_PER_KLOC_MIN = 40
COMMENTS_PER_LINE_MIN = 0.20
CODE_DIRS = ("core", "ring", "ctrl", "orchestrator", "bench", "tests")
TOP_LEVEL = {
    "CMakeLists.txt", "CMakePresets.json", "LICENSE", "README.md", "cmake", "core", "ring", "ctrl",
    "orchestrator", "bench", "tests", "scripts", "docs", ".ci", ".gitignore", ".clang-format",
}
# Calls to the operating system belong to core/io; these names are its signature elsewhere.
OS_CALLS = re.compile(
    r"(?<![\w.>])(socket|accept4?|connect|bind|listen|recvmsg|sendmsg|recv|send|open|openat|fsync|"
    r"fdatasync|fork|execve?|execvp|waitpid|kill|usleep|nanosleep|sleep|clock_gettime|gettimeofday|"
    r"time|rand|random|getrandom|pthread_create|epoll_wait|poll|select|rename|unlink|mkdir)\(")
OS_FREE = ("core/io/", "core/base/", "tests/", "bench/")
BANNED_WORDS = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|not (yet )?implemented", re.IGNORECASE)
BANNED_CALLS = re.compile(r"(?<![\w.>])(strcpy|strcat|sprintf|gets|strtok|atoi|alloca)\(")
IMPLICIT_ATOMIC = re.compile(
    r"\batomic_(load|store|exchange|fetch_\w+|compare_exchange_\w+)\((?!_)")


class Tidy:
    def __init__(self, root):
        self.root = root
        self.breaches = []
        self.lines = self.comments = self.asserts = 0
        self.functions = []  # lengths
        self.layers = self.read_layers()

    def breach(self, path, line, text):
        self.breaches.append(f"{path}:{line}: {text}")

    def files(self):
        out = subprocess.run(["git", "ls-files", "-z"], cwd=self.root, check=True,
                             capture_output=True).stdout.decode()
        return [name for name in out.split("\0") if name and (self.root / name).exists()]

    def read_layers(self):
        """The block ```layers in docs/architecture.md: folder: folders it may include."""
        text = (self.root / "docs/architecture.md").read_text()
        block = re.search(r"```layers\n(.*?)```", text, re.S)
        layers = {}
        for line in block.group(1).splitlines() if block else []:
            folder, _, allowed = line.partition(":")
            layers[folder.strip()] = set(allowed.split())
        return layers

    def run(self):
        files = self.files()
        for name in files:
            top = name.split("/")[0]
            if top not in TOP_LEVEL:
                self.breach(name, 1, "not a folder of the fixed top level")
            path = self.root / name
            if name.endswith((".c", ".h")):
                self.check_source(name, path.read_text())
            elif name.endswith((".py", ".cmake", ".txt", ".md", ".proto")) or top == "scripts":
                self.check_text(name, path.read_text(errors="replace"))
        self.check_readmes(files)
        self.check_totals()

    def check_text(self, name, text):
        if "/corpus/" in name:
            return
        for number, line in enumerate(text.split("\n"), 1):
            if line != line.rstrip():
                self.breach(name, number, "trailing space")
            if "\t" in line and not name.endswith(".md"):
                self.breach(name, number, "tab")

    def check_source(self, name, text):
        lines = text.split("\n")
        if len(lines) > FILE_MAX:
            self.breach(name, 1, f"{len(lines)} lines: at most {FILE_MAX}")
        if not text.startswith("/*"):
            self.breach(name, 1, "a file starts with a comment that says what it is for")
        if not text.endswith("\n") or text.endswith("\n\n"):
            self.breach(name, len(lines), "a file ends with one newline")
        self.check_lines(name, lines)
        self.check_comments(name, text)
        self.check_functions(name, lines)
        self.check_includes(name, text)
        if name.endswith(".h"):
            guard = "TAILRACE_" + re.sub(r"[^A-Z0-9]", "_", name.upper())
            if f"#ifndef {guard}\n#define {guard}\n" not in text:
                self.breach(name, 1, f"include guard {guard}")

    def check_lines(self, name, lines):
        test = name.startswith(("tests/", "bench/"))
        own = set(re.findall(r"^static [\w *]*?\b(\w+)\(", "\n".join(lines), re.M))
        for number, line in enumerate(lines, 1):
            if len(line) > LINE_MAX:
                self.breach(name, number, f"{len(line)} columns: at most {LINE_MAX}")
            if line != line.rstrip():
                self.breach(name, number, "trailing space")
            if "\t" in line:
                self.breach(name, number, "tab")
            if BANNED_WORDS.search(line) and name != "tests/tidy/tidy.py":
                self.breach(name, number, "left for later: do it or write an issue")
            code = re.sub(r'"(\\.|[^"\\])*"', '""', line)
            code = re.sub(r"/\*.*?\*/|//.*", "", code)
            if BANNED_CALLS.search(code):
                self.breach(name, number, "banned call: " + BANNED_CALLS.search(code).group(1))
            if IMPLICIT_ATOMIC.search(code) and "_explicit" not in code:
                self.breach(name, number, "atomic access without an explicit memory order")
            stripped = line.strip()
            if stripped.startswith(("*", "/*", "//")):
                continue
            call = OS_CALLS.search(code)
            if call and not name.startswith(OS_FREE) and "->" not in code and \
                    call.group(1) not in own:
                self.breach(name, number,
                            "operating system call outside core/io: " +
                            call.group(1))
            if not test and stripped:
                self.lines += 1
                self.asserts += len(re.findall(r"\b(?:STATIC_)?ASSERT\(|UNREACHABLE\(", line))
        if not test:
            self.comments += sum(1 for line in lines
                                 if line.strip().startswith(("*", "/*", "//")) or "/* " in line)

    def check_comments(self, name, text):
        """A comment that says a sentence twice was not read by whoever wrote it."""
        for match in re.finditer(r"/\*.*?\*/", text, re.S):
            body = re.sub(r"^\s*\*(?!/)|/\*|\*/", "", match.group(0), flags=re.M)
            sentences = [s for s in re.split(r"(?<=[.!?:])\s+", " ".join(body.split()))
                         if len(s) > 25]
            if len(set(sentences)) < len(sentences):
                self.breach(name, text.count("\n", 0, match.start()) + 1,
                            "a comment says a sentence twice")

    def check_functions(self, name, lines):
        start = None
        for number, line in enumerate(lines, 1):
            if line == "{":
                start = number
            elif line == "}" and start is not None:
                self.functions.append(number - start - 1)
                if number - start - 1 > FUNCTION_MAX:
                    self.breach(name, start,
                                f"function of {number - start - 1} lines: at most {FUNCTION_MAX}")
                start = None

    def check_includes(self, name, text):
        folder = self.folder_of(name)
        includes = re.findall(r'^#include "([^"]+)"', text, re.M)
        for include in includes:
            if include.startswith(("proto/", "generated/")):
                continue
            target = self.folder_of(include)
            if include.endswith("_internal.h") and target != folder and \
                    not name.startswith("tests/"):
                self.breach(name, 1, f"includes another module's internal header {include}")
            if not (self.root / include).exists():
                self.breach(name, 1, f"include paths start at the root: {include}")
            elif folder in self.layers and target != folder and \
                    target not in self.layers[folder]:
                self.breach(name, 1, f"{folder} may not include {include} (docs/architecture.md)")

    def folder_of(self, name):
        """The module a file belongs to: its deepest folder named in the layers."""
        folder = str(pathlib.PurePosixPath(name).parent)
        while folder not in self.layers and "/" in folder:
            folder = folder.rsplit("/", 1)[0]
        return folder

    def check_readmes(self, files):
        for folder in self.layers:
            if f"{folder}/README.md" not in files:
                self.breach(folder, 1, "a module has a README.md")

    def check_totals(self):
        per_kloc = 1000 * self.asserts / max(self.lines, 1)
        if per_kloc < ASSERTS_PER_KLOC_MIN:
            self.breach("tree", 1, f"{per_kloc:.0f} assertions per 1,000 lines: "
                        f"at least {ASSERTS_PER_KLOC_MIN}")

        per_line = self.comments / max(self.lines, 1)
        if per_line < COMMENTS_PER_LINE_MIN:
            self.breach("tree", 1, f"{per_line:.2f} lines with a comment per code line: "
                        f"at least {COMMENTS_PER_LINE_MIN}")
        for share, most in ((50, FUNCTION_P50_MAX), (90, FUNCTION_P90_MAX)):
            length = self.function_length(share)
            if length > most:
                self.breach("tree", 1, f"{share} % of the functions have up to {length} lines: "
                            f"at most {most}")

    def function_length(self, percent):
        """That many percent of the functions are at most so long."""
        lengths = sorted(self.functions) or [0]
        return lengths[min(len(lengths) * percent // 100, len(lengths) - 1)]

    def report(self, stats):
        for breach in self.breaches:
            print(breach)
        if stats or self.breaches:
            print(f"{len(self.breaches)} breaches; {self.lines} code lines, "
                  f"{self.comments / max(self.lines, 1):.2f} comment lines per code line, "
                  f"{1000 * self.asserts / max(self.lines, 1):.0f} assertions per 1,000 lines, "
                  f"{len(self.functions)} functions of {self.function_length(50)} lines (median), "
                  f"{self.function_length(90)} (90 %)")
        return 1 if self.breaches else 0


def main():
    root = pathlib.Path(sys.argv[1])
    tidy = Tidy(root)
    tidy.run()
    return tidy.report("--stats" in sys.argv)


sys.exit(main())
