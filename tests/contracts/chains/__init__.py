"""The chains that the contract tests run on, behind one small interface: see `base`."""
