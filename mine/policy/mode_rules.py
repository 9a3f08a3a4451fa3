"""The rules of a policy that look at how a campaign trains, and what its owner learns of a mine's work in the end."""

from typing import TYPE_CHECKING

from mine.policy.facts import Facts
from mine.policy.finding import Finding, many

if TYPE_CHECKING:
    from mine.policy.file import Policy

__all__ = ["MODE_RULES"]

_TOLD = (
    "it trains a network: this mine would learn the model, and its Capsule every single change of this mine's, from "
    "which records can be made out"
)
_NOISED = "it trains a network: this mine would learn the model, and its Capsule changes that are noised"


def _mode(policy: "Policy", facts: Facts) -> Finding:
    spec, told = facts.spec, _NOISED if policy.privacy.mode == "on" else _TOLD
    if spec.mode not in policy.accept.modes:
        why = told if spec.network is not None else "it trains an encrypted linear model"
        return Finding.no("mode", why, f'add "{spec.mode}" to `modes` in [accept] to take it')
    if spec.feature_map.kind == "backbone" and not policy.accept.backbones:
        return Finding.no(
            "mode",
            "it trains a head on a public network of its owner's choosing, which could be made to single out records",
            "set `backbones = true` in [accept] to take it",
        )
    if spec.network is None:
        return Finding.yes("mode", "its model stays encrypted: this mine never reads it")
    kept, least = facts.record.terms.min_mines, policy.accept.min_mines_of_networks
    if kept < least:
        return Finding.no(
            "mode",
            f"it trains a network, and its rounds may keep {many(kept, 'mine')}: from the weights before and after, "
            "each would learn the sum of the others' changes",
            f"lower `min_mines_of_networks` {least} in [accept] to take it",
        )
    accounts = spec.network.accounts
    if accounts and facts.mine.lower() not in {one.lower() for one in accounts}:
        return Finding.no(
            "mode", f"its terms name the {len(accounts)} accounts that may train it, and not {facts.mine}"
        )
    return Finding.yes("mode", f"{told}; the policy allows that, and this mine's signature accepts the spec")


def _attribution(policy: "Policy", facts: Facts) -> Finding:
    rule = "attribution"
    if facts.spec.network is not None:
        return Finding.yes(rule, "a network does not split by its mines")
    if facts.spec.attribution == "validation":
        return Finding.yes(
            rule, "its owner is told how much of the model is this mine's: one number, at the campaign's end"
        )
    said = (
        "its owner is given all that this mine's kept gradients add to the model, to the last bit: of one round that "
        "is its gradient"
    )
    if not policy.accept.open_attribution:
        return Finding.no(rule, said, "set `open_attribution = true` in [accept] if she may see that")
    return Finding.yes(rule, f"{said}; `open_attribution` in [accept] allows it")


MODE_RULES = (_mode, _attribution)
