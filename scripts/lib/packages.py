"""The package index of a Debian machine as three CSV files: packages, depends, provides."""
import csv
import pathlib
import subprocess

STATUS = pathlib.Path("/var/lib/dpkg/status")


def read_index():
    """The text of `apt-cache dumpavail`, or of dpkg's status file where apt has no lists."""
    try:
        text = subprocess.run(["apt-cache", "dumpavail"], capture_output=True, check=True,
                              timeout=120).stdout.decode("utf-8", "replace")
    except (OSError, subprocess.SubprocessError):
        text = ""
    if text.count("\nPackage: ") > 100:
        return text, "apt-cache dumpavail"
    return STATUS.read_text(encoding="utf-8", errors="replace"), str(STATUS)


def stanzas(text):
    """Each paragraph as a dictionary of its fields; continuation lines are joined."""
    for paragraph in text.split("\n\n"):
        fields = {}
        name = None
        for line in paragraph.split("\n"):
            if line[:1] in (" ", "\t"):
                if name is not None:
                    fields[name] += " " + line.strip()
                continue
            name, colon, value = line.partition(":")
            if colon:
                fields[name] = value.strip()
        if "Package" in fields:
            yield fields


def bare(name):
    """A dependency without its version restriction and architecture qualifier."""
    return name.split("(")[0].split("[")[0].strip().split(":")[0]


def write_csv(path, header, rows):
    with open(path, "w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def make_files(directory):
    """Writes packages.csv, depends.csv and provides.csv; returns (origin, row counts)."""
    text, origin = read_index()
    packages, depends, provides = [], [], []
    for fields in stanzas(text):
        package = fields["Package"]
        packages.append((package, fields.get("Version", ""), fields.get("Maintainer", ""),
                         fields.get("Installed-Size", "0"), fields.get("Section", "")))
        wanted = ", ".join(fields[f] for f in ("Pre-Depends", "Depends") if f in fields)
        for item, group in enumerate(g for g in wanted.split(",") if g.strip()):
            for alternative in group.split("|"):
                depends.append((package, fields.get("Version", ""), item, bare(alternative)))
        for provided in fields.get("Provides", "").split(","):
            if provided.strip():
                provides.append((package, bare(provided)))
    write_csv(directory / "packages.csv",
              ("package", "version", "maintainer", "installed_size", "section"), packages)
    write_csv(directory / "depends.csv", ("package", "version", "item", "name"), depends)
    write_csv(directory / "provides.csv", ("package", "name"), provides)
    return origin, {"packages": len(packages), "depends": len(depends), "provides": len(provides)}
