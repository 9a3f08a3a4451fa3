"""Accounts on disk: Ethereum keystore files (encrypted) and raw key files that only their owner can read."""

import json
import os
import secrets
import sys
from getpass import getpass
from pathlib import Path
from typing import Any, Literal

from eth_account import Account
from eth_account.signers.local import LocalAccount

from sonar.config import home
from sonar.errors import ConfigError

__all__ = [
    "create_key_file",
    "create_keystore",
    "decrypt_keystore",
    "encrypt_keystore",
    "given_passphrase",
    "load_account",
    "owner_account",
    "read_keystore",
    "write_over",
]

_LARGEST_FILE = 64 * 1024
_SCRYPT_LIMITS = {"n": 1 << 20, "r": 32, "p": 64}
_MOST_SCRYPT_WORK = 1 << 23
"""n * r * p, of which the usual keystore has 2^21: a few seconds, and at most 1 GiB."""
_PASSPHRASE_VARIABLE = "SONAR_PASSPHRASE"  # noqa: S105  (a name)
_PASSPHRASE_FILE_VARIABLE = "SONAR_PASSPHRASE_FILE"  # noqa: S105  (a name)


def create_keystore(path: Path | str, passphrase: str) -> LocalAccount:
    """Makes an account and writes it as Ethereum keystore JSON (version 3, scrypt), mode 0600.

    Raises ConfigError for an empty passphrase or a path that is taken: a key is never overwritten.
    """
    if not passphrase:
        raise ConfigError(f"an empty passphrase does not protect {path}: give one")
    file = _free(path)
    account = _account(secrets.token_bytes(32))
    _write(file, encrypt_keystore(account, passphrase))
    return account


def encrypt_keystore(account: LocalAccount, passphrase: str, *, insecure_fast: bool = False) -> str:
    """The account as the text of a keystore file; raises ConfigError for an empty passphrase.

    `insecure_fast` is for tests alone: whoever has the text can then try a million passphrases a second.
    """
    if not passphrase:
        raise ConfigError(f"an empty passphrase does not protect {account.address}: give one")
    kdf: Literal["pbkdf2", "scrypt"] = "pbkdf2" if insecure_fast else "scrypt"
    return json.dumps(Account.encrypt(account.key, passphrase, kdf, 2 if insecure_fast else None)) + "\n"


def decrypt_keystore(text: str, passphrase: str, name: Path | str) -> LocalAccount:
    """The account in a keystore's text; `name` is what errors call it. Raises ConfigError, which holds no secret."""
    try:
        keystore: dict[str, Any] = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"the keystore {name} is not valid JSON") from error
    try:
        keystore = _lowered(keystore)
        _check_work(keystore["crypto"], name)
        key = bytes(Account.decrypt(keystore, passphrase))
    except ValueError as error:
        if "MAC mismatch" in str(error):
            raise ConfigError(f"the passphrase does not open the keystore {name}: try again") from None
        raise ConfigError(f"the keystore {name} cannot be read: it is not of version 3") from error
    except (KeyError, TypeError, AttributeError, AssertionError, OverflowError, NotImplementedError) as error:
        raise ConfigError(f"the keystore {name} is incomplete or of an unknown kind") from error
    return _account(key, name)


def create_key_file(path: Path | str) -> LocalAccount:
    """Makes an account and writes its bare key in hexadecimal, mode 0600: for development networks and machines.

    Raises ConfigError for a path that is taken: a key is never overwritten.
    """
    file = _free(path)
    key = secrets.token_bytes(32)
    _write(file, f"0x{key.hex()}\n")
    return _account(key)


def load_account(path: Path | str, passphrase: str | None = None) -> LocalAccount:
    """The account in a keystore file or a raw key file.

    A keystore's passphrase is the argument, else SONAR_PASSPHRASE, else the first line of the file that
    SONAR_PASSPHRASE_FILE names, else asked for on a terminal. A raw key file must
    be readable by its owner only. Raises ConfigError; no message ever holds a secret.
    """
    file = Path(path)
    text = _read(file)
    if text.lstrip().startswith("{"):
        return decrypt_keystore(text, _passphrase(file) if passphrase is None else passphrase, file)
    if file.stat().st_mode & 0o077 and os.name == "posix":
        raise ConfigError(f"others can read the key file {file}: run chmod 600 on it, and move its funds if they did")
    digits = text.strip().removeprefix("0x")
    try:
        key = bytes.fromhex(digits)
    except ValueError:
        key = b""
    if len(key) != 32:
        # `from None` above all: a traceback must not quote the file.
        raise ConfigError(f"{file} is neither a keystore nor a key of 64 hexadecimal digits") from None
    return _account(key, file)


def owner_account(path: Path | str | None = None) -> LocalAccount:
    """The data scientist's account: in this file, else in SONAR_ACCOUNT's, else in accounts/owner.key in the home."""
    return load_account(path or os.environ.get("SONAR_ACCOUNT") or home() / "accounts" / "owner.key")


def read_keystore(path: Path | str) -> dict[str, Any] | None:
    """The fields of a keystore file, as anybody may read them, names in small letters; None for a raw key file.

    Raises ConfigError for a file that cannot be read, or is neither.
    """
    text = _read(Path(path))
    if not text.lstrip().startswith("{"):
        return None
    try:
        return dict(_lowered(json.loads(text)))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"the keystore {path} is not valid JSON") from error


def write_over(path: Path, text: str) -> None:
    """Puts a keystore in the place of the file of the same key, in one step and for its owner only."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    _write(part, text)
    part.replace(path)


def _free(path: Path | str) -> Path:
    file = Path(path)
    if file.exists() or file.is_symlink():
        raise ConfigError(f"{file} exists: a key is never overwritten, move it away or choose another path")
    return file


def _write(file: Path, text: str) -> None:
    """Writes a new file in one step: complete or not at all, and never over another one."""
    part = file.with_name(f".{file.name}.{secrets.token_hex(8)}.part")
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            os.link(part, file)
        finally:
            part.unlink()
    except FileExistsError as error:
        raise ConfigError(f"{file} exists: a key is never overwritten, choose another path") from error
    except OSError as error:
        raise ConfigError(f"the key file {file} cannot be written: {error.strerror}") from error


def _read(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            data = stream.read(_LARGEST_FILE + 1)
    except FileNotFoundError as error:
        raise ConfigError(f"no account file at {file}: create one, or give the path of yours") from error
    except OSError as error:
        raise ConfigError(f"the account file {file} cannot be read: {error.strerror}") from error
    try:
        if len(data) <= _LARGEST_FILE:
            return data.decode("ascii")
    except UnicodeDecodeError:
        pass
    raise ConfigError(f"{file} is neither a keystore nor a key of 64 hexadecimal digits")


def given_passphrase() -> str | None:
    """SONAR_PASSPHRASE, else the first line of the file that SONAR_PASSPHRASE_FILE names; None where neither is set.

    Raises ConfigError, which holds nothing of the file, where it cannot be read.
    """
    words = os.environ.get(_PASSPHRASE_VARIABLE)
    if words is not None or not (place := os.environ.get(_PASSPHRASE_FILE_VARIABLE)):
        return words
    try:
        with Path(place).open("rb") as stream:
            line = stream.readline(_LARGEST_FILE)
        return line.decode().rstrip("\r\n")
    except OSError as error:
        raise ConfigError(
            f"the passphrase file {place}, which {_PASSPHRASE_FILE_VARIABLE} names, cannot be read: {error.strerror}"
        ) from error
    except UnicodeDecodeError:
        raise ConfigError(f"the passphrase file {place} does not begin with a line of UTF-8 text") from None


def _passphrase(file: Path) -> str:
    words = given_passphrase()
    if words is None:
        if not sys.stdin.isatty():
            raise ConfigError(
                f"the keystore {file} needs its passphrase: set {_PASSPHRASE_FILE_VARIABLE} to a file that starts with "
                f"it, or {_PASSPHRASE_VARIABLE} to itself"
            )
        words = getpass(f"Passphrase of {file}: ")
    return words


def _lowered(tree: Any) -> Any:
    """The keystore with the names of its fields in small letters, which are capital in some programs' files."""
    return {name.lower(): _lowered(value) for name, value in tree.items()} if isinstance(tree, dict) else tree


def _check_work(crypto: dict[str, Any], name: Path | str) -> None:
    """Raises ConfigError for a stretching that a crafted file could ask for: hours of it, or all of the memory."""
    params = crypto["kdfparams"]
    limits = {"dklen": 32} | (_SCRYPT_LIMITS if crypto["kdf"] == "scrypt" else {"c": 10_000_000})
    for field, most in limits.items():
        if type(params[field]) is not int or not 0 < params[field] <= most:
            raise ConfigError(f"the keystore {name} wants {params[field]!r:.40} as its {field}: at most {most} is safe")
    if "n" in limits and params["n"] * params["r"] * params["p"] > _MOST_SCRYPT_WORK:
        raise ConfigError(f"the keystore {name} takes too long to open: do not use it")


def _account(key: bytes, file: Path | str | None = None) -> LocalAccount:
    try:
        account: LocalAccount = Account.from_key(key)
    except ValueError:
        raise ConfigError(f"{file} holds a number that is no private key") from None
    return account
