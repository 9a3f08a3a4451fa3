"""What mines refuse by default is said to who waits for them, and is what mines' policies really have."""

import io
from dataclasses import replace

import pytest
import torch
from rich.console import Console

import pysonar
from mine.policy import Policy
from pysonar import refusals
from pysonar.creation import make_plan
from pysonar.errors import NotOverError
from pysonar.refusals import refused_unless_allowed, why_none
from pysonar.watch import watch
from sonar.chain.records import NATIVE
from sonar.units import Address, ether

TOKEN = Address("0x00000000000000000000000000000000000000AA")


def network(**options) -> pysonar.Network:
    module = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    return pysonar.Network(module, 4, classes=3, **options)


def head() -> pysonar.Head:
    return pysonar.Head(torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh()), 3, features=4)


LINEAR = pysonar.LinearClassifier(4, 3)


@pytest.mark.parametrize(
    ("model", "options", "settings"),
    [
        (LINEAR, {}, []),
        (network(), {}, ["modes"]),
        (network(), {"rounds": {"min_mines": 2}}, ["modes", "min_mines_of_networks"]),
        (network(accounts=[TOKEN]), {}, ["modes", "name the 1 accounts"]),
        (head(), {}, ["backbones"]),
        (LINEAR, {"attribution": "open"}, ["open_attribution"]),
        (LINEAR, {"rounds": {"min_mines": 1, "round_size": 1}}, ["min_mines"]),
        (LINEAR, {"payout": {"bond": ether("0.02")}}, ["max_bond"]),
        (LINEAR, {"token": TOKEN}, ["tokens"]),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_takes_an_owners_word_is_told_by_its_setting(stage, model, options: dict, settings: list[str]) -> None:
    record = stage.campaign().record
    given = {"token": NATIVE, **options}
    plan = make_plan(model, stage.validation, bounty=1, target=0.9, deadline="2h", now=0, **given)
    told = refused_unless_allowed(plan.spec, replace(record, terms=plan.terms))
    assert len(told) == len(settings)
    for sentence, setting in zip(told, settings, strict=True):
        assert setting in sentence


def test_what_mines_refuse_by_default_is_what_their_policies_have() -> None:
    accept, money = Policy().accept, Policy().money
    assert accept.modes == ["encrypted-linear"]
    assert (accept.backbones, accept.open_attribution) == (False, False)
    assert accept.min_mines == refusals._FEWEST_MINES
    assert accept.min_mines_of_networks == refusals._FEWEST_MINES_OF_NETWORKS
    assert ether(money.max_bond) == refusals._LARGEST_BOND
    assert money.tokens == []


@pytest.mark.parametrize("terminal", [False, True])
def test_watch_says_what_keeps_mines_away_until_one_has_come(stage, terminal: bool) -> None:
    campaign = stage.campaign(attribution="open")
    clock = iter([0.0, 0.0, 1.0, refusals._PATIENCE, refusals._PATIENCE + 1])

    def followed() -> str:
        text = io.StringIO()
        with pytest.raises(NotOverError):
            watch(
                campaign, poll=0, timeout=refusals._PATIENCE, console=Console(file=text, width=300,
                force_terminal=terminal), sleep=lambda _: None, monotonic=lambda: next(clock),
            )  # fmt: skip
        return text.getvalue()

    told = followed()
    assert "mines refuse this campaign unless their owners allow it: it opens its mines' parts" in told
    assert f"a mine takes part that has {campaign.spec.min_records} records or more with these columns" in told
    stage.submit(campaign, stage.new_account())
    clock = iter([0.0, refusals._PATIENCE, refusals._PATIENCE + 1])
    assert "mines refuse" not in followed()


def test_a_spec_that_cannot_be_had_is_why_nobody_comes(stage) -> None:
    campaign = stage.campaign()
    fresh = stage.session().campaign(campaign.id)
    for file in (stage.directory.parent / "store").iterdir():
        file.unlink()
    (hint,) = why_none(fresh, fresh.record, waited=0)
    assert hint.startswith("no mine can take part without the campaign's spec: ")
