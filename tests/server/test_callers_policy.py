"""Goal: what the callers' file says is what holds, and a file that cannot be meant is refused with all that is wrong.

Method: properties of the matching, against a model that is written otherwise; and files, good and broken.
"""

from __future__ import annotations

import fnmatch
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.chatd.v1 import chatd_pb2
from lakehouse.iterate.v1 import iterate_pb2
from lakehouse.server.callers.file import read_callers_file
from lakehouse.server.callers.policy import RPCS, Caller, ModelPattern, Policy
from lakehouse.validated.v1 import validated_pb2

NAME = st.text("ab/*.-é[]?", max_size=6)
PROVIDER = st.text("ab.-é[]?", max_size=4)


@given(provider=PROVIDER, model=NAME)
def test_a_pattern_without_a_star_fits_its_own_name_and_no_other(provider: str, model: str) -> None:
    model = model.replace("*", "")
    pattern = ModelPattern.parse(f"{provider}/{model}")

    assert pattern.fits(provider, model)
    assert not pattern.fits(provider + "x", model)
    assert not pattern.fits(provider, model + "x")


@given(pattern_provider=PROVIDER | st.just("*"), beginning=NAME, provider=PROVIDER, model=NAME)
def test_a_pattern_fits_what_shells_say_it_fits(
    pattern_provider: str, beginning: str, provider: str, model: str
) -> None:
    beginning = beginning.replace("*", "")
    pattern = ModelPattern.parse(f"{pattern_provider}/{beginning}*")

    def quoted(text: str) -> str:
        return "".join(f"[{each}]" if each in "*?[" else each for each in text)

    expected = fnmatch.fnmatchcase(model, quoted(beginning) + "*") and pattern_provider in ("*", provider)
    assert pattern.fits(provider, model) == expected


@given(NAME)
def test_whatever_is_parsed_is_one_of_the_documented_forms(text: str) -> None:
    provider, slash, model = text.partition("/")
    documented = text == "*" or (
        bool(slash) and (provider == "*" or "*" not in provider) and "*" not in model.removesuffix("*")
    )
    try:
        ModelPattern.parse(text)
    except ValueError:
        assert not documented
    else:
        assert documented


@given(st.lists(st.sampled_from(["a/x", "a/*", "*/x", "b/y*"]), max_size=4), PROVIDER, NAME)
def test_more_patterns_never_allow_less(patterns: list[str], provider: str, model: str) -> None:
    few = Policy(models=tuple(map(ModelPattern.parse, patterns[:1])))
    many = Policy(models=tuple(map(ModelPattern.parse, patterns)))

    assert many.may_ask_model(provider, model) or not few.may_ask_model(provider, model)


def test_a_policy_without_lists_allows_nothing() -> None:
    policy = Policy()

    assert not any(policy.may_call(rpc) for rpc in RPCS)
    assert not policy.may_ask_kind("fill")
    assert not policy.may_ask_model("", "")


def test_who_is_called_for_may_no_more_than_both() -> None:
    narrow = Policy(kinds=frozenset({"fill"}), models=(ModelPattern.parse("a/*"),))
    wide = Policy(kinds=frozenset({"*"}), models=(ModelPattern.parse("*"),))
    for own, other in ((narrow, wide), (wide, narrow)):
        caller = Caller("x", own, Caller("iterate", other))
        assert (caller.may_ask_kind("fill"), caller.may_ask_kind("email")) == (True, False)
        assert (caller.may_ask_model("a", "m"), caller.may_ask_model("b", "m")) == (True, False)


def test_every_rpc_of_the_three_services_can_be_named() -> None:
    names = [
        method.name
        for file in (iterate_pb2, chatd_pb2, validated_pb2)
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    ]

    assert set(names) <= set(RPCS)
    assert len(names) == len(set(names)), "two services with an RPC of one name: a rule would speak of both"


def read(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "callers.toml"
    file.write_text(text)
    return file


def test_a_caller_may_what_it_and_its_groups_give_and_the_least_limit_counts(tmp_path: Path) -> None:
    file = read(
        tmp_path,
        """
        [groups.a]
        rpcs = ["Iterate"]
        kinds = ["fill"]
        grounding_max = "form"
        tokens_per_day = 1000
        max_iterations = 5
        [groups.b]
        rpcs = ["GetSession"]
        models = ["openai/*"]
        grounding_max = "candidates"
        tokens_per_day = 500
        [callers.x]
        groups = ["a", "b"]
        kinds = ["email"]
        max_iterations = 8
        """,
    )

    policy = read_callers_file(file).policy_of("x")

    assert policy.rpcs == {"Iterate", "GetSession"}
    assert policy.kinds == {"fill", "email"}
    assert policy.may_ask_model("openai", "m")
    assert policy.grounding_max == "form"
    assert policy.tokens_per_day == 500
    assert policy.max_iterations == 8, "its own counts before its groups'"
    assert policy.nano_usd_per_day is None


SECRET = "hunter2-" + "s" * 40


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "callers: Field required"),
        ("callers = 3", "callers"),
        ("[callers.x", "is not TOML in UTF-8 (at"),
        ("[callers.x]\nkids = ['a']", "callers.x.kids: unknown key"),
        ("[callers.x]\nrpcs = ['Itrate']", "is no RPC; there are: Iterate"),
        ("[callers.x]\nmodels = ['gpt']", "must be provider/model"),
        ("[callers.x]\nmodels = ['a*/b']", "may hold * for the whole provider"),
        ("[callers.x]\ngroups = ['a']", "there is no group a"),
        ("[callers.x]\nsubjects = [{issuer = 'a', subject = 's'}]", "there is no issuer a"),
        ("[callers.'x y']", "must be 1 to 64 of the characters"),
        ("[callers.x]\ntokens_per_day = 0", "greater than or equal to 1"),
        ("[callers.x]\ncertificates = ['dns:*.a']", "without a wildcard"),
        ("[callers.x]\ncertificates = ['scheduler']", "must be a URI"),
        (f"[callers.x]\ntokens_sha256 = ['{SECRET}']", "must be the SHA-256 of a token"),
        (f"[callers.x]\ntoken = '{SECRET}'", "callers.x.token: unknown key"),
        (f"[callers.x]\ntokens_sha256 = '{SECRET}", "is not TOML in UTF-8"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused_and_not_quoted(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ValueError, match=r"callers\.toml") as caught:
        read_callers_file(read(tmp_path, text))

    assert words in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("jwks_url = 'http://issuer.test/keys'", "must be https"),
        ("jwks_url = 'https://user:pw@issuer.test/keys'", "without a user"),
        ("jwks_url = 'file:///etc/passwd'", "must be"),
        ("", "set jwks_file or jwks_url"),
        ("jwks_url = 'https://issuer.test/keys'\nalgorithms = ['HS256']", "algorithms"),
        ("jwks_file = '/nowhere/keys.json'", "/nowhere/keys.json: No such file"),
    ],
)
def test_an_issuer_whose_keys_could_be_anybodys_is_refused(tmp_path: Path, keys: str, words: str) -> None:
    algorithms = "" if "algorithms" in keys else "algorithms = ['RS256']"
    text = f"[issuers.a]\nissuer = 'i'\naudiences = ['a']\n{algorithms}\n{keys}\n[callers.x]\n"

    with pytest.raises(ValueError, match=r"callers\.toml") as caught:
        read_callers_file(read(tmp_path, text))

    assert words in str(caught.value)
