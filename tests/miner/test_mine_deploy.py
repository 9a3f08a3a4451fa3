"""The unit and the image that ship: as far as they can be tried without a system of their own."""

import configparser
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
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


@pytest.mark.parametrize("file", [UNIT, IMAGE], ids=lambda path: path.name)
def test_the_commands_in_a_head_are_ones_that_the_mine_takes_and_name_nothing_that_is_not_made_before(file):
    head = "\n".join(line.lstrip("# ") for line in file.read_text().partition("\n\n")[0].splitlines())
    lines = re.sub(r"\\\n *", "", head).splitlines()
    called = [
        re.split(r"/bin/mine |sonar-mine(?=$| init| add) ?", line)[-1]
        for line in lines
        if re.match(r"runuser |docker run ", line)
    ]
    assert {words.split()[0] for words in called if words} >= {"init", "add"}
    for words in filter(None, called):
        accepts(shlex.split(words))
    if file is UNIT:
        assert head.index("install -d -m 755 /etc/sonar") < head.index("/etc/sonar/mine.passphrase")


def test_the_image_is_no_roots_and_copies_what_exists():
    image = IMAGE.read_text()
    (user,) = re.findall(r"^USER (\d+)$", image, re.MULTILINE)
    assert int(user) > 0
    for line in re.findall(r"^COPY (?!--from)(.*) \S+$", image, re.MULTILINE):
        for name in line.split():
            assert (ROOT / name).exists(), name
    assert "--no-install-recommends" in image


def test_the_image_is_built_of_what_it_copies_and_gets_nothing_else_of_a_checkout():
    ignored = IMAGE.with_name("Dockerfile.dockerignore").read_text().splitlines()
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", IMAGE.read_text(), re.MULTILINE)
    assert {line[1:] for line in ignored if line.startswith("!")} == {name for line in copied for name in line.split()}
    first = next(line for line in ignored if not line.startswith("#"))
    assert first == "*", "what is not named stays here"
    assert "**/*.so" in ignored, "a library that was built for this machine is not the image's"


@pytest.mark.parametrize(("status", "well"), [(200, True), (503, False)])
def test_the_image_asks_its_own_mine_how_it_is_whatever_proxy_the_container_is_given(status, well):
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            assert self.path == "/healthz"
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_):
            """Says nothing."""

    (text,) = re.findall(r"^HEALTHCHECK .*\\\n +CMD (\[.*\])$", IMAGE.read_text(), re.MULTILINE)
    python, *words = json.loads(text)
    assert python == "python"
    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        words = [word.replace("9464", str(server.server_port)) for word in words]
        gone = "http://127.0.0.1:1"
        done = subprocess.run(
            [sys.executable, *words], env={"http_proxy": gone, "HTTP_PROXY": gone, "PATH": os.defpath}, timeout=60
        )
    assert (done.returncode == 0) is well


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
