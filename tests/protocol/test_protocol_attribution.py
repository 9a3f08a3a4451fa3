"""Mines' shares and parts on the wire: exact, in one form only, and refused where they cannot be a campaign's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load, save

from sonar import canonical
from sonar.protocol.attribution import (
    PAGE_BYTES,
    SHARE_STEP,
    Parts,
    Shares,
    decode_parts,
    decode_shares,
    encode_parts,
    encode_shares,
    in_page,
)
from sonar.protocol.errors import ProtocolError, SpecError
from sonar.protocol.spec import Feature, Payout, Spec
from sonar.units import Address

SPEC = Spec.build(
    name="demo", features=(Feature(name="a"), Feature(name="b")), classes=("x", "y"), payout=Payout(target=900_000)
)
ONE, OTHER = Address("0x" + "11" * 20), Address("0x" + "22" * 20)
SCALE = SPEC.encoding.gradient_scale + 10


def parts(**changes):
    values = np.array([[1, -1], [2**99, -(2**99)], [0, 2**62]], dtype=object)
    start = np.array([[5, -5], [0, 1], [2, 3]])
    fields = {"start": start, "scale": SCALE, "versions": 2, "mines": 3, "accounts": (ONE, OTHER),
              "values": (values, -values)}  # fmt: skip
    return Parts(**{**fields, **changes})


def changed(**tensors):
    return save({**load(encode_parts(parts())), **tensors})


@given(st.lists(st.integers(-(2**124) + 1, 2**124 - 1), min_size=12, max_size=12))
def test_parts_survive_their_own_bytes_to_the_last_bit(numbers):
    values = np.array(numbers, dtype=object).reshape(2, 3, 2)
    found = decode_parts(encode_parts(parts(values=tuple(values))), SPEC)
    assert (np.array(found.values) == values).all()
    assert (found.start == parts().start).all()
    assert (found.scale, found.versions, found.mines, found.accounts) == (SCALE, 2, 3, (ONE, OTHER))


def test_a_page_may_be_empty():
    found = decode_parts(encode_parts(parts(accounts=(), values=(), mines=0, versions=0)), SPEC)
    assert (found.accounts, found.values) == ((), ())


def test_an_integer_that_does_not_fit_is_not_written():
    with pytest.raises(ValueError, match="124 bits"):
        encode_parts(parts(values=(np.full((3, 2), 2**124, dtype=object),) * 2))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a readable"),
        (changed(extra=np.zeros(1)), "exactly the tensors"),
        (changed(start=np.zeros((2, 2), dtype=np.int64)), "have shapes"),
        (changed(low=np.full((2, 3, 2), -1)), "another form"),
        (changed(high=np.full((2, 3, 2), 2**62)), "another form"),
        (changed(start=np.full((3, 2), -(2**63))), "outside the spec's bound"),
        (changed(numbers=np.array([SCALE, 2, 1])), "none of a campaign"),
        (changed(numbers=np.array([10**6, 2, 3])), "none of a campaign"),
        (changed(accounts=np.full((2, 20), 7, dtype=np.uint8)), "ascending"),
    ],
)
def test_parts_that_no_campaign_has_are_refused(data, message):
    with pytest.raises(ProtocolError, match=message):
        decode_parts(data, SPEC)


def test_shares_survive_their_own_bytes():
    shares = Shares(((ONE, 1_201_000), (OTHER, -200_000)), -1_000)
    assert decode_shares(encode_shares(shares)) == shares
    assert decode_shares(encode_shares(Shares((), 0))) == Shares((), 0)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (b"{}", "not valid"),
        (b"nothing", "cannot be read"),
        (canonical.dumps({"mines": [], "rounding": 1}), "sum to 1"),
        (canonical.dumps({"mines": [{"mine": ONE, "ppm": 5}], "rounding": 5}), "sum to 10"),
        (canonical.dumps({"mines": [{"mine": "0xabc", "ppm": 1_000_000}], "rounding": 0}), "checksummed"),
        (canonical.dumps({"mines": [{"mine": ONE, "ppm": 999_999}], "rounding": 1}), "no multiple of 1000"),
        (canonical.dumps({"mines": [{"mine": ONE, "ppm": 1.5}], "rounding": 0}), "not valid"),
        (canonical.dumps({"mines": [{"mine": one, "ppm": 500_000} for one in (OTHER, ONE)], "rounding": 0}),
         "ascending"),
    ],
)  # fmt: skip
def test_shares_that_no_campaign_has_are_refused(told, message):
    with pytest.raises(ProtocolError, match=message):
        decode_shares(told)


def test_as_many_mines_come_at_once_as_take_a_page_and_at_least_one():
    assert in_page(SPEC) * 16 * 6 <= PAGE_BYTES
    large = Spec.build(**{**dict(SPEC), "features": tuple(Feature(name=f"f{i}") for i in range(2047)),
                          "classes": tuple(f"c{i}" for i in range(256))})  # fmt: skip
    assert in_page(large) == 1


def test_a_spec_says_only_that_parts_are_open():
    open_ = Spec.build(**{**dict(SPEC), "attribution": "open"})
    assert b"attribution" not in SPEC.to_bytes()
    assert b'"attribution":"open"' in open_.to_bytes()
    assert Spec.parse(open_.to_bytes()) == open_
    written = SPEC.to_bytes().replace(b'"classes"', b'"attribution":"validation","classes"')
    with pytest.raises(SpecError, match="not in canonical form"):
        Spec.parse(written)


def added_up(seed, step, campaigns, unlike):
    """How far off an owner is who asks about one mine's gradient by another row in each campaign, relatively."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(5, 3))
    mine = common + rng.normal(scale=unlike, size=(5, 3))
    questions, answers = [], []
    for _ in range(campaigns):
        other, row = common + rng.normal(scale=unlike, size=(5, 3)), rng.normal(size=5)
        pull = np.outer(row, row @ (mine + other))
        whole = ((mine + other) * pull).sum()
        share = step * round((mine * pull).sum() / whole * 1_000_000 / step) / 1_000_000
        questions.append(pull.ravel())
        answers.append(share * whole)
    found = np.linalg.lstsq(np.array(questions), np.array(answers), rcond=None)[0].reshape(5, 3)
    return np.linalg.norm(found - mine) / np.linalg.norm(mine)


@pytest.mark.parametrize(
    ("step", "campaigns", "unlike", "told"),
    [(1, 20, 0.05, 3e-5), (SHARE_STEP, 20, 0.05, 0.039), (SHARE_STEP, 60, 0.05, 0.015),
     (SHARE_STEP, 200, 0.05, 0.009), (SHARE_STEP, 20, 0.3, 0.008)],
)  # fmt: skip
def test_answers_of_many_campaigns_add_up_to_a_gradient_as_the_document_says(step, campaigns, unlike, told):
    errors = [added_up(seed, step, campaigns, unlike) for seed in range(20)]
    assert np.median(errors) == pytest.approx(told, rel=0.1)
