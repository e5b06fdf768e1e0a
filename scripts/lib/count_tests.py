"""Adds up ctest's JUnit reports: prints the failed tests and the closing count."""
import sys
import xml.etree.ElementTree as xml


def main():
    failed = int(sys.argv[1])
    passed = skipped = 0
    names = []
    for path in sys.argv[2:]:
        try:
            suite = xml.parse(path).getroot()
        except (FileNotFoundError, xml.ParseError):
            continue
        preset = path.rsplit("/", 1)[-1].removesuffix(".xml")
        for case in suite.iter("testcase"):
            status = case.get("status")
            if status == "run":
                passed += 1
            elif status in ("notrun", "disabled"):
                skipped += 1
            else:
                failed += 1
                names.append(f"{preset}: {case.get('name')}")
    for name in names:
        print(f"failed: {name}")
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 0 if failed == 0 and passed > 0 else 1


sys.exit(main())
