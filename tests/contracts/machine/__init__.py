"""A stateful machine over the contracts: a world of honest and hostile actors, and a plain ledger that predicts it."""
