"""Why nobody may come: what of a campaign mines refuse unless their owners allow it.

Mines tell nobody what they refuse. What a mine's policy has as long as its owner says nothing is public, though, and a
test holds this against it.
"""

from typing import TYPE_CHECKING

from sonar.chain.records import NATIVE, CampaignRecord
from sonar.protocol.errors import ProtocolError
from sonar.protocol.spec import Spec
from sonar.storage.errors import StorageError
from sonar.units import ether, format_ether

if TYPE_CHECKING:
    from pysonar.viewing import CampaignView

__all__ = ["refused_unless_allowed", "why_none"]

_PATIENCE = 60.0
"""Seconds in which nobody wonders that no gradient has come."""
_LARGEST_BOND = ether("0.01")
_FEWEST_MINES = 2
_FEWEST_MINES_OF_NETWORKS = 3


def why_none(campaign: "CampaignView", record: CampaignRecord, *, waited: float) -> tuple[str, ...]:
    """Sentences on why a campaign may have no gradient yet, `waited` seconds after somebody began to look."""
    try:
        spec = campaign.spec
    except (StorageError, ProtocolError) as error:
        return (f"no mine can take part without the campaign's spec: {error}",)
    told = refused_unless_allowed(spec, record)
    hints = [f"mines refuse this campaign unless their owners allow it: {reason}" for reason in told]
    if waited >= _PATIENCE:
        hints.append(
            f"no gradient has come yet: a mine takes part that has {spec.min_records} records or more with these "
            "columns and trusts this Capsule; `mine policy check` tells its owner why it does not"
        )
    return tuple(hints)


def refused_unless_allowed(spec: Spec, record: CampaignRecord) -> list[str]:
    """What mines' policies refuse of a campaign as long as they say nothing, and the setting that allows it."""
    terms, told = record.terms, []
    if spec.network is not None:
        told.append('it trains a network, which takes `modes = ["encrypted-linear", "network"]` in [accept]')
        if terms.min_mines < _FEWEST_MINES_OF_NETWORKS:
            told.append(
                f"its rounds may keep {terms.min_mines} mines, which see each other's changes of a network: rounds="
                f'{{"min_mines": {_FEWEST_MINES_OF_NETWORKS}}} is taken, fewer need `min_mines_of_networks` in [accept]'
            )
        if spec.network.accounts:
            told.append(
                f"its terms name the {len(spec.network.accounts)} accounts that may train it, and nobody else may"
            )
    elif terms.min_mines < _FEWEST_MINES:
        told.append(f"a round may keep {terms.min_mines} mine, which takes `min_mines = 1` in [accept]")
    if spec.feature_map.kind == "backbone":
        told.append("it brings a backbone, which takes `backbones = true` in [accept]")
    if spec.network is None and spec.attribution == "open":
        told.append("it opens its mines' parts, which takes `open_attribution = true` in [accept]")
    if terms.token != NATIVE:
        told.append(f"it pays in the token {terms.token}, which must be listed in `tokens` in [money]")
    if terms.bond > _LARGEST_BOND:
        told.append(
            f"its bond is {format_ether(terms.bond)} ether, which takes `max_bond` above {format_ether(_LARGEST_BOND)} "
            "in [money]"
        )
    return told
