"""All that can happen in the world: importing the modules registers their actions."""

from machine import campaigns, malice, rounds
from machine.moves import ACTIONS, perform

__all__ = ["ACTIONS", "MODULES", "perform"]

MODULES = (campaigns, rounds, malice)
"""Where the actions are."""
