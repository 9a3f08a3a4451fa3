"""Keys that anyone can factor, made once: large enough for several slots, small enough for many examples."""

import pytest

from capsule.secret import SecretKey, generate_key
from sonar.syft import Engine, Obfuscator, PublicKey
from sonar.syft.engines import ENGINES, get_engine, why_unusable


@pytest.fixture(scope="session")
def secret() -> SecretKey:
    return generate_key(512, allow_insecure_small_key=True)


@pytest.fixture(scope="session")
def key(secret: SecretKey) -> PublicKey:
    return secret.public


@pytest.fixture(scope="session", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    """Every engine that works on this machine; what is done with it must be the same with all."""
    reason = why_unusable(request.param)
    if reason is not None:
        pytest.skip(f"the engine {request.param} cannot be used: {reason}")
    return get_engine(request.param)


@pytest.fixture(scope="session")
def obfuscator(key: PublicKey, engine: Engine) -> Obfuscator:
    return Obfuscator(key, engine=engine)


@pytest.fixture(scope="session")
def other_secret() -> SecretKey:
    return generate_key(512, allow_insecure_small_key=True)
