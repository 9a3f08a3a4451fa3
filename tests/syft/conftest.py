"""Keys that anyone can factor, made once: large enough for several slots, small enough for many examples."""

import pytest

from capsule.secret import SecretKey, generate_key
from sonar.syft import Obfuscator, PublicKey


@pytest.fixture(scope="session")
def secret() -> SecretKey:
    return generate_key(512, allow_insecure_small_key=True)


@pytest.fixture(scope="session")
def key(secret: SecretKey) -> PublicKey:
    return secret.public


@pytest.fixture(scope="session")
def obfuscator(key: PublicKey) -> Obfuscator:
    return Obfuscator(key)


@pytest.fixture(scope="session")
def other_secret() -> SecretKey:
    return generate_key(512, allow_insecure_small_key=True)
