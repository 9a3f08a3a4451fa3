"""The judge: scores models and picks what a round's gradients are worth. It knows no key, no chain and no store."""

from capsule.judge.rounds import (
    COPY_COSINE,
    Judged,
    Judgement,
    ValidationSet,
    find_copies,
    judge_round,
    next_weights,
    score,
)

__all__ = ["COPY_COSINE", "Judged", "Judgement", "ValidationSet", "find_copies", "judge_round", "next_weights", "score"]
