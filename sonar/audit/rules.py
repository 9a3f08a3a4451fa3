"""What a settlement may say, whatever the judge thinks: the rules that the campaign's terms set for it."""

from sonar.chain.records import Settlement, Terms, Verdict
from sonar.units import PPM, format_ppm

__all__ = ["settlement_problems"]


def settlement_problems(settlement: Settlement, terms: Terms, score: int) -> list[str]:
    """What is wrong with a settlement of a campaign that stands at `score` (ppm), one sentence's part each."""
    problems, outcomes = [], settlement.outcomes
    kept = [one for one in outcomes if one.verdict is Verdict.KEPT]
    if any((one.verdict is Verdict.KEPT) != (one.weight > 0) for one in outcomes):
        problems.append("a gradient was kept without a weight, or has one and was not kept")
    if any(one.share and one.verdict is not Verdict.KEPT for one in outcomes):
        problems.append("a gradient that was not kept has a share")
    if not settlement.advances:
        named = any(settlement.key) or any(settlement.product) or settlement.model_cid or settlement.product_cid
        if kept or settlement.score != score or settlement.exponent or named:
            problems.append("it does not advance, but keeps gradients, moves the score or names artifacts")
        return problems
    if not score + terms.min_gain <= settlement.score <= PPM:
        problems.append(
            f"the score {format_ppm(settlement.score)} is not {format_ppm(terms.min_gain)} above {format_ppm(score)}"
        )
    if len(kept) < terms.min_mines:
        problems.append(f"{len(kept)} gradients were kept, and at least {terms.min_mines} must be")
    if (shares := sum(one.share for one in outcomes)) != PPM:
        problems.append(f"the shares make {shares} ppm instead of {PPM}")
    if not (any(settlement.key) and any(settlement.product)):
        problems.append("it advances, but names no key or no product")
    return problems
