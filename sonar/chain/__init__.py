"""Typed access to the Sonar contract: records, calls, the client, events, deployment, decoded errors.

Import from the modules; nothing is imported here, so that `sonar.chain.records` costs nothing.
"""

__all__: list[str] = []
