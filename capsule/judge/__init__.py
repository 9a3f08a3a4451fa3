"""The judge: scores models and picks what a round's gradients are worth. It knows no key, no chain and no store.

rounds       the verdict on a round
likeness     unions of alike gradients
credit       what each gradient is worth: Shapley and Winter values
luck         what random directions reach
search       the set to keep, and the step
game         what any mean of gradients is worth
blend        that mean: unions weigh as one, and length is limited
validation   exact class scores
metrics      the spec's metric: of classes; determination: R2
measure      what a metric tells: values, and their noise
_exact       integers in float64
"""

from capsule.judge._exact import BigInts, Ints
from capsule.judge.rounds import Judged, Judgement, judge_round, next_weights
from capsule.judge.validation import ValidationSet, score

__all__ = ["BigInts", "Ints", "Judged", "Judgement", "ValidationSet", "judge_round", "next_weights", "score"]
