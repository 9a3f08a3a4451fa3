"""The unit and the image that ship: as far as they can be tried without a system of their own."""

import configparser
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from mine.cli import main

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "mine" / "deploy" / "sonar-mine.service"
IMAGE = ROOT / "mine" / "deploy" / "Dockerfile"


class _Lines(dict):
    """Keeps every value of a setting that is given several times."""

    def __setitem__(self, key, value):
        if isinstance(value, list) and key in self:
            self[key].extend(value)
        else:
            super().__setitem__(key, value)


@pytest.fixture(scope="module")
def service() -> dict[str, str]:
    parser = configparser.RawConfigParser(strict=False, dict_type=_Lines)
    parser.optionxform = str
    parser.read(UNIT)
    return dict(parser["Service"])


def accepts(words: list[str]) -> None:
    """Parses the words of a command, as it does before it starts."""
    command = main.get_command(click.Context(main), words[0])
    assert command is not None
    command.make_context(words[0], words[1:])


def test_the_unit_is_hardened_and_gives_the_passphrase_as_a_credential(service):
    for setting in ("NoNewPrivileges", "PrivateTmp", "PrivateDevices", "ProtectHome", "RestrictNamespaces"):
        assert service[setting] == "yes"
    assert service["ProtectSystem"] == "strict"
    assert service["CapabilityBoundingSet"] == ""
    assert service["User"] not in {"", "root"}
    assert "SONAR_PASSPHRASE_FILE=%d/passphrase" in service["Environment"]
    assert "SONAR_PASSPHRASE=" not in UNIT.read_text()


def test_the_unit_lets_what_reads_and_trains_restrict_itself(service):
    allowed = service["SystemCallFilter"].split()
    assert {"seccomp", "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"} <= set(allowed)


def test_the_commands_of_unit_and_image_are_ones_that_the_mine_takes(service):
    program, *words = shlex.split(service["ExecStart"])
    assert Path(program).name == "mine"
    accepts(words)
    image = IMAGE.read_text()
    assert re.search(r'^ENTRYPOINT \["mine"\]$', image, re.MULTILINE)
    (words_of_image,) = re.findall(r"^CMD \[(.*)\]$", image, re.MULTILINE)
    accepts(shlex.split(words_of_image.replace(",", "")))


def test_the_image_is_no_roots_and_copies_what_exists():
    image = IMAGE.read_text()
    (user,) = re.findall(r"^USER (\d+)$", image, re.MULTILINE)
    assert int(user) > 0
    for line in re.findall(r"^COPY (?!--from)(.*) \S+$", image, re.MULTILINE):
        for name in line.split():
            assert (ROOT / name).exists(), name
    assert "--no-install-recommends" in image


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path):
    # The program that the unit starts is not installed here, and its user does not exist.
    text = (
        UNIT.read_text()
        .replace("/opt/sonar/bin/mine", "/bin/true")
        .replace("User=sonar-mine\nGroup=sonar-mine", "User=daemon")
    )
    unit = tmp_path / UNIT.name
    unit.write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=60)
    said = [line for line in done.stderr.splitlines() if unit.name in line or str(unit) in line]
    assert said == []
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")
def test_systemd_finds_little_that_the_unit_exposes(tmp_path):
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text())
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=30", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if "unrecognized option" in done.stderr or "Unknown" in done.stderr:
        pytest.skip("this systemd-analyze cannot look at files")
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr
