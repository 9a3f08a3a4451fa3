"""Creating a campaign: what is published, what is believed, and what a crash leaves behind."""

import json
from dataclasses import replace

import numpy as np
import pytest
from eth_account import Account

import pysonar
from capsule.client import CapsuleClient
from capsule.errors import CapsuleReplyError
from pysonar.errors import (
    AdmissionMismatchError,
    CampaignError,
    FewRecordsWarning,
    TermsError,
    UnknownCampaignError,
    ValidationSetError,
)
from pysonar.models import LinearClassifier
from pysonar.session import Sonar
from sonar.chain import calls
from sonar.chain.errors import ContractRevertError, RpcUnavailableError, UnfundedAccountError, WrongChainError
from sonar.chain.records import Status
from sonar.errors import ConfigError, SonarError
from sonar.protocol.errors import SignatureError, SpecError
from sonar.protocol.messages import Domain
from sonar.syft import PublicKeyError
from sonar.units import Address, digest_of, ether
from sonar.wallet import create_key_file


def test_a_campaign_publishes_exactly_what_was_asked(stage):
    start = np.round(np.random.default_rng(3).normal(size=(5, 3)), 3)
    model = LinearClassifier(4, 3, offset=0.5, scale=2, weights=start)
    campaign = stage.campaign(model=model, target=1.0, name="Irises", training={"epochs": 5}, payout={"base": "gain"})
    admitted = stage.capsule.admitted
    np.testing.assert_array_equal(admitted["weights"], np.rint(start * 2**24).astype(int))
    np.testing.assert_array_equal(admitted["features"], stage.validation[0])
    np.testing.assert_array_equal(admitted["labels"], stage.validation[1])
    spec = admitted["spec"]
    assert (spec.name, spec.training.epochs, spec.payout.base, spec.payout.target) == ("Irises", 5, "gain", 1_000_000)
    assert [feature.scale for feature in spec.features] == [2.0] * 4
    assert campaign.spec == spec
    record = campaign.record
    assert record.status is campaign.status is Status.RUNNING
    assert record.terms.bounty == ether(1)
    assert record.owner == stage.owner.address
    assert campaign.score == record.score / 1e6


def test_what_mines_are_told_of_the_inputs_is_published(stage):
    stage.campaign(
        model=LinearClassifier(4, 3), purpose="sorting flowers", licence="CC-BY-4.0", image={"width": 2, "height": 2},
        columns={"x1": {"unit": "cm", "minimum": 0, "maximum": 9.5}, "x3": {"type": "boolean"}},
    )  # fmt: skip
    spec = stage.capsule.admitted["spec"]
    assert (spec.purpose, spec.licence, spec.image.features) == ("sorting flowers", "CC-BY-4.0", 4)
    assert [(f.type, f.unit, f.minimum, f.maximum) for f in spec.features] == [
        ("number", "", None, None), ("number", "cm", 0.0, 9.5), ("number", "", None, None), ("boolean", "", None, None),
    ]  # fmt: skip


def test_an_untrained_model_starts_at_the_share_of_the_first_class(stage):
    campaign = stage.campaign()
    assert campaign.record.start_score == 333_333
    assert f"{campaign!r}" == f"Campaign(0x{campaign.id.hex()})"
    shown = campaign._repr_html_()
    assert "33.33%" in shown
    assert "90.00%" in shown


def test_the_stored_start_model_holds_no_plaintext(stage):
    stage.campaign(model=LinearClassifier(4, 3, weights=np.ones((5, 3))))
    first = stage.capsule.admitted["model"].ciphertexts
    stage.campaign(model=LinearClassifier(4, 3, weights=np.ones((5, 3))))
    assert not set(first) & set(stage.capsule.admitted["model"].ciphertexts)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"columns": {"size": {"unit": "cm"}}}, TermsError),
        ({"columns": {"x1": {"scale": 2.0}}}, TermsError),
        ({"columns": {"x1": {"colour": "red"}}}, SpecError),
        ({"columns": {"x1": {"minimum": 3, "maximum": 2}}}, SpecError),
        ({"image": {"width": 3, "height": 2}}, SpecError),
        ({"bounty": 0}, TermsError),
        ({"bounty": 1.5}, TermsError),
        ({"target": 92}, TermsError),
        ({"deadline": -1}, TermsError),
        ({"payout": {"target": 5}}, TermsError),
        ({"model": "a network"}, TermsError),
        ({"validation": (np.zeros((30, 9)), np.zeros(30))}, CampaignError),
        ({"bounty": ether(1000)}, UnfundedAccountError),
        ({"rounds": {"round_size": 1}}, SpecError),
        ({"rounds": {"speed": 1}}, SpecError),
        ({"training": {"rate": 2.0}}, SpecError),
        ({"name": ""}, SpecError),
        ({"target_column": "x1"}, SpecError),
    ],
)
def test_what_cannot_work_is_refused_before_the_capsule_is_asked(stage, change, error):
    with pytest.raises(error):
        stage.campaign(**change)
    assert stage.capsule.requests == []


def test_a_validation_set_that_is_too_large_is_refused_before_a_key_is_asked_for(stage, monkeypatch):
    monkeypatch.setattr("sonar.protocol.payloads.MAX_VALIDATION_SCORES", 87)
    with pytest.raises(ValidationSetError, match="30 records, above the limit of 29 for 4 features and 3 classes"):
        stage.campaign()
    assert stage.capsule.requests == []


def test_an_unfunded_account_is_told_so_before_a_key_is_used(stage):
    poor = stage.session(stage.new_account(ether("0.5")))
    with pytest.raises(UnfundedAccountError, match=r"holds 0\.5 ether, but the bounty is 1:"):
        poor.create_campaign(LinearClassifier(4, 3), stage.validation, ether(1), 0.9, "2h")
    assert stage.capsule.requests == []


@pytest.mark.parametrize(
    ("lies", "error", "says"),
    [
        ({"info": {"address": "0x" + "11" * 20}}, CapsuleReplyError, "the Capsule at http://capsule is 0x1111"),
        ({"info": {"chain_id": 5}}, CapsuleReplyError, "on chain 5"),
        ({"info": {"contract": "0x" + "11" * 20}}, CapsuleReplyError, "serves contract 0x1111"),
        ({"admission": {"spec": digest_of(b"x")}}, AdmissionMismatchError, "admitted spec 0x"),
        ({"admission": {"model": digest_of(b"x")}}, AdmissionMismatchError, "admitted model 0x"),
        ({"admission": {"key": digest_of(b"x")}}, AdmissionMismatchError, "admitted key 0x"),
        ({"admission": {"sealing_key": bytes(32)}}, AdmissionMismatchError, "admitted sealing_key 0x"),
        ({"admission": {"owner": "0x" + "11" * 20}}, AdmissionMismatchError, "admitted owner 0x1111"),
        ({"admission": {"valid_until": 1000}}, AdmissionMismatchError, "valid until 1000"),
        ({"admission": {"start_score": 900_000}}, TermsError, "scores 90.00% already"),
        ({"signer": Account.create()}, SignatureError, "the admission is signed by"),
        ({"refuse": "no more keys today"}, SonarError, "no more keys today"),
    ],
)
def test_a_capsule_that_admits_something_else_gets_no_bounty(stage, lies, error, says):
    sonar = stage.session(**lies)
    with pytest.raises(error) as caught:
        sonar.create_campaign(LinearClassifier(4, 3), stage.validation, ether(1), 0.9, "2h")
    assert says in str(caught.value)
    assert sonar.campaigns() == sonar.resume() == []
    assert sonar.balance() == ether(100)


@pytest.mark.parametrize("path", ["/v1/info", "/v1/keys"])
def test_keys_from_somebody_on_the_way_are_used_for_nothing(stage, path):
    sonar = stage.session(answers_as={path: Account.create()})
    files = sorted(stage.directory.parent.rglob("*"))
    with pytest.raises(CapsuleReplyError, match=f"{path} is not signed by {sonar.oracle}"):
        sonar.create_campaign(LinearClassifier(4, 3), stage.validation, ether(1), 0.9, "2h")
    assert stage.capsule.requests[-1] == path
    assert sorted(stage.directory.parent.rglob("*")) == files, "nothing is encrypted to such a key, nor stored"


def test_a_capsule_client_for_another_account_gets_no_campaign(stage):
    sonar = stage.session()
    for attester, says in ((None, "name its account"), (Address(Account.create().address), "the Capsule at")):
        sonar.capsule = CapsuleClient(
            "http://capsule", sonar.domain, stage.owner, attester=attester, transport=stage.capsule
        )
        with pytest.raises(SonarError, match=says):
            sonar.create_campaign(LinearClassifier(4, 3), stage.validation, ether(1), 0.9, "2h")
    assert "/v1/keys" not in stage.capsule.requests


def test_a_small_key_is_refused_unless_a_test_insists(stage):
    sonar = stage.session()
    sonar._small = False
    with pytest.raises(PublicKeyError, match="512 bits is too small"):
        sonar.create_campaign(LinearClassifier(4, 3), stage.validation, ether(1), 0.9, "2h")


def test_a_capsule_that_is_down_costs_nothing(stage):
    sonar = stage.session()
    sonar.capsule = CapsuleClient("http://127.0.0.1:9", sonar.domain, stage.owner)
    with pytest.raises(SonarError, match="does not answer") as caught:
        sonar.create_campaign(LinearClassifier(4, 3), stage.validation, ether(1), 0.9, "2h")
    assert caught.value.exit_code == 8
    assert sonar.balance() == ether(100)


def test_campaigns_lists_only_this_accounts_and_campaign_finds_anybodys(stage):
    campaign = stage.campaign()
    other = stage.session(stage.new_account())
    assert stage.session().campaigns() == [campaign]
    assert other.campaigns() == []
    for name in (campaign.id, campaign.id.hex(), "0x" + campaign.id.hex()):
        assert other.campaign(name).id == campaign.id
    assert other.campaign(campaign.id).spec == campaign.spec


@pytest.mark.parametrize("wrong", ["0x12", "nothing", b"", 5, "ab" * 32])
def test_an_unknown_campaign_is_said_to_be_unknown(stage, wrong):
    with pytest.raises(UnknownCampaignError):
        stage.session().campaign(wrong)


class _DiesAfterSigning(Exception):
    pass


def _die(*_, **__):
    raise _DiesAfterSigning


def test_a_crash_between_signing_and_sending_is_resumed_and_escrows_once(stage, monkeypatch):
    sonar = stage.session()
    with monkeypatch.context() as patch:
        patch.setattr(sonar.client, "send", _die)
        with pytest.raises(_DiesAfterSigning):
            sonar.create_campaign(LinearClassifier(4, 3), stage.validation, ether(1), 0.9, "2h")
    assert sonar.campaigns() == []
    again = stage.session()
    [campaign] = again.resume()
    assert campaign.status is Status.RUNNING
    assert again.campaigns() == [campaign]
    assert again.resume() == []
    assert ether(98) < again.balance() < ether(99)


def test_a_crash_between_sending_and_the_receipt_is_resumed_without_a_second_escrow(stage, monkeypatch):
    sonar = stage.session()
    with monkeypatch.context() as patch:
        patch.setattr(sonar.client, "wait", _die)
        with pytest.raises(_DiesAfterSigning):
            sonar.create_campaign(LinearClassifier(4, 3), stage.validation, ether(1), 0.9, "2h")
    again = stage.session()
    assert again.resume() == again.campaigns() != []
    assert again.resume() == []
    assert ether(98) < again.balance() < ether(99)


def test_an_escrow_whose_nonce_went_elsewhere_is_forgotten(stage, monkeypatch):
    sonar = stage.session()
    with monkeypatch.context() as patch:
        patch.setattr(sonar.client, "send", _die)
        with pytest.raises(_DiesAfterSigning):
            sonar.create_campaign(LinearClassifier(4, 3), stage.validation, ether(1), 0.9, "2h")
    stage.campaign()
    assert stage.session().resume() == []
    assert list(stage.directory.iterdir()) == []


def test_drafts_are_private_to_account_and_contract_and_hold_no_key(stage, monkeypatch):
    sonar = stage.session()
    with monkeypatch.context() as patch:
        patch.setattr(sonar.client, "send", _die)
        with pytest.raises(_DiesAfterSigning):
            sonar.create_campaign(LinearClassifier(4, 3), stage.validation, ether(1), 0.9, "2h")
    [path] = stage.directory.iterdir()
    assert stage.owner.key.hex() not in path.read_text()
    assert stage.session(stage.new_account()).resume() == []
    assert json.loads(path.read_text())["owner"] == stage.owner.address
    path.write_text("{}")
    with pytest.raises(ConfigError, match="not the draft of a campaign"):
        stage.session().resume()


def test_an_admission_used_twice_or_by_another_account_is_refused_by_the_contract(stage):
    campaign = stage.campaign()
    created = campaign._creation()
    sonar = stage.session()
    signature = sonar.client.sign  # the real client signs only what the contract would take
    call = calls.create_campaign(created.terms, created.admission, b"\x01" * 65, created.spec_cid, created.model_cid)
    with pytest.raises(ContractRevertError):
        signature(call)
    with pytest.raises(ContractRevertError, match="is for"):
        stage.client_for(stage.new_account()).sign(call)


def test_connect_reads_the_network_file_and_the_account_file(stage, tmp_path, monkeypatch):
    path = stage.network.save(tmp_path / "network.json")
    account = create_key_file(tmp_path / "home" / "accounts" / "owner.key")
    monkeypatch.setenv("SONAR_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SONAR_ACCOUNT", raising=False)
    with pysonar.connect(path) as sonar:
        assert sonar.address == account.address
        assert sonar.campaigns() == []
        assert str(sonar.network.chain_id) in repr(sonar)
    other = create_key_file(tmp_path / "other.key")
    monkeypatch.setenv("SONAR_ACCOUNT", str(tmp_path / "other.key"))
    monkeypatch.setenv("SONAR_NETWORK", str(path))
    assert pysonar.connect().address == other.address
    assert pysonar.connect(account=stage.owner).address == stage.owner.address
    assert pysonar.connect(account=tmp_path / "home" / "accounts" / "owner.key").address == account.address
    client = stage.client_for(stage.owner)
    passed = pysonar.connect(
        stage.network,
        chain=client,
        store=stage.capsule.store,
        capsule=CapsuleClient("http://x", Domain(1, client.address)),
    )
    assert isinstance(passed, Sonar)
    lower = stage.network.model_copy(update={"capsule": stage.network.capsule.lower()})
    assert pysonar.connect(lower, account=stage.owner).oracle == stage.network.capsule
    assert passed.client is client


def test_connect_says_what_is_missing_or_wrong(stage, tmp_path, monkeypatch):
    monkeypatch.setenv("SONAR_HOME", str(tmp_path / "home"))
    for name in ("SONAR_NETWORK", "SONAR_ACCOUNT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="no network file"):
        pysonar.connect()
    with pytest.raises(ConfigError, match=r"no account file at .*owner\.key"):
        pysonar.connect(stage.network)
    with pytest.raises(ConfigError, match="names no Capsule"):
        pysonar.connect(stage.network.model_copy(update={"capsule": None}), account=stage.owner)
    with pytest.raises(RpcUnavailableError):
        pysonar.connect(stage.network, account=stage.owner, chain="http://127.0.0.1:9")
    with pytest.raises(WrongChainError):
        pysonar.connect(stage.network.model_copy(update={"chain_id": 5}), account=stage.owner)
    with pytest.raises(ConfigError, match="leave out account"):
        pysonar.connect(stage.network, account=stage.owner, chain=stage.client_for(stage.owner))
    elsewhere = stage.network.model_copy(update={"contract": "0x" + "11" * 20})
    with pytest.raises(ConfigError, match="pass the network that belongs to it"):
        pysonar.connect(elsewhere, chain=stage.client_for(stage.owner))
    with pytest.raises(ConfigError, match="no account to sign with"):
        pysonar.connect(stage.network, chain=stage.client_for(None))


def test_the_spec_on_chain_must_promise_the_terms_on_chain(stage):
    campaign = stage.campaign()
    created = campaign._creation()
    campaign._created = replace(created, terms=replace(created.terms, bond=5))
    with pytest.raises(SpecError, match="the spec promises bond"):
        _ = campaign.spec


def test_the_warning_of_few_records_points_at_the_caller(stage):
    with pytest.warns(FewRecordsWarning, match="30 validation records") as caught:
        stage.campaign()
    assert caught[0].filename.endswith("conftest.py")
