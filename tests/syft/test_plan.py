"""Plans of a map: whichever is chosen, trained weights are no less exact than with the square one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsule.secret import decrypt
from sonar.syft import AffineMap, EncodingOverflowError, apply_map, encrypt
from sonar.syft.plan import Square, Thin, _inverses, plan_map

MAP_BITS, FACTOR_BITS = 11, 14


def _change(features: int, rank: int, level: float = 0.0, seed: int = 1, *, symmetric: bool = True) -> np.ndarray:
    """A - I with `rank` eigenvalues between -1 and 0 and the others at `level`."""
    rng = np.random.default_rng(seed)
    left = np.linalg.qr(rng.normal(size=(features, features)))[0]
    values = np.full(features, level)
    values[:rank] = -rng.uniform(0, 1, rank)
    right = left if symmetric else np.linalg.qr(rng.normal(size=(features, features)))[0]
    change = (left * values) @ right.T
    return (change + change.T) / 2 if symmetric else change


def _error(change: np.ndarray, matrix: np.ndarray) -> float:
    return float(np.abs(matrix / 2.0 ** (MAP_BITS + FACTOR_BITS) - change).sum(axis=1).max())


@given(
    features=st.integers(1, 120),
    rank=st.integers(0, 40),
    level=st.sampled_from([0.0, -1.0, -0.37, -1e-4]),
    seed=st.integers(0, 99),
    symmetric=st.booleans(),
)
def test_no_plan_is_less_exact_than_rounding_the_matrix(features, rank, level, seed, symmetric):
    if not symmetric:
        level = 0.0
    change = _change(features, min(rank, features), level, seed, symmetric=symmetric)
    plan = plan_map(change, MAP_BITS, FACTOR_BITS)
    square = plan_map(change, MAP_BITS)
    assert isinstance(square, Square)
    allowed = _error(change, square.change * 2.0**FACTOR_BITS)
    if isinstance(plan, Thin):
        assert _error(change, plan.matrix) <= allowed
        assert plan.cost < 0.8 * Square(square.change, MAP_BITS, FACTOR_BITS).cost
        assert plan.reach == [int(total) for total in np.abs(_exact(plan)).sum(axis=1)]
    else:
        assert (plan.change == square.change).all()
        assert plan.shift == FACTOR_BITS


@pytest.mark.parametrize("level", [0.0, -1.0, -0.25])
@pytest.mark.parametrize("rank", [1, 8])
def test_few_eigenvalues_away_from_the_rest_make_thin_factors(level, rank):
    plan = plan_map(_change(200, rank, level), MAP_BITS, FACTOR_BITS)
    assert isinstance(plan, Thin)
    assert plan.rank <= rank
    assert abs(plan.diagonal / 2.0 ** (MAP_BITS + FACTOR_BITS) + level) < 1e-3


def test_a_matrix_that_is_a_multiple_of_the_identity_keeps_one_inner_row():
    plan = plan_map(-np.eye(64), MAP_BITS, FACTOR_BITS)
    assert isinstance(plan, Thin)
    assert plan.rank == 1
    np.testing.assert_allclose(plan.matrix, -np.eye(64) * 2.0 ** (MAP_BITS + FACTOR_BITS))


def test_full_rank_small_matrices_and_no_spare_bits_stay_square():
    spread = _change(100, 100)
    for change, factor_bits in ((spread, 14), (_change(20, 1), 14), (_change(200, 4), 0), (_change(200, 4), 3)):
        assert isinstance(plan_map(change, MAP_BITS, factor_bits), Square)


def test_a_matrix_that_is_not_finite_or_too_large_is_refused():
    for bad in (np.nan, np.inf, 1e6):
        with pytest.raises(EncodingOverflowError):
            plan_map(np.full((40, 40), bad), MAP_BITS, FACTOR_BITS)


@pytest.mark.parametrize("level", [0.0, -1.0, -0.25])
@pytest.mark.parametrize("outputs", [2, 9])
def test_a_thin_map_of_ciphertexts_is_exactly_its_matrix(level, outputs, secret, key, obfuscator):
    """The same as in integers, with one and with several column blocks; and near the map in floats."""
    features, scale, width = 40, 20, 72
    rng = np.random.default_rng(3)
    change, constant = _change(features, 3, level), rng.normal(size=(features, outputs))
    weights = rng.integers(-(1 << scale), 1 << scale, size=(features, outputs))
    model = encrypt(weights, key, obfuscator, slot_width=width, scale=scale, bound=1 << scale)
    bits = MAP_BITS + FACTOR_BITS
    gradient = apply_map(
        AffineMap(change, constant),
        model,
        map_bits=MAP_BITS,
        factor_bits=FACTOR_BITS,
        gradient_bound=(1 << (scale + bits + 8)) - 1,
        obfuscator=obfuscator,
    )
    assert gradient.scale == scale + bits
    plan = plan_map(change, MAP_BITS, FACTOR_BITS)
    assert isinstance(plan, Thin)
    expected = _exact(plan) @ weights.astype(object) + np.rint(constant * 2.0 ** (scale + bits)).astype(np.int64)
    decrypted = decrypt(secret, gradient)
    assert decrypted.tolist() == expected.tolist()
    trained = decrypted.astype(np.float64) / 2.0 ** (scale + bits)
    np.testing.assert_allclose(trained, change @ (weights / 2**scale) + constant, atol=features * 2.0**-MAP_BITS)


def test_a_square_map_with_spare_bits_is_shifted(secret, key, obfuscator):
    weights = np.array([[3], [-5]])
    model = encrypt(weights, key, obfuscator, slot_width=72, scale=0, bound=5)
    affine = AffineMap(np.array([[-0.5, 0.25], [0.25, -0.5]]), np.array([[1.0], [2.0]]))
    gradient = apply_map(affine, model, map_bits=2, factor_bits=3, gradient_bound=1 << 20, obfuscator=obfuscator)
    expected = (affine.change @ weights + affine.constant) * 2**5
    assert decrypt(secret, gradient).tolist() == expected.tolist()


def test_progress_of_a_thin_map_rises_to_one(key, obfuscator):
    plan = plan_map(_change(64, 3), MAP_BITS, FACTOR_BITS)
    assert isinstance(plan, Thin)
    told: list[float] = []
    plan.apply(obfuscator.engine, obfuscator.samples(64), key.n, told.append)
    assert told == sorted(told)
    assert told[-1] == 1.0


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 13])
def test_a_tree_of_products_inverts_all_at_once(count, key, obfuscator):
    elements = obfuscator.samples(count)
    inverses = _inverses(obfuscator.engine, elements, key.n)
    assert inverses == [pow(element, -1, key.n_squared) for element in elements]


def _exact(plan: Thin) -> np.ndarray:
    identity = np.eye(len(plan.left), dtype=np.int64).astype(object)
    return (plan.left.astype(object) @ plan.right.astype(object)) * (1 << plan.shift) - plan.diagonal * identity


@pytest.mark.parametrize(("norm", "bits"), [(1.0, 11), (2.0, 12)])
def test_the_work_of_a_square_map_depends_on_the_kind_of_schedule_only(norm, bits):
    class Told(Exception):
        pass

    class Listener:
        def linear_map(self, *_, bits, progress):
            raise Told(bits)

    for change in (-np.eye(40), np.zeros((40, 40)), norm * np.eye(40) - np.eye(40), -norm * np.eye(40)):
        with pytest.raises(Told, match=f"^{bits}$"):
            plan_map(change, MAP_BITS, norm=norm).apply(Listener(), [1] * 40, 15)


def test_a_thin_map_leaves_as_fresh_ciphertexts_every_time(key, obfuscator):
    model = encrypt(np.ones((40, 2), np.int64), key, obfuscator, slot_width=72, scale=0, bound=1)
    affine = AffineMap(_change(40, 3), np.zeros((40, 2)))
    assert isinstance(plan_map(affine.change, MAP_BITS, FACTOR_BITS), Thin)
    first, second = (
        apply_map(
            affine, model, map_bits=MAP_BITS, factor_bits=FACTOR_BITS, gradient_bound=1 << 40, obfuscator=obfuscator
        ).ciphertexts
        for _ in "12"
    )
    assert not set(first) & set(second)


@given(sharpness=st.floats(0.5, 4), rank=st.integers(1, 12), seed=st.integers(0, 99))
def test_no_plan_is_less_exact_where_few_rows_hold_everything(sharpness, rank, seed):
    """The average row is then far more exact than the worst one, which is what counts."""
    rng = np.random.default_rng(seed)
    left = np.linalg.qr(rng.normal(size=(150, rank)) * np.exp(-sharpness * np.arange(150) / 10)[:, None])[0]
    change = -(left * rng.uniform(0.2, 1, rank)) @ left.T
    change = (change + change.T) / 2
    plan = plan_map(change, MAP_BITS, FACTOR_BITS)
    if isinstance(plan, Thin):
        square = plan_map(change, MAP_BITS)
        assert isinstance(square, Square)
        assert _error(change, plan.matrix) <= _error(change, square.change * 2.0**FACTOR_BITS)


def test_sums_that_float64_would_round_are_left_to_the_square_map():
    change = _change(200, 4)
    assert isinstance(plan_map(change, 20, 16), Thin)
    assert isinstance(plan_map(change, 20, 17), Square)
