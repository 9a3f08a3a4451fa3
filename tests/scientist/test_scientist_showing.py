"""A campaign in a notebook: its payouts as a data frame, its score as a plot, its state as HTML."""

import importlib
import sys
from types import SimpleNamespace

import matplotlib as mpl
import numpy as np
import pytest

from pysonar.errors import MissingExtraError
from pysonar.showing import html
from sonar.chain.errors import RpcUnavailableError
from sonar.units import ether

mpl.use("Agg")
from matplotlib import pyplot


@pytest.fixture
def played(stage):
    """A campaign of two rounds that advanced and one that stayed, and its mines."""
    campaign = stage.campaign()
    mines = [stage.new_account() for _ in range(3)]
    for score, shares in ((500_000, [600_000, 400_000, 0]), (700_000, [0, 250_000, 750_000]), (None, [0, 0, 0])):
        for mine in mines:
            stage.submit(campaign, mine)
        stage.settle(campaign, score, shares)
    return campaign, [mine.address for mine in mines]


def test_payouts_are_a_data_frame_exact_to_the_wei(played):
    campaign, mines = played
    table = campaign.payouts()
    assert list(table.columns) == ["mine", "gradients", "kept", "part", "amount", "ether"]
    assert set(table["mine"]) == set(mines)
    assert sum(table["amount"]) == campaign.record.paid
    assert all(isinstance(amount, int) for amount in table["amount"])
    assert table["amount"].is_monotonic_decreasing
    assert table["part"].sum() == pytest.approx(1)
    assert (table["gradients"] == 3).all()
    assert table["ether"].sum() == pytest.approx(campaign.record.paid / 1e18)


def test_a_campaign_that_paid_nothing_has_an_empty_frame_of_the_same_columns(stage):
    table = stage.campaign().payouts()
    assert len(table) == 0
    assert list(table.columns) == ["mine", "gradients", "kept", "part", "amount", "ether"]


def test_the_plot_shows_every_versions_score_the_target_and_every_payout(played):
    campaign, mines = played
    axes = campaign.plot()
    line = next(line for line in axes.lines if line.get_label() == "accuracy")
    np.testing.assert_allclose(line.get_ydata(), [campaign.record.start_score / 1e6, 0.5, 0.7])
    assert any(line.get_label() == "target" and line.get_ydata()[0] == 0.9 for line in axes.lines)
    bars = next(other for other in axes.figure.axes if other is not axes).patches
    assert sum(bar.get_height() for bar in bars) == pytest.approx(campaign.record.paid / 1e18)
    assert len(bars) == 2 * len(mines)
    pyplot.close(axes.figure)


def test_the_plot_draws_on_axes_that_are_given(played):
    figure, own = pyplot.subplots()
    assert played[0].plot(own) is own
    pyplot.close(figure)


def test_a_campaign_without_a_round_that_advanced_is_drawn_at_its_start(stage):
    campaign = stage.campaign()
    for _ in range(2):
        axes = campaign.plot()
        line = next(line for line in axes.lines if line.get_label() == "accuracy")
        np.testing.assert_allclose(line.get_ydata(), [campaign.record.start_score / 1e6])
        pyplot.close(axes.figure)
        for _ in range(3):
            stage.submit(campaign, stage.new_account())
        stage.settle(campaign, None, [0, 0, 0])
    assert campaign.payouts()["part"].tolist() == [0.0] * 6


def test_a_node_that_does_not_answer_is_said_where_the_campaign_would_be_shown(stage):
    campaign = stage.campaign()

    def gone(*_):
        raise RpcUnavailableError("nothing answers at <http://127.0.0.1:9>")

    campaign._sonar.client = SimpleNamespace(campaign=gone)
    shown = campaign._repr_html_()
    assert f"0x{campaign.id.hex()}" in shown
    assert "nothing answers at &lt;http://127.0.0.1:9&gt;" in shown


def test_the_html_escapes_what_strangers_wrote(played):
    campaign, _ = played
    shown = html(campaign.record, "<script>alert(1)</script>", campaign.history().rounds)
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown
    assert "3 with 9 gradients, model version 2" in campaign._repr_html_()
    assert f"0x{campaign.id.hex()}" in campaign._repr_html_()


@pytest.mark.parametrize(("module", "ask"), [("pandas", "payouts"), ("matplotlib.pyplot", "plot")])
def test_what_is_not_installed_is_named_with_the_way_to_get_it(stage, monkeypatch, module, ask):
    campaign = stage.campaign()
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not there
    importlib.invalidate_caches()
    with pytest.raises(MissingExtraError, match=r"pip install 'sonar-marketplace\[notebook\]'"):
        getattr(campaign, ask)()


def test_what_a_token_pays_is_in_its_smallest_unit_only(stage, new_token):
    token = new_token("HonestToken", {stage.owner.address: 700}).address
    campaign = stage.campaign(token=token, bounty=700)
    assert "ether" not in campaign.payouts().columns
    assert campaign.record.terms.bounty == 700 != ether(1)
