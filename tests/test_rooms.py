"""Who may import whom (the rooms of the house), and how large its parts may be."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "jaxgen"
BASE = {"errors", "ranges", "files", "plain", "draws", "calls", "conditions", "programs"}
ROOMS = {  # room -> the rooms that it may import, apart from itself
    "errors": set(),
    "plain": set(),
    "console": set(),
    "ranges": {"errors"},
    "files": {"errors"},
    "draws": {"errors"},
    "programs": {"errors"},
    "troubles": {"errors"},
    "distributed": {"errors"},
    "calls": {"draws"},
    "spaces": {"errors", "draws", "ranges"},
    "conditions": {"errors", "calls", "draws", "ranges"},
    "fields": {"errors", "ranges"},
    "config": BASE | {"fields"},
    "networks": BASE,
    "losses": BASE | {"networks"},  # its operations alone: see below
    "diffusion": BASE,
    "data": BASE | {"spaces"},
    "families": BASE | {"networks", "losses", "diffusion"},
    "sampling": BASE | {"families", "spaces"},
    "artefact": BASE | {"families", "sampling", "spaces"},
    "training": BASE
    | {"config", "console", "data", "distributed", "families", "losses", "sampling", "spaces"}
    | {"troubles"},
    "runs": BASE | {"artefact", "training"},
    "evaluation": BASE | {"artefact", "config", "data", "families", "sampling", "spaces"},
    "report": {"errors", "files", "plain"},
    "arguments": BASE | {"config"},
    "compare": None,  # None: all
    "commands": None,
    "cli": None,
    "__main__": None,
    "__init__": set(),
}
# who asks on what kind of processor the program runs; networks and losses ask `networks.ops`
ASK_FOR_THE_BACKEND = {
    "evaluation/features/inception.py",
    "networks/ops.py",
    "programs.py",
    "training/checkpoint.py",
    "training/dispatch.py",
}
WIDEST, LONGEST_FILE, LONGEST_FUNCTION = 100, 350, 60
TABLES = {"fields.default"}  # functions that are a table


def modules():
    return sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """The rooms that a module imports, inside its functions too."""
    found = set()
    for node in ast.walk(ast.parse((PACKAGE / path).read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "jaxgen":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("jaxgen."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("jaxgen.")}
    return found


@pytest.mark.parametrize("path", modules(), ids=str)
def test_a_room_imports_its_foundations_and_nothing_above(path):
    room = room_of(path)
    assert room in ROOMS, f"{room} is a new room: say in ROOMS what it may import"
    allowed = ROOMS[room]
    if allowed is not None:
        assert imports(path) - {room, "__version__"} <= allowed


def test_the_losses_know_of_the_networks_their_operations_alone():
    for path in (PACKAGE / "losses").glob("*.py"):
        for match in re.findall(r"from jaxgen\.networks\S* import .*", path.read_text()):
            assert match.startswith("from jaxgen.networks.ops import")


def test_few_places_ask_for_the_backend():
    asking = {str(path) for path in modules() if "default_backend" in (PACKAGE / path).read_text()}
    assert asking == ASK_FOR_THE_BACKEND


def test_no_two_rooms_import_each_other():
    found = {room: set() for room in ROOMS}
    for path in modules():
        found[room_of(path)] |= imports(path) - {room_of(path)}
    assert not [(a, b) for a in found for b in found[a] & set(ROOMS) if a < b and a in found[b]]


@pytest.mark.parametrize("path", modules(), ids=str)
def test_files_and_functions_fit_in_a_readers_head(path):
    text = (PACKAGE / path).read_text()
    lines = text.splitlines()
    assert len(lines) <= LONGEST_FILE
    assert max(map(len, lines), default=0) <= WIDEST
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            name = f"{path.with_suffix('').as_posix().replace('/', '.')}.{node.name}"
            if name not in TABLES:
                assert node.end_lineno - node.lineno + 1 <= LONGEST_FUNCTION, name


def test_every_module_is_found_in_the_map_of_tests():
    """CONTRIBUTING tells which tests belong to a module; each room has its line."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for room in ROOMS:
        assert room == "__init__" or f"`{room}`" in text, f"CONTRIBUTING.md says nothing of {room}"
