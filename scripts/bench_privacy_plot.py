"""Draws accuracy against epsilon as a small SVG: a panel for each table, by hand, so that nothing need be installed."""

import math
from collections.abc import Sequence
from typing import Protocol

__all__ = ["plot"]

_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 300, 230, 44, 40, 40
_BLUE, _GREY, _ORANGE = "#1f6fb4", "#666666", "#d9730d"


class Point(Protocol):
    """What is drawn of one epsilon."""

    epsilon: float
    accuracy: float
    error: float


class Curve(Protocol):
    """What is drawn of one table."""

    name: str
    one_mine: float
    five_mines: float
    points: Sequence[Point]


def plot(curves: Sequence[Curve]) -> str:
    """The picture as text."""
    panels = "".join(_panel(curve, at * _WIDTH) for at, curve in enumerate(curves))
    width = _WIDTH * len(curves)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {_HEIGHT}" width="{width}" height="{_HEIGHT}" '
        f'font-family="sans-serif" font-size="11">\n<rect width="{width}" height="{_HEIGHT}" fill="white"/>\n'
        f"{panels}</svg>\n"
    )


def _panel(curve: Curve, left: float) -> str:
    lows = [min(p.accuracy - 2 * p.error for p in curve.points), curve.one_mine]
    low, high = min(lows), max(curve.five_mines, curve.one_mine, *(p.accuracy for p in curve.points))
    margin = max(0.005, 0.15 * (high - low))
    low, high = low - margin, high + margin
    first, last = (math.log10(curve.points[at].epsilon) for at in (0, -1))

    def x(epsilon: float) -> float:
        return left + _LEFT + (math.log10(epsilon) - first) / (last - first) * (_WIDTH - _LEFT - 18)

    def y(accuracy: float) -> float:
        return _TOP + (high - accuracy) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    bottom, right = _HEIGHT - _BOTTOM, left + _WIDTH - 18
    parts = [
        f'<text x="{left + _LEFT}" y="16" font-size="13" font-weight="bold">{curve.name}</text>',
        f'<path d="M{left + _LEFT} {_TOP - 8}V{bottom}H{right}" fill="none" stroke="black"/>',
    ]
    for tick in range(5):
        value = low + (high - low) * (tick + 0.5) / 5
        parts.append(f'<text x="{left + _LEFT - 5}" y="{y(value) + 4:.1f}" text-anchor="end">{100 * value:.1f}</text>')
    parts += [
        f'<text x="{x(p.epsilon):.1f}" y="{bottom + 14}" text-anchor="middle">{p.epsilon:g}</text>'
        for p in curve.points
    ]
    middle = left + (_LEFT + _WIDTH - 18) / 2
    parts.append(f'<text x="{middle}" y="{bottom + 30}" text-anchor="middle">epsilon (accuracy in %)</text>')
    lines = [(curve.five_mines, _GREY, "five mines, no noise"), (curve.one_mine, _ORANGE, "one mine, no noise")]
    for value, colour, said in lines:
        under = 11 if value == min(curve.five_mines, curve.one_mine) else -4
        parts.append(
            f'<path d="M{left + _LEFT} {y(value):.1f}H{right}" stroke="{colour}" stroke-dasharray="5 3"/>'
            f'<text x="{left + _LEFT + 4}" y="{y(value) + under:.1f}" fill="{colour}" font-size="9">{said}</text>'
        )
    line = " ".join(f"{x(p.epsilon):.1f},{y(p.accuracy):.1f}" for p in curve.points)
    parts.append(f'<polyline points="{line}" fill="none" stroke="{_BLUE}" stroke-width="2"/>')
    parts += [
        f'<path d="M{x(p.epsilon):.1f} {y(p.accuracy - 2 * p.error):.1f}V{y(p.accuracy + 2 * p.error):.1f}" '
        f'stroke="{_BLUE}"/><circle cx="{x(p.epsilon):.1f}" cy="{y(p.accuracy):.1f}" r="3" fill="{_BLUE}"/>'
        for p in curve.points
    ]
    return "\n".join(parts) + "\n"
