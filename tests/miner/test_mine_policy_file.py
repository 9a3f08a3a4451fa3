"""The policy file: read strictly, with the line of a mistake, and written with every setting explained."""

import tomllib

import pytest

from mine.errors import PolicyError
from mine.policy import Policy
from mine.policy.lines import line_of

ADDRESS = "0x" + "ab" * 20


@pytest.fixture
def load(tmp_path):
    def read(text):
        file = tmp_path / "policy.toml"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return Policy.load(file)

    return read


def test_an_empty_file_holds_the_defaults_and_a_missing_one_nothing(tmp_path, load):
    assert load("") == Policy()
    with pytest.raises(PolicyError, match=r"there is no policy .*none.toml: put it back, or make an empty file"):
        Policy.load(tmp_path / "none.toml")


def test_the_template_explains_every_setting_and_says_its_default(load):
    text = Policy.template()
    assert load(text) == Policy()
    settings = [line.removeprefix("# ") for line in text.splitlines() if " = " in line or line.startswith("[")]
    fixed = "\n".join(settings[: next(at for at, line in enumerate(settings) if line.startswith('owners = ["0x'))])
    assert load(fixed) == Policy()
    written = tomllib.loads(fixed)
    for table in ("accept", "data", "money", "work", "privacy"):
        assert set(written[table]) == set(type(getattr(Policy(), table)).model_fields)
        for setting, field in type(getattr(Policy(), table)).model_fields.items():
            assert len(field.description) > 20, setting


def test_a_whole_policy_is_read(load):
    policy = load(f"""
[accept]
owners = ["{ADDRESS}"]
purposes = ["research"]
approval = true
[data]
min_records = 500
[datasets.clinic]
purposes = ["research"]
[datasets."last year's"]
campaigns = ["0x{"12" * 32}"]
[money]
max_gas_gwei = 30
[work]
hours = ["22:00-06:00", "sat,sun 00:00-24:00"]
[committees.{ADDRESS}]
members = ["0x{"cd" * 20}"]
threshold = 1
""")
    assert policy.accept.owners == [ADDRESS]
    assert policy.money.highest_gas_price == 30 * 10**9
    assert set(policy.datasets) == {"clinic", "last year's"}
    assert policy.committee(ADDRESS.upper().replace("X", "x")).threshold == 1
    assert policy.changed()["data"] == {"min_records": 500}
    assert policy.digest != Policy().digest


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("[accept]\nmin_mines = 0", 2,
         "`min_mines` in [accept] must be at least 1 (got 0); write for example: min_mines = 2"),
        ("\n\n[accept]\n# one\nowners = [\n  'Alice',\n]", 5,
         '`owners` in [accept] must be 0x and 40 hexadecimal digits (got "Alice"); write for example: owners = ["0x'),
        ("[privacy]\nmode = true", 2, "`mode` in [privacy] must be 'off' or 'on' (got true); write: mode = \"on\""),
        ("[privacy]\nmode = 'False'", 2, "must be 'off' or 'on' (got \"False\"); write: mode = \"off\""),
        ("[money]\nmax_bond = 'lots'", 2, """`max_bond` in [money] cannot be: 'lots' is not an amount of
 ether: give a plain number like 1.5 (got "lots"); write for example: max_bond = "0.01\"""".replace("\n", "")),
        ("[money]\nmax_bond = 1", 2, "`max_bond` in [money] must be text (got 1)"),
        ("money.max_bond = '-1'", 1, "`max_bond` in [money] cannot be: '-1' ether is not a whole, non-negative"),
        ("money = {max_gas_gwei = 0}", 1, "`max_gas_gwei` in [money] must be more than 0.0 (got 0)"),
        ("[work]\nhours = ['10-12']", 2, "`hours` in [work] cannot be: '10-12' are no hours: write them like"),
        ("[work]\nlongest_training = 'soon'", 2, "'soon' is not a duration: write it like 90s, 30m, 2h or 1h30m"),
        ("[data]\non_bad_records = 'ignore'", 2, "`on_bad_records` in [data] must be 'refuse' or 'drop'"),
        ("[data]\nmin_records = 10.5", 2, "`min_records` in [data] must be a whole number (got 10.5)"),
        ("[accept]\napproval = 'yes'", 2, "`approval` in [accept] must be true or false"),
        ("[datasets.clinic]\ncampaigns = ['0x12']", 2,
         "`campaigns` in [datasets.clinic] must be 0x and 64 hexadecimal digits"),
        ("[privacy]\nepsilon = 0", 2, "`epsilon` in [privacy] must be more than 0.0 (got 0); write for example: eps"),
        ("[privacy]\nbudget = 0.5", 1, "[privacy] cannot be: a budget of 0.5 does not buy one statistic of epsilon 1"),
        ("accept = 3", 1, "[accept] must be a table: write its name in brackets on a line of its own"),
        ("[datasets]\nclinic = true", 2, "[datasets.clinic] must be a table"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_file_line_setting_value_and_what_to_write(load, tmp_path, text, line, says):
    with pytest.raises(PolicyError) as caught:
        load(text)
    assert str(caught.value).startswith(f"{tmp_path / 'policy.toml'}, line {line}: ")
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("min_records = 20", 1, "the setting `min_records` stands in the table [data]: write it below a line [data]"),
        ("# mine\ntokens = []", 2, "the setting `tokens` stands in the table [money]"),
        ("[work]\nmax_bond = '1'", 2, "the setting `max_bond` stands in the table [money]"),
        ("[data]\nmin_record = 20", 2, "there is no setting `min_record`: did you mean `min_records`?"),
        ("[moeny]\nmax_bond = '1'", 1, "there is no setting `moeny`: did you mean `money`?"),
        ("[committees." + ADDRESS + "]\nmembers = ['" + ADDRESS + "']\nthreshold = 1\ncolour = 1", 4, "`colour`"),
    ],
)
def test_a_setting_that_is_not_there_is_told_with_the_one_that_is(load, text, line, says):
    with pytest.raises(PolicyError, match=f"line {line}: ") as caught:
        load(text)
    assert says in str(caught.value)


def test_the_value_of_an_unknown_setting_is_not_shown(load):
    with pytest.raises(PolicyError) as caught:
        load("private_key = '0x1234567890'")
    assert "1234567890" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"\xff\xfe", "is not TOML"),
        (b"#" * (1 << 20) + b"#", "more than 1048576 bytes"),
    ],
)
def test_a_file_that_cannot_be_read_is_told(load, text, says):
    with pytest.raises(PolicyError, match=says):
        load(text)


SLIPS = [
    ("[money]\nmax_bond = ", 2, "the value cannot be read"),
    ("[money]\nmax_bond = ether", 2, 'the value cannot be read: write text in quotes ("0.01")'),
    ("[accept]\napproval = True", 2, "true or false in small letters"),
    ("[accept]\napproval = yes", 2, "true or false in small letters"),
    ("[money]\nmax_bond = “0.1”", 2, "the quotes are those of a text program"),
    ("[money]\nmax_bond = 0,01", 2, "what follows the value does not belong there"),
    ("[work]\nhours = 22:00-06:00", 2, "what follows the value does not belong there"),
    ("[money]\nmax_bond = '1'\nmax_bond = '2'", 3, "this setting is there twice: leave one of them"),
    ("[privacy]\nmode = 'on'\n\n[privacy]\n", 4, "the table [privacy] is there already: put all of its settings below"),
    ("[datasets.'a b']\n[datasets.'a b']", 2, "the table [datasets.a b] is there already"),
    ("[money]\nmax_bond '0.1'", 2, "the sign = is missing"),
    ("max bond", 1, "the sign = is missing"),
    ("= 3", 1, "this is neither a setting nor the name of a table"),
    ("[money\nmax_bond = '1'", 1, "the name of a table has no ] at its end"),
    ("[work]\nhours = ['22:00-06:00'\nthreads = 1", 3, "a list here or above has no ] at its end"),
    ("[money]\nmax_bond = '0.1\n", 2, "a text has no quote at its end"),
    ('[money]\nmax_bond = "0.1\n', 2, "a text has no quote at its end"),
    ('[accept]\npurposes = ["c:\\users"]', 2, "is written twice"),
    ("[money]\nmax_bond = {a = 1\n}", 2, "it is not TOML: Unclosed inline table"),
]


@pytest.mark.parametrize(("text", "line", "says"), SLIPS)
def test_a_slip_of_the_pen_is_told_with_its_line_and_what_is_expected(load, tmp_path, text, line, says):
    with pytest.raises(PolicyError) as caught:
        load(text)
    assert str(caught.value).startswith(f"{tmp_path / 'policy.toml'}, line {line}: ")
    assert says in str(caught.value)


def test_a_file_that_an_editor_marked_as_unicode_is_read(load):
    assert load(b"\xef\xbb\xbf[data]\r\nmin_records = 7\r\n").data.min_records == 7


def test_a_table_for_a_data_set_that_is_not_there_is_told_with_the_nearest_that_is(tmp_path):
    path = tmp_path / "policy.toml"
    path.write_text("[data]\n\n[datasets.clinc]\npurposes = ['research']\n")
    with pytest.raises(PolicyError) as caught:
        Policy.load(path, ["ward", "clinic"])
    assert str(caught.value) == (
        f"{path}, line 3: [datasets.clinc] is for a data set that is not there, so it restricts none: "
        "did you mean [datasets.clinic]?"
    )
    with pytest.raises(PolicyError, match="restricts none: there are scans, ward"):
        Policy.load(path, ["ward", "scans"])
    assert Policy.load(path, ["clinc", "ward"]).dataset("clinc") is not None
    assert Policy.load(path).without_dataset([]) == ["clinc"], "before anything is added nobody can tell"


def test_a_directory_is_no_policy(tmp_path):
    with pytest.raises(PolicyError, match="cannot be read"):
        Policy.load(tmp_path)


LINES = """# a comment = 1
[a]  # the table
x = 1
y = [
  1, 2,
]
[b . "k=v"]
z = "a = b"
["c"]
"d".e = 2
[n]
m.o = 5
[[list]]
p = 1"""


@pytest.mark.parametrize(
    ("place", "line"),
    [
        (("a", "x"), 3), (("a", "y", 1), 4), (("b", "k=v", "z"), 8), (("b",), None), (("c", "d", "e"), 10),
        (("q",), None), (("a",), 2), (("a", "missing"), 2), (("n", "m", "o"), 12), (("list", 0, "p"), 13),
    ],
)  # fmt: skip
def test_the_line_of_a_setting_is_found_however_it_is_written(place, line):
    tomllib.loads(LINES)
    assert line_of(LINES, place) == line
