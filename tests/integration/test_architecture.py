"""Who may import whom, and what nobody may: the house's walls, read from the source and from a running interpreter."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("sonar", "capsule", "mine", "pysonar")
BASE = ("sonar.units", "sonar.errors", "sonar.canonical", "sonar.config", "sonar.wording")
# What a part of the house may import of the house, besides itself and the base.
ALLOWED = {
    "sonar.syft": (),
    "sonar.storage": (),
    "sonar.chain": (),
    "sonar.network": ("sonar.syft",),
    "sonar.protocol": ("sonar.chain.records", "sonar.network", "sonar.syft"),
    "sonar": ("sonar",),
    "capsule": ("sonar",),
    "mine": ("sonar", "capsule.client", "capsule.reasons"),
    "pysonar": ("sonar", "capsule.client", "capsule.reasons"),
}


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever the statement stands."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            for name in node.names:
                inner = ROOT.joinpath(*node.module.split("."), name.name)
                is_module = inner.with_suffix(".py").exists() or (inner / "__init__.py").exists()
                yield f"{node.module}.{name.name}" if is_module else node.module


def modules() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def inside(module: str, places: tuple[str, ...]) -> bool:
    return any(module == place or module.startswith(place + ".") for place in places)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_what_its_part_of_the_house_may(path):
    own = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    part = next(part for part in ALLOWED if inside(own, (part,)))
    for module in imports(path):
        if inside(module, PACKAGES):
            assert inside(module, (part, *BASE, *ALLOWED[part])), f"{own} imports {module}"
        if inside(module, ("capsule.secret",)):
            assert inside(own, ("capsule",)), f"{own} imports the secret half"
        assert not inside(module, ("pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib")), f"{own}: {module}"


def test_processes_apart_are_started_by_capsule_and_mine_alone():
    for path in modules():
        own = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        if any(inside(module, ("sonar.sandbox",)) for module in imports(path)):
            assert inside(own, ("sonar.sandbox", "capsule", "mine")), own


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_unpickles_in_disguise(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            name = ast.unparse(node.func)
            assert name not in {"torch.load", "np.load", "numpy.load"}, f"{path}:{node.lineno} calls {name}"
            assert not any(keyword.arg == "allow_pickle" for keyword in node.keywords), f"{path}:{node.lineno}"


def loaded_by(statement: str) -> set[str]:
    """The modules that an interpreter has loaded after a statement."""
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("statement", ["import mine.cli, mine.daemon, mine.trainer", "import pysonar, pysonar.session",
                                       "import capsule.client", "import sonar.syft"])  # fmt: skip
def test_the_secret_half_is_never_loaded_beside_mine_or_pysonar(statement):
    loaded = loaded_by(statement)
    assert not any(inside(module, ("capsule.secret",)) for module in loaded)
    assert not any(inside(module, ("capsule.service", "capsule.judge", "fastapi")) for module in loaded)


@pytest.mark.parametrize("command", ["sonar", "capsule", "mine", "pysonar"])
def test_a_commands_help_loads_nothing_heavy(command):
    heavy = {"torch", "web3", "eth_account", "sklearn", "fastapi", "numpy", "pydantic", "duckdb", "httpx", "sqlalchemy"}
    assert not heavy & loaded_by(f"import {command}.cli")


def test_the_encrypted_arithmetic_knows_no_chain_ipfs_or_http():
    strangers = ("web3", "eth_account", "httpx", "requests", "ipfshttpclient", "fastapi", "nacl")
    assert not any(inside(module, strangers) for module in loaded_by("import sonar.syft"))
