"""The access file: both forms, and errors that say where and how to mend it."""

import pytest

from trtserve.errors import ConfigurationError, OperatorError
from trtserve.security.access import ANONYMOUS, Kind, Proof
from trtserve.security.access_file import MAX_FILE_BYTES, parse_access, read_access
from trtserve.security.rates import Rate
from trtserve.security.tokens import hash_of

YAML = f"""
callers:
  - name: vision
    tokens: [{hash_of("v")}]
    models: [det, "ocr-*"]
    allow: [infer]
    rate:
      requests_per_second: 100
  - name: ops
    certificates: [spiffe://cluster/ops]
    allow: [infer, read, control, debug]
    rate: {{requests_per_second: 0.5, burst: 3}}
  - name: anonymous
    allow: [read]
"""

TOML = f"""
[[callers]]
name = "vision"
tokens = ["{hash_of("v")}"]
models = ["det", "ocr-*"]
allow = ["infer"]
rate = {{ requests_per_second = 100 }}

[[callers]]
name = "ops"
certificates = ["spiffe://cluster/ops"]
allow = ["infer", "read", "control", "debug"]
rate = {{ requests_per_second = 0.5, burst = 3 }}

[[callers]]
name = "anonymous"
allow = ["read"]
"""


@pytest.mark.parametrize(("text", "path"), [(YAML, "access.yaml"), (TOML, "access.toml")])
def test_both_forms_say_the_same(text, path):
    access = parse_access(text, path)
    vision, ops, anonymous = access.callers
    assert access.identify(Proof("Bearer v")) == vision
    assert vision.models == ("det", "ocr-*")
    assert vision.allow == {Kind.INFER}
    assert vision.rate == Rate(100, 100)
    assert (ops.allow, ops.rate) == (frozenset(Kind), Rate(0.5, 3))
    assert ops.models == ("*",)
    assert anonymous.name == ANONYMOUS
    assert anonymous.allow == {Kind.READ}


def test_who_is_given_no_kinds_may_infer_and_read():
    (caller,) = parse_access(f"callers: [{{name: a, tokens: ['{hash_of('x')}']}}]", "a").callers
    assert caller.allow == {Kind.INFER, Kind.READ}


def edited(old, new):
    assert YAML.count(old) == 1
    return YAML.replace(old, new)


@pytest.mark.parametrize(("text", "where", "problem", "cure"), [
    ("callers: [", "access.yaml", "is not YAML", "example"),
    ("callers: 3", "line 1, callers", "expected `array`", ""),
    ("- a", "access.yaml", "expected `object`", ""),
    ("{}", "access.yaml", "missing required field `callers`", ""),
    (edited("allow: [infer]", "alow: [infer]"), "line 6, callers[0].alow", "no key 'alow'",
     "mean allow"),
    (edited("allow: [infer]", "allow: [inferr]"), "line 6, callers[0].allow[0]",
     "invalid enum value 'inferr'", "infer, read, control, debug"),
    (edited("allow: [infer]", "allow: []"), "line 6, callers[0].allow", "empty", "Leave it out"),
    (edited("100", "0"), "line 8, callers[0].rate.requests_per_second", "0 is no rate",
     "or more"),
    (edited("100", "1.0e-300"), "callers[0].rate", "1e-300 is no rate", "without a rate"),
    (edited("100", ".nan"), "callers[0].rate", "nan is no rate", "without a rate"),
    (edited("burst: 3", "burst: 0.5"), "line 12, callers[1].rate.burst", "lets nobody in", ""),
    (edited("name: ops", "name: vision"), "line 9, callers[1].name", "comes twice", ""),
    (edited("name: ops", "name: 'a b'"), "callers[1].name", "no name for a caller", "letters"),
    (edited("name: ops", "name: anonymous"), "callers[1].name", "prove nothing", ""),
    (edited(hash_of("v"), "trts_abc"), "line 4, callers[0].tokens[0]", "not the hash",
     "trtserve token"),
    (edited(f"tokens: [{hash_of('v')}]", "tokens: []"), "callers[0].name",
     "neither tokens nor certificates", "trtserve token vision"),
    (edited("spiffe://cluster/ops]", f"x]\n    tokens: ['{hash_of('v')}']"), "callers[1].tokens",
     "'vision''s too", ""),
])
def test_errors_say_where_and_how_to_mend_it(text, where, problem, cure):
    with pytest.raises(ConfigurationError) as caught:
        parse_access(text, "access.yaml")
    assert where in caught.value.where
    assert problem.lower() in caught.value.problem.lower()
    assert cure in caught.value.cure


def test_a_token_in_clear_is_not_repeated():
    with pytest.raises(ConfigurationError) as caught:
        parse_access(edited(hash_of("v"), "trts_abc"), "access.yaml")
    assert "trts_abc" not in str(caught.value)


def test_toml_errors_have_a_line():
    with pytest.raises(ConfigurationError, match="line 2"):
        parse_access("a = 1\nb = \nc = 2", "access.toml")


def test_files_that_can_not_be_read(tmp_path):
    with pytest.raises(OperatorError, match=r"access_file.*No such file"):
        read_access(str(tmp_path / "none.yaml"))
    (tmp_path / "latin").write_bytes(b"callers: \xff")
    with pytest.raises(OperatorError, match="UTF-8"):
        read_access(str(tmp_path / "latin"))
    (tmp_path / "huge").write_bytes(b"#" * (MAX_FILE_BYTES + 1))
    with pytest.raises(OperatorError, match="larger than"):
        read_access(str(tmp_path / "huge"))
