"""A campaign for notebooks: payouts as a data frame, the score over its versions as a plot, its state as HTML.

pandas and matplotlib come with the extra `notebook`, and are imported where they are asked for.
"""

from collections.abc import Sequence
from html import escape
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pysonar.errors import MissingExtraError
from pysonar.history import Payout, Round, RoundState
from sonar.chain.records import NATIVE, CampaignRecord
from sonar.units import PPM, CampaignId, format_ppm

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["frame", "html", "html_of_none", "plot"]

_ETHER = 10**18
_LISTED = 10
"""Mines with a colour of their own; the least paid of more share one."""


def frame(payouts: Sequence[Payout], record: CampaignRecord) -> "pd.DataFrame":
    """A row for each mine that posted, best paid first: its gradients, how many were kept, what it earned.

    `amount` is in the smallest unit of the bounty's coin, as exact Python integers; `part` of all that was paid. Native
    coin has `ether` besides, which is for people. Bonds are not counted.
    """
    pd = _optional("pandas", "a data frame")
    paid = sum(payout.amount for payout in payouts)
    table: dict[str, Any] = {
        "mine": [str(payout.mine) for payout in payouts],
        "gradients": [payout.gradients for payout in payouts],
        "kept": [payout.kept for payout in payouts],
        "part": [payout.amount / paid if paid else 0.0 for payout in payouts],
        "amount": pd.Series([int(payout.amount) for payout in payouts], dtype=object),
    }
    if record.terms.token == NATIVE:
        table["ether"] = [payout.amount / _ETHER for payout in payouts]
    return pd.DataFrame(table)


def plot(rounds: Sequence[Round], record: CampaignRecord, metric: str, axes: "Axes | None" = None) -> "Axes":
    """The score over the model's versions, with the target, and under it what each round paid to which mine."""
    pyplot = _optional("matplotlib.pyplot", "a plot")
    if axes is None:
        _, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    settled = [held for held in rounds if held.state is RoundState.ADVANCED and held.score is not None]
    scores = [record.start_score, *(held.score for held in settled if held.score is not None)]
    versions = list(range(len(scores)))
    axes.plot(versions, [score / PPM for score in scores], "o-", color="black", label=metric, zorder=3)
    axes.axhline(record.terms.target / PPM, color="grey", linestyle="--", linewidth=1, label="target")
    axes.set(
        xlabel="model version", ylabel=f"{metric} on the validation set", title=f"campaign 0x{record.id.hex()[:12]}"
    )
    axes.set_xticks(versions)
    _draw_payouts(axes.twinx(), settled, record)
    axes.set_zorder(axes.figure.axes[-1].get_zorder() + 1)  # the line over the bars
    axes.patch.set_visible(False)
    axes.legend(loc="lower right")
    return axes


def html(record: CampaignRecord, name: str, rounds: Sequence[Round]) -> str:
    """The campaign's state as a small table; what strangers wrote in it is escaped."""
    terms, span = record.terms, record.terms.target - record.start_score
    done = max(0.0, min(1.0, (record.score - record.start_score) / span))
    gradients = sum(len(held.gradients) for held in rounds)
    rows = {
        "score": f"{format_ppm(record.start_score)} &rarr; <b>{format_ppm(record.score)}</b> "
        f"<progress value='{done:.4f}' max='1'></progress> {format_ppm(terms.target)}",
        "paid": f"{escape(terms.show(record.paid))} of {escape(terms.show(terms.bounty))}",
        "rounds": f"{len(rounds)} with {gradients} gradients, model version {record.version}",
        "state": escape(record.status.name.lower()),
    }
    cells = "".join(f"<tr><th style='text-align:left'>{key}</th><td>{value}</td></tr>" for key, value in rows.items())
    return f"<table>{_caption(record.id, name)}{cells}</table>"


def html_of_none(campaign: CampaignId, name: str, problem: str) -> str:
    """A campaign of which nothing can be read now, and why."""
    return f"<table>{_caption(campaign, name)}<tr><td>{escape(problem)}</td></tr></table>"


def _caption(campaign: CampaignId, name: str) -> str:
    return f"<caption style='text-align:left'><b>{escape(name)}</b> <code>0x{campaign.hex()}</code></caption>"


def _draw_payouts(axes: Any, settled: Sequence[Round], record: CampaignRecord) -> None:
    unit = _ETHER if record.terms.token == NATIVE else 1
    earned: dict[str, list[float]] = {}
    for place, held in enumerate(settled):
        for gradient in held.gradients:
            if gradient.payout:
                earned.setdefault(str(gradient.mine), [0.0] * len(settled))[place] += gradient.payout / unit
    ranked = sorted(earned.items(), key=lambda item: -sum(item[1]))
    if len(ranked) > _LISTED:
        rest = [sum(values) for values in zip(*(amounts for _, amounts in ranked[_LISTED:]), strict=True)]
        ranked = [*ranked[:_LISTED], (f"{len(ranked) - _LISTED} others", rest)]
    below = [0.0] * len(settled)
    for mine, amounts in ranked:
        label = mine if mine.endswith("others") else f"{mine[:8]}…"
        axes.bar(range(1, len(settled) + 1), amounts, bottom=below, width=0.5, alpha=0.55, label=label)
        below = [low + more for low, more in zip(below, amounts, strict=True)]
    axes.set_ylabel("paid, ether" if record.terms.token == NATIVE else "paid, smallest unit of the token")
    axes.set_ylim(bottom=0)
    if ranked:
        axes.legend(loc="upper left", fontsize="small", title="mines")


def _optional(module: str, what: str) -> Any:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        library = module.partition(".")[0]
        raise MissingExtraError(
            f"{what} needs {library}, which is not installed: pip install 'sonar-marketplace[notebook]'"
        ) from error
