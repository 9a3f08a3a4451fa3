"""The operator's settings: where they come from, which wins, and how a wrong one is told."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from capsule.config import FILE, Settings
from capsule.errors import CapsuleRefusedError
from capsule.policy import LEAST_JUDGE_MEMORY, MAX_ROUND_BYTES, Policy, check_round
from sonar.errors import ConfigError
from sonar.protocol.payloads import MAX_ROUND_SCORES
from sonar.protocol.spec import MAX_CLASSES, MAX_FEATURES, Encoding, Feature, Payout, Rounds, Spec
from sonar.syft import PublicKey

LARGEST_ROWS = MAX_FEATURES + 1


def load(home: Path, environment: dict[str, str] | None = None, **flags: Any) -> Settings:
    return Settings.load(home, environment or {}, flags)


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def put(text: str, mode: int = 0o600) -> Path:
        (tmp_path / FILE).write_text(text)
        (tmp_path / FILE).chmod(mode)
        return tmp_path

    return put


def test_without_a_file_everything_has_its_default(tmp_path: Path) -> None:
    assert load(tmp_path) == Settings()
    assert load(tmp_path).policy() == Policy()


def test_a_flag_wins_over_the_environment_and_that_over_the_file(write: Any) -> None:
    home = write("port = 1\npoll = 2\nhost = '0.0.0.0'\n")
    found = load(home, {"SONAR_CAPSULE_PORT": "3", "SONAR_CAPSULE_POLL": "4"}, port=5, host=None)
    assert (found.port, found.poll, found.host) == (5, 4.0, "0.0.0.0")


def test_variables_are_read_as_toml_and_text_as_it_stands(tmp_path: Path) -> None:
    environment = {
        "SONAR_CAPSULE_TRUSTED_PROXIES": '["10.0.0.0/8"]', "SONAR_CAPSULE_REQUIRE_FUNDS": "false",
        "SONAR_CAPSULE_LOG_FORMAT": "json", "SONAR_CAPSULE_RETENTION_DAYS": "0.5",
        "SONAR_CAPSULE_PASSPHRASE": "not a setting",
    }  # fmt: skip
    found = load(tmp_path, environment)
    assert found.trusted_proxies == ("10.0.0.0/8",)
    assert (found.require_funds, found.log_format, found.retention_days) == (False, "json", 0.5)
    assert found.policy().retention_seconds == 43_200


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("host = 'x'\n\nport = 70000\n", r"capsule\.toml:3: port is not valid: .*65535 \(got 70000\)"),
        ("prot = 1", r"capsule\.toml:1: prot: there is no such setting"),
        ("port = '1'", r"capsule\.toml:1: port is not valid: must be a whole number \(got '1'\)"),
        ("trusted_proxies = ['10.0.0.1', 'proxy']", r":1: trusted_proxies is not valid: entry 2 must be an addr"),
        ("trusted_proxies = ['10.0.0.1/8']", r"trusted_proxies is not valid: entry 1 .*host bits"),
        ("trusted_proxies = '10.0.0.1'", r"trusted_proxies is not valid: must be a list \(got '10"),
        ("require_funds = 'no'", r"require_funds is not valid: must be true or false"),
        ("port = ", r"capsule\.toml is not TOML: "),
        ("log_format = 'xml'", r"capsule\.toml:1: log_format is not valid: must be 'text' or 'json'"),
        ("poll = nan", r"capsule\.toml:1: poll is not valid"),
        ("[port]\na = 1", r"capsule\.toml:1: port is not valid"),
    ],
)
def test_a_wrong_setting_is_told_with_its_place(write: Any, text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        load(write(text))


def test_a_wrong_variable_or_flag_is_told_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"SONAR_CAPSULE_PORT is not valid: .*'tcp://10\.0\.0\.1:8700'"):
        load(tmp_path, {"SONAR_CAPSULE_PORT": "tcp://10.0.0.1:8700"})
    with pytest.raises(ConfigError, match=r"--metrics-port is not valid: .*got -1"):
        load(tmp_path, metrics_port=-1)
    with pytest.raises(ConfigError, match=r"--trusted-proxy is not valid: entry 1 must be an address or a network"):
        load(tmp_path, trusted_proxies=("10.0.0.300",))


def test_a_list_in_a_variable_may_be_written_with_commas(tmp_path: Path) -> None:
    found = load(tmp_path, {"SONAR_CAPSULE_TRUSTED_PROXIES": "127.0.0.1, 10.0.0.0/8"})
    assert found.trusted_proxies == ("127.0.0.1", "10.0.0.0/8")
    assert load(tmp_path, {"SONAR_CAPSULE_TRUSTED_PROXIES": "::1"}).trusted_proxies == ("::1",)


def test_a_variable_that_is_no_setting_is_told_with_the_one_that_was_meant() -> None:
    environment = {"SONAR_CAPSULE_PROT": "8700", "SONAR_CAPSULE_SERVICE_HOST": "10.0.0.1"}
    known = {f"SONAR_CAPSULE_{name}": "1" for name in ("PORT", "HOME", "PASSPHRASE", "BACKUP_PASSPHRASE")}
    mistyped, stranger = Settings.unknown({**environment, **known, "SONAR_HOME": "/"})
    assert mistyped.startswith("SONAR_CAPSULE_PROT is ignored, because there is no such setting")
    assert mistyped.endswith("did you mean SONAR_CAPSULE_PORT?")
    assert stranger.startswith("SONAR_CAPSULE_SERVICE_HOST is ignored")


@pytest.mark.parametrize("metrics_host", ["127.0.0.1", "0.0.0.0"])
def test_metrics_on_the_port_of_the_api_are_refused(tmp_path: Path, metrics_host: str) -> None:
    with pytest.raises(ConfigError, match="port and metrics_port are both 8700: choose another metrics_port"):
        load(tmp_path, metrics_port=8700, metrics_host=metrics_host)
    assert load(tmp_path, port=0, metrics_port=0).port == 0
    assert load(tmp_path, metrics_port=8700, metrics_host="127.0.0.2").metrics_port == 8700


URL = "postgresql+psycopg://capsule:hunter2@db.internal/sonar?password=hunter2&sslmode=verify-full"


def test_a_databases_password_is_never_shown(write: Any) -> None:
    found = load(write(f'database = "{URL}"'))
    assert found.shown()["database"] == "postgresql+psycopg://capsule:***@db.internal/sonar"
    for text in (f'database = "{URL}"\nport = "x"', 'database = "mysql://u:hunter2@h/d"', 'database = "hunter2:"'):
        with pytest.raises(ConfigError) as caught:
            load(write(text))
        assert "hunter2" not in f"{caught.value}{caught.value.__cause__}"


def test_a_file_with_a_password_that_others_can_read_is_refused(write: Any) -> None:
    with pytest.raises(ConfigError, match="chmod 600"):
        load(write(f'database = "{URL}"', mode=0o644))
    assert load(write('database = "postgresql://capsule@db/sonar"', mode=0o644)).database


def test_a_password_on_the_command_line_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="SONAR_CAPSULE_DATABASE"):
        load(tmp_path, database=URL)


def test_the_template_has_every_setting_at_its_default(write: Any) -> None:
    lines = [line.removeprefix("# ") for line in Settings.template().splitlines()]
    settings = [line for line in lines if line.partition(" =")[0] in Settings.model_fields]
    assert len(settings) == len(Settings.model_fields)
    given = "\n".join(line for line in settings if not line.endswith("="))
    assert load(write(given)) == Settings()


def test_every_setting_reaches_the_policy_or_the_process() -> None:
    process = {
        "database", "host", "port", "metrics_host", "metrics_port", "trusted_proxies", "log_format", "poll",
        "requests_per_minute", "signed_per_minute", "concurrency",
    }  # fmt: skip
    changed = {
        "require_funds": False, "confirmations": 7, "fetch_seconds": 1.5, "replace_seconds": 2.5, "judge_seconds": 3.5,
        "retention_days": 4.5, "abandoned_days": 5.5, "admission_seconds": 77, "judge_memory_mib": 3600,
    }  # fmt: skip
    for name in Settings.model_fields.keys() - process:
        assert Settings(**{name: changed.get(name, 9)}).policy() != Policy(), name


def test_judge_processes_have_memory_for_every_round_that_is_admitted(write: Any) -> None:
    with pytest.raises(ConfigError, match=r"judge_memory_mib.*3584"):
        load(write("judge_memory_mib = 3583\n"))
    assert load(write("judge_memory_mib = 3584\n")).policy().judge_memory == LEAST_JUDGE_MEMORY
    scores = 32 * (MAX_ROUND_SCORES + MAX_ROUND_SCORES // MAX_CLASSES // 64 * LARGEST_ROWS)
    assert (256 << 20) + 64 * 64 * LARGEST_ROWS * MAX_CLASSES + scores <= LEAST_JUDGE_MEMORY
    assert (256 << 20) + 4.2 * MAX_ROUND_BYTES <= LEAST_JUDGE_MEMORY


def test_a_round_that_no_judge_process_could_take_is_refused() -> None:
    key = PublicKey((1 << 511) + 111, allow_insecure_small_key=True)
    wide = Encoding(slot_width=128)
    for size, encoding, fits in ((64, wide, False), (32, wide, True), (64, Encoding.for_rows(LARGEST_ROWS), True)):
        spec = Spec.build(
            name="large",
            features=tuple(Feature(name=f"x{i}") for i in range(LARGEST_ROWS - 1)),
            classes=tuple(f"c{i}" for i in range(MAX_CLASSES)),
            rounds=Rounds(round_size=size),
            encoding=encoding,
            payout=Payout(target=990_000),
        )
        if fits:
            check_round(spec, key)
        else:
            with pytest.raises(CapsuleRefusedError, match="round_size of at most 35") as refused:
                check_round(spec, key)
            assert refused.value.code == "bad_spec"


def test_what_is_printed_can_be_pasted_back(write: Any, tmp_path: Path) -> None:
    home = write("port = 1234\nhost = 'é\"'\ntrusted_proxies = ['10.0.0.0/8']\nrequire_funds = false\n")
    settings = load(home)
    text = settings.toml()
    assert "port = 1234\n" in text
    assert "poll = 1.0  # default\n" in text
    assert "# metrics_port is not set\n" in text
    (home / FILE).write_text(text)
    assert load(home) == settings
    secret = load(home, {"SONAR_CAPSULE_DATABASE": URL}).toml()
    assert "hunter2" not in secret
    (home / FILE).write_text(secret)
    assert load(home) == settings, "a URL without its password is a comment"


def test_config_says_that_a_home_is_missing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "capsule", "config", "--home", str(tmp_path / "none")]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SONAR_")}
    environment = clean | {"SONAR_CAPSULE_PROT": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert f"there is no directory {tmp_path / 'none'}" in done.stderr
    assert "SONAR_CAPSULE_PROT is ignored" in done.stderr


def test_config_prints_what_serve_would_use(write: Any) -> None:
    home = write("port = 1234\n")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SONAR_")}
    command = [sys.executable, "-m", "capsule", "config", "--home", str(home), "--json", "--trusted-proxy", "10.1.2.3"]
    done = subprocess.run(command, env=clean, capture_output=True, text=True, check=True)
    shown = json.loads(done.stdout)
    assert (shown["port"], shown["trusted_proxies"], shown["database"]) == (1234, ["10.1.2.3"], None)
    done = subprocess.run([*command, "--port", "-1"], env=clean, capture_output=True, text=True, check=False)
    assert (done.returncode, "--port" in done.stderr) == (3, True)
