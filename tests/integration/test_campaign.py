"""One campaign through real processes while parts of the house fall: nothing is lost, nothing happens twice."""

import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

import pysonar
from sonar import canonical, devnet
from sonar.chain.client import SonarClient
from sonar.chain.cursor import EventCursor
from sonar.chain.events import GradientSubmitted, RoundSettled
from sonar.chain.records import Status, Verdict
from sonar.processes import wait_until
from sonar.protocol.errors import SealedBoxError
from sonar.protocol.sealing import BoxContext, Purpose, SealingKeyPair, open_box_for
from sonar.protocol.spec import Spec
from sonar.syft import load_model
from sonar.units import PPM

pytestmark = pytest.mark.timeout(1800)
DIGITS = load_digits()
ORDER = np.random.default_rng(3).permutation(len(DIGITS.target))
VALIDATION, SHARES = ORDER[:360], np.array_split(ORDER[360:], 2)


@pytest.fixture
def net(tmp_path: Path) -> Iterator[devnet.Devnet]:
    """A development network with small but honest keys."""
    options = devnet.DevnetOptions(
        home=tmp_path / "sonar",
        chain="embedded",
        store="directory",
        accounts=("owner", "mine1", "mine2"),
        key_bits=2048,
    )
    with devnet.start(options, lambda _: None) as running:
        yield running


@pytest.fixture
def campaign(net: devnet.Devnet) -> pysonar.Campaign:
    """A campaign of two rounds on digits."""
    sonar = pysonar.connect(net.network_file, account=net.accounts["owner"])
    return sonar.create_campaign(
        model=pysonar.LinearClassifier(features=64, classes=10, scale=16.0),
        validation=(DIGITS.data[VALIDATION], DIGITS.target[VALIDATION]),
        bounty=pysonar.ether(1),
        target=1.0,
        deadline="1h",
        rounds={"round_size": 2, "max_rounds": 2},
    )


def make_mine(net: devnet.Devnet, name: str, rows: np.ndarray, folder: Path) -> list[str]:
    """A mine with its data; returns the command that runs it."""
    table = folder / f"{name}.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*(f"x{number}" for number in range(64)), "target"])
        writer.writerows([*DIGITS.data[row], DIGITS.target[row]] for row in rows)
    home = ["--home", str(folder / name)]
    for words in (["init", "--key-file", str(net.accounts[name])], ["add", "digits", str(table), "--target", "target"]):
        subprocess.run([sys.executable, "-m", "mine", *words, *home], check=True, capture_output=True)
    return [
        "-m",
        "mine",
        "run",
        *home,
        "--network",
        str(net.network_file),
        "--poll",
        "0.2",
        "--patience",
        "2",
        "--json",
    ]


@pytest.mark.long
def test_a_campaign_survives_kills_of_capsule_and_mine(net, campaign, spawn, tmp_path: Path):
    commands = {
        name: make_mine(net, name, rows, tmp_path) for name, rows in zip(("mine1", "mine2"), SHARES, strict=True)
    }
    client = SonarClient.from_network(net.network)
    cursor = EventCursor(client, net.network.start_block, campaign=campaign.id)
    seen: list = []

    def happened(kind: type, count: int) -> bool:
        seen.extend(cursor.read())
        return sum(isinstance(event, kind) for event in seen) >= count

    # The Capsule dies before anything is posted; a mine works on, and waits for the verdict.
    net.children["capsule"].kill()
    first = spawn("mine1", *commands["mine1"])
    wait_until(lambda: happened(GradientSubmitted, 1), timeout=480, what="a gradient without a Capsule", child=first)
    # The mine dies after its post; another one comes.
    first.kill()
    second = spawn("mine2", *commands["mine2"])
    wait_until(lambda: happened(GradientSubmitted, 2), timeout=480, what="the second gradient", child=second)
    assert not happened(RoundSettled, 1)

    net.restart_capsule()
    again = spawn("mine1-again", *commands["mine1"])
    wait_until(
        lambda: happened(RoundSettled, 1), timeout=480, what="the first settlement", child=net.children["capsule"]
    )
    # And once more in the middle of the second round.
    wait_until(lambda: happened(GradientSubmitted, 3), timeout=480, what="a gradient of the next round", child=again)
    net.children["capsule"].kill()
    net.restart_capsule()
    wait_until(lambda: happened(RoundSettled, 2), timeout=480, what="the second settlement")

    assert client.campaign(campaign.id).status is Status.FINISHED
    posts = [(event.round, event.mine) for event in seen if isinstance(event, GradientSubmitted)]
    assert len(posts) == len(set(posts)) == 4
    settled = [event for event in seen if isinstance(event, RoundSettled)]
    assert [event.round for event in settled] == [0, 1]
    assert settled[0].advances

    model = campaign.result()
    score = np.mean(model.predict(DIGITS.data[VALIDATION]) == DIGITS.target[VALIDATION])
    assert score * PPM == pytest.approx(settled[-1].score, abs=1)
    campaign.close()
    paid = sum(event.payout for event in settled)
    assert paid + client.campaign(campaign.id).terms.bounty - client.campaign(campaign.id).paid == pysonar.ether(1)
    verdicts = {gradient.verdict for gradient in campaign.gradients()}
    assert Verdict.KEPT in verdicts
    check_audit(net, campaign, settled)
    check_artifacts(net.directory / "store", campaign, client)


def check_audit(net: devnet.Devnet, campaign: pysonar.Campaign, settled: list) -> None:
    """Anybody finds all of it right, by either command, until an artifact is changed; then that is named."""
    wait_until(lambda: not campaign.audit().unchecked, timeout=240, what="what was kept to be published")
    assert not campaign.audit().differences
    words = ["audit", campaign.id.hex(), "--network", str(net.network_file)]
    for command in ("sonar", "pysonar"):
        run = [sys.executable, "-m", command, *words]
        done = subprocess.run(run, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout.count("\n")) == (0, 1), done.stderr
        told = json.loads(subprocess.run([*run, "--json"], capture_output=True, text=True, check=True).stdout)
        assert told["differs"] == told["unchecked"] == 0
        assert told["holds"] == len(told["findings"]) > 30
    product = net.directory / "store" / settled[0].product_cid
    data = product.read_bytes()
    product.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "differs   round 0: the product: the artifact" in done.stdout
    product.unlink()
    assert subprocess.run(run, capture_output=True, check=False).returncode == 11
    product.write_bytes(data)


def check_artifacts(store: Path, campaign: pysonar.Campaign, client: SonarClient) -> None:
    """Whatever anybody stored is a spec, ciphertexts under a public key, or a box that a stranger cannot open."""
    kinds = {"spec": 0, "ciphertexts": 0, "sealed": 0}
    stranger = SealingKeyPair.generate()
    context = BoxContext(Purpose.GRADIENT, client.chain_id, client.address, campaign.record.owner, campaign.id.hex())
    for path in (path for path in store.rglob("*") if path.is_file()):
        data = path.read_bytes()
        if data.startswith(campaign.spec.to_bytes()[:16]):  # of eight boxes one in eight thousand begins with {"
            assert "weights" not in canonical.loads(data)
            assert Spec.parse(data).name
            kinds["spec"] += 1
        elif b'"sonar"' in data[:2000]:
            header = data[8 : 8 + int.from_bytes(data[:8], "little")]
            tensors = set(json.loads(header)) - {"__metadata__"}
            assert tensors <= {"ciphertexts", "modulus"}
            if "modulus" in tensors:
                assert load_model(data).shape == (65, 10)
            kinds["ciphertexts"] += 1
        else:
            with pytest.raises(SealedBoxError):
                open_box_for(data, stranger, context)
            kinds["sealed"] += 1
    assert kinds["spec"] == 1
    assert kinds["sealed"] >= 5
    assert kinds["ciphertexts"] >= 5


@pytest.mark.long
def test_mines_wait_for_a_chain_and_a_store_that_are_away(net, campaign, spawn, tmp_path: Path):
    command = make_mine(net, "mine1", SHARES[0], tmp_path)
    store = net.directory / "store"
    away = store.rename(net.directory / "store-away")
    store.mkdir()
    child = spawn("mine1", *command)
    wait_until(
        lambda: '"waiting"' in child.log.read_text(), timeout=240, what="the mine's word that it waits", child=child
    )
    assert not campaign.gradients()
    store.rmdir()
    away.rename(store)
    wait_until(lambda: len(campaign.gradients()) == 1, timeout=240, what="the gradient", child=child)
    assert child.poll() is None
