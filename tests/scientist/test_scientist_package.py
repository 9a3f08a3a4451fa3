"""The public face of the library."""

import subprocess
import sys

import pysonar


def test_the_public_names_are_these_and_all_resolve() -> None:
    assert sorted(pysonar.__all__) == [
        "Campaign", "CampaignError", "Estimate", "Head", "KernelClassifier", "LinearClassifier", "LinearRegressor",
        "Network", "PolynomialClassifier", "RidgeClassifier", "Sonar", "TrainedClassifier", "TrainedRegressor",
        "connect", "estimate", "ether", "format_ether",
    ]  # fmt: skip
    assert all(getattr(pysonar, name) is not None for name in pysonar.__all__)
    assert dir(pysonar) == sorted(pysonar.__all__)


def _modules_after(statement: str) -> set[str]:
    script = f"import sys; {statement}; print(*sys.modules)"
    return set(
        subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.split()
    )


def test_the_async_variants_need_no_import_of_their_own() -> None:
    told = "import pysonar; print(pysonar.aio.connect.__name__)"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("connect", "")


def test_importing_pysonar_loads_neither_torch_nor_web3() -> None:
    assert not {"torch", "web3", "numpy", "eth_account", "capsule"} & _modules_after("import pysonar")


def test_a_session_never_loads_the_secret_half() -> None:
    loaded = _modules_after("import pysonar.session, pysonar.results")
    assert not {name for name in loaded if name.startswith(("capsule.secret", "mine"))}
    assert not {"capsule.service", "capsule.judge", "fastapi", "sqlalchemy"} & loaded
