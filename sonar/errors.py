"""The root of every error that Sonar raises on purpose, with the exit code that a command ends with.

    SonarError                      1
    |-- ConfigError                 3   network file, environment, account
    |-- sonar.chain.ChainError      4   RPC endpoint, transaction, contract
    |-- sonar.storage.StorageError  5   content store, digest, size
    |-- sonar.syft.SyftError        6   ciphertexts, encoding, wire format
    |-- sonar.protocol.ProtocolError 7  spec, signed message, sealed box
    |-- capsule.errors.CapsuleError 8   the Capsule refused or cannot be reached
    |-- mine.errors.MineError       9   data, policy, ledger
    `-- pysonar.errors.CampaignError 10 the data scientist's input or campaign state

Exit code 2 is click's own for wrong usage.
"""

__all__ = ["ConfigError", "SonarError"]


class SonarError(Exception):
    """Something went wrong that the caller can understand: the message says what, with which value, and what to do."""

    exit_code = 1


class ConfigError(SonarError):
    """The network file, an environment variable or an account cannot be used."""

    exit_code = 3
