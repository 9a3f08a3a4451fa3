"""The mine's home is for its owner alone, and never made of a folder that is not."""

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from mine.home import Home
from sonar.errors import ConfigError


@pytest.fixture(autouse=True)
def usual_umask():
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_home_and_its_policy_are_for_their_owner_alone(tmp_path):
    home = Home(tmp_path / "a" / "mine")
    home.create()
    home.write_policy()
    assert (mode(home.path), mode(home.policy_file)) == (0o700, 0o600)
    home.create()


def test_an_empty_folder_that_others_may_look_into_is_closed_to_them(tmp_path):
    (tmp_path / "mine").mkdir()
    Home(tmp_path / "mine").create()
    assert mode(tmp_path / "mine") == 0o700


def test_a_folder_that_holds_something_is_not_closed_to_others_but_refused(tmp_path):
    place = tmp_path / "documents"
    place.mkdir()
    (place / "letter").touch()
    with pytest.raises(ConfigError, match=f"is open to others.*chmod 700 {place}"):
        Home(place).create()
    assert mode(place) == 0o755
    place.chmod(0o700)
    Home(place).create()


def told_to_another_user(home):
    """What a process of the user 10001 is told that begins with the home."""
    code = (
        "import os, sys\nfrom mine.home import Home\nfrom sonar.errors import ConfigError\n"
        "os.setgroups([])\nos.setgid(10001)\nos.setuid(10001)\n"
        "try:\n    getattr(Home(sys.argv[1]), sys.argv[2])()\nexcept ConfigError as error:\n    print(error)"
    )
    ways = ("create", "require", "ledger")
    commands = ([sys.executable, "-c", code, str(home), way] for way in ways)
    told = [subprocess.run(command, capture_output=True, text=True, timeout=300) for command in commands]
    assert [one.stderr for one in told] == [""] * len(ways)
    return {one.stdout.strip() for one in told}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_a_home_of_another_user_is_told_with_the_way_to_give_it_over():
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        home = Path(folder) / "mine"
        home.mkdir()
        home.chmod(0o755)
        (told,) = told_to_another_user(home)
        assert "is user 0's, and this is user 10001, who may not write it" in told
        assert f"chown -R 10001 {home}" in told
        os.chown(home, 10001, 10001)
        home.chmod(0o500)
        (told,) = told_to_another_user(home)
        assert told.endswith("cannot be written: is it mounted for reading only?")
