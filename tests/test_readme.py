"""What the README shows works as shown."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_the_library_snippet_runs(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    (snippet,) = re.findall(
        r"```python\n(import itertools.*?)```", (ROOT / "README.md").read_text(), re.DOTALL
    )
    exec(compile(snippet.replace(", 200)", ", 20)"), "README.md", "exec"), {})
    loss, *shape = (
        capsys.readouterr().out.replace("(", "").replace(")", "").replace(",", "").split()
    )
    assert float(loss) < 200 and [int(n) for n in shape] == [16, 8, 8, 1]


def test_every_linked_file_exists():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", (ROOT / "README.md").read_text()):
        assert (ROOT / target).exists(), target
