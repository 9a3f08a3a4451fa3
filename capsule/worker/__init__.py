"""What the Capsule does by itself: follows the chain, has rounds judged, relays settlements, publishes."""

from capsule.worker.steps import Worker

__all__ = ["Worker"]
