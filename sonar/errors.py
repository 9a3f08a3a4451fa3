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

__all__ = ["ConfigError", "SonarError", "printable"]


class SonarError(Exception):
    """Something went wrong that the caller can understand: the message says what, with which value, and what to do."""

    exit_code = 1


class ConfigError(SonarError):
    """The network file, an environment variable or an account cannot be used."""

    exit_code = 3


def printable(words: object, longest: int = 300) -> str:
    """What a stranger's program said, as a message may repeat it: one line, of so many characters at most.

    Nothing in it steers a terminal, and every encoding takes it: JSON can hold halves of characters, UTF-8 cannot.
    """
    text = str(words)
    shown = "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text[:longest]
    )
    return shown if len(text) <= longest else f"{shown}..."
