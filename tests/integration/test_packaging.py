"""Sonar as others get it: a wheel that holds all it needs, a source distribution that installs without a compiler."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHIPPED = ("sonar", "capsule", "mine", "pysonar", "pyproject.toml", "setup.py", "README.md", "LICENSE")
CHAIN_DATA = {f"sonar/chain/data/{name}.json" for name in ("Sonar", "CapsuleCommittee", "deployments")}


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy of what a clone holds, without anything that an earlier build left."""
    copy = tmp_path_factory.mktemp("source")
    junk = shutil.ignore_patterns("__pycache__", "*.so", "*.egg-info", "build")
    for name in SHIPPED:
        place = ROOT / name
        if place.is_dir():
            shutil.copytree(place, copy / name, ignore=junk)
        else:
            shutil.copy(place, copy / name)
    return copy


@pytest.fixture(scope="module")
def sdist(source, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("sdist")
    code = f"from setuptools.build_meta import build_sdist; build_sdist({str(out)!r})"
    _run([sys.executable, "-c", code], source)
    (archive,) = out.glob("sonar_marketplace-*.tar.gz")
    return archive


def test_a_source_distribution_holds_what_the_extension_is_built_from(sdist):
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "sonar/syft/engines/src").iterdir()}
    assert len(sources) > 3
    assert sources <= names
    assert {*CHAIN_DATA, "setup.py", "sonar/syft/engines/_native.pyi", "LICENSE"} <= names


def test_a_source_distribution_installs_without_a_compiler(sdist, tmp_path):
    target = tmp_path / "installed"
    no_compiler = {"CC": "no-such-compiler", "CXX": "no-such-compiler"}
    _install(sdist, target, no_compiler)
    assert not list(target.rglob("_native*.so"))
    engines = _engines(target)
    assert engines["gmpy2"] is None
    assert "extension module is not built" in engines["native"]


def test_a_wheel_installs_and_holds_data_types_and_where_possible_the_extension(source, tmp_path):
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(source)]
    _run(command, tmp_path)
    (wheel,) = tmp_path.glob("sonar_marketplace-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {*CHAIN_DATA, "sonar/py.typed", "mine/cli.py"} <= names
    assert not any(name.startswith(("tests/", "scripts/", "sonar/syft/engines/src/")) for name in names)
    built = any(name.startswith("sonar/syft/engines/_native") and name.endswith(".so") for name in names)
    assert built == any((ROOT / "sonar/syft/engines").glob("_native*.so"))
    _install(wheel, tmp_path / "installed", {})
    reason = _engines(tmp_path / "installed")["native"]
    assert reason is None or built == ("not built" not in reason)
    code = f"from capsule.state import State; State({f'sqlite:///{tmp_path}/capsule.db'!r}).set(made=b'anew')"
    _run([sys.executable, "-P", "-c", code], tmp_path, {"PYTHONPATH": str(tmp_path / "installed")})


def _install(package: Path, target: Path, environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(package)]
    _run(command, package.parent, environment)


def _engines(installed: Path) -> dict[str, str | None]:
    """Why each engine cannot be used, as an installation says that is not this one."""
    code = (
        "import json, sonar.syft.engines as e\n"
        f"assert e.__file__.startswith({str(installed)!r}), e.__file__\n"
        "print(json.dumps({name: e.why_unusable(name) for name in e.ENGINES}))"
    )
    found = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=installed, env={**os.environ, "PYTHONPATH": str(installed)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    answer: dict[str, str | None] = json.loads(found.stdout)
    return answer


def _run(command: list[str], place: Path, environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, cwd=place, env={**os.environ, **(environment or {})}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
