"""SECURITY.md names tests as proof: each of them must exist."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NAMED = re.compile(r"`(tests/[\w/]+\.(?:py|c))(?:::(\w+))?`")
DEFINED = {".py": r"^def %s\(", ".c": r"^static void %s\("}


def test_named_tests_exist():
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| **")]
    assert len(rows) >= 20 and all(NAMED.search(row) for row in rows), "a threat without a test"
    for path, name in NAMED.findall(text):
        assert (ROOT / path).exists(), path
        if name:
            content = (ROOT / path).read_text(encoding="utf-8")
            assert re.search(DEFINED[Path(path).suffix] % name, content, re.MULTILINE), (path, name)


def test_links_exist():
    for name in ("SECURITY.md", "docs/systemd.md"):
        document = ROOT / name
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), (name, target)
