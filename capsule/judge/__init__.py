"""The judge: scores models and picks what a round's gradients are worth. It knows no key, no chain and no store.

rounds       the verdict on a round
likeness     unions of alike gradients
credit       what each gradient is worth: Shapley and Winter values
luck         what random directions reach
search       the set to keep, and the step
game         what any mean of gradients is worth
blend        that mean: unions weigh as one, and length is limited
validation   exact class scores
networks     class scores and games of networks
metrics      the spec's metric: of classes; determination: R2
measure      what a metric tells: values, and their noise
_exact       integers in float64
"""

from capsule.judge._exact import BigInts, Floats, Ints, one_thread
from capsule.judge.networks import NetworkSet
from capsule.judge.rounds import Judged, Judgement, judge_round, next_weights
from capsule.judge.validation import PULL_BOUND, AnySet, ValidationSet, score
from sonar.protocol.spec import Spec

__all__ = [
    "PULL_BOUND",
    "BigInts",
    "Ints",
    "Judged",
    "Judgement",
    "NetworkSet",
    "ValidationSet",
    "judge_round",
    "next_weights",
    "one_thread",
    "score",
    "validation_of",
]


def validation_of(spec: Spec, features: Floats, labels: Ints | Floats) -> AnySet:
    """The validation set of a spec's kind of model, for features and labels as `decode_validation` gives them.

    It takes one thread: a backbone whose numbers cancel each other gives what the order of its sums gives, and that
    must not change with the operator's settings while a campaign runs.
    """
    with one_thread():
        return (ValidationSet if spec.network is None else NetworkSet).of(spec, features, labels)
