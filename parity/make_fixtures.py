"""Writes parity/fixtures/*.json and parity/refusals.json: the sessions and texts that every writer is fed.

Run ``python parity/make_fixtures.py``; the content is deterministic. Goldens are made by ``parity/run.py
--update-golden``, never here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
Json = dict[str, Any]
# A text told in parts: each piece as often as its number says.
Parts = dict[str, list[list[Any]]]

FILL_SPEC = '{"workers_needed":3,"role":"forklift operator","site":"Toledo","date":"2026-03-07"}'
GOOD = '{"workers":[{"id":"W-1041","name":"Dana Ortiz"},{"id":"W-2207","name":"Sam Lee"}]}'
PHANTOM = '{"workers":[{"id":"W-9999","name":"Nobody Here"}]}'
PHANTOM_FINDING = {
    "code": "PHANTOM_WORKER",
    "path": "/workers/0/id",
    "message": "no worker W-9999 in the roster",
}


def parts(*pieces: tuple[str, int]) -> Parts:
    return {"parts": [list(piece) for piece in pieces]}


def attempt(iteration: int = 1, **changes: Any) -> Json:
    return {
        "iteration": iteration,
        "provider": "openai",
        "model": "gpt-4.1-mini",
        "verdict": "accepted",
        "span_id": f"{iteration:016x}",
        "raw": GOOD,
        "findings": [],
        "input_tokens": 412,
        "output_tokens": 96,
        "chat_ms": 830,
        "validate_ms": 4,
        "roster": "2026-03-01T06:00:00Z",
    } | changes


def unreached(iteration: int = 1, **changes: Any) -> Json:
    """Return an attempt without optional keys, whose steps were not reached."""
    return {
        "iteration": iteration,
        "provider": "",
        "model": "",
        "verdict": "infra_error",
        "raw": "",
        "input_tokens": 0,
        "output_tokens": 0,
        "chat_ms": 0,
        "validate_ms": 0,
    } | changes


def session(**changes: Any) -> Json:
    return {
        "session_id": "0195a3c8-7f00-7000-8000-000000000001",
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "kind": "fill",
        "provider": "openai",
        "model": "gpt-4.1-mini",
        "prompt": "fill 3 forklift operators in Toledo for Saturday",
        "spec": FILL_SPEC,
        "max_iterations": 3,
        "final_verdict": "accepted",
        "artifact": GOOD,
        "grounded_in_roster": True,
        "attempts": [attempt()],
        "duration_ms": 846,
    } | changes


def least(**changes: Any) -> Json:
    """Return a session without any optional key."""
    absent = ("spec", "artifact", "grounded_in_roster")
    kept = {key: value for key, value in session().items() if key not in absent}
    return kept | {"final_verdict": "max_iter_exhausted", "attempts": [], "duration_ms": 0} | changes


def fault(code: str, reason: str, where: str, message: str) -> Json:
    return {"code": code, "reason": reason, "where": where, "message": message}


def everywhere(text: str) -> Json:
    """Return a session that holds ``text`` in each kind of place where a string can stand."""
    name = json.dumps(text)
    quoted = json.dumps({"value": text, text: text}, ensure_ascii=False)
    return session(
        caller_trace=text,
        model=text,
        prompt=text,
        spec=f'{{"notes":{name}}}',
        artifact=quoted,
        attempts=[
            attempt(
                verdict="rejected",
                raw=text,
                roster=text,
                findings=[{"code": "X", "path": f"/{text}", "message": text}],
            )
        ],
        final_verdict="max_iter_exhausted",
    )


def holding(artifact: str | Parts) -> Json:
    return session(artifact=artifact)


def verdicts() -> dict[str, Json]:
    rejected = attempt(verdict="rejected", raw=PHANTOM, findings=[PHANTOM_FINDING])
    timeout = fault("DEADLINE_EXCEEDED", "PROVIDER_TIMEOUT", "chatd", "The model did not answer in time.")
    unreachable = fault("UNAVAILABLE", "CHATD_UNREACHABLE", "iterate", "chatd cannot be reached.")
    gone = fault("UNAVAILABLE", "VALIDATED_UNREACHABLE", "iterate", "validated cannot be reached.")
    return {
        "accepted-at-once": session(),
        "accepted-after-rejections": session(
            attempts=[rejected, rejected | {"iteration": 2, "span_id": "f" * 16}, attempt(3)]
        ),
        "max-iter-exhausted": session(
            final_verdict="max_iter_exhausted",
            artifact=PHANTOM,
            grounded_in_roster=False,
            attempts=[rejected, rejected | {"iteration": 2}, rejected | {"iteration": 3}],
        ),
        "unparsable-answers": least(
            attempts=[
                attempt(verdict="unparsable", raw='Sure! ```json\n{"workers": [}\n```', findings=[]),
                unreached(2, provider="openai", model="gpt-4.1-mini", verdict="unparsable", raw="no"),
            ],
        ),
        "infra-error-without-attempts": least(final_verdict="infra_error", error=unreachable),
        "infra-error-in-the-first-attempt": least(
            final_verdict="infra_error", error=timeout, attempts=[unreached(error=timeout, chat_ms=30000)]
        ),
        "infra-error-after-an-answer": session(
            final_verdict="infra_error",
            error=gone,
            artifact=GOOD,
            attempts=[
                rejected,
                unreached(2, provider="openai", model="m", raw=GOOD, error=gone, chat_ms=700, input_tokens=9),
            ],
        ),
        "process-died": least(
            final_verdict="infra_error",
            error=fault("PROCESS_DIED", "SHUTTING_DOWN", "iterate", "The process was killed."),
            attempts=[rejected],
        ),
        "cancelled": least(
            final_verdict="infra_error",
            error=fault("CANCELLED", "CALLER_GONE", "iterate", "The caller is gone."),
        ),
        "email-kind": session(
            kind="email",
            spec='{"to":"dana@example.com","purpose":"confirm the shift"}',
            artifact='{"subject":"Saturday","body":"Hi Dana,\\n\\nSee you at 6.\\n"}',
        ),
        "json-schema-kind": session(
            kind="json_schema",
            spec='{"schema":{"type":"object","properties":{"n":{"type":"integer","minimum":0}},"$id":"x"}}',
            artifact='{"n":3}',
        ),
        "kind-from-outside": session(kind="acme.forecast-v2", spec='{"horizon":[1,2,3]}'),
        "ten-attempts": session(max_iterations=10, attempts=[attempt(n) for n in range(1, 11)]),
        "mapped-caller-trace": session(caller_trace="order 4711 / retry #2"),
        "caller-chosen-session-id": session(session_id="a.b_c-D9" + "x" * 120),
    }


def brief(**changes: Any) -> Json:
    return {"grounding": "form", "brief_ms": 2} | changes


def later_keys() -> dict[str, Json]:
    """Return the keys that came after 0.1, each where it stands."""
    too_few = {"code": "TOO_FEW_QUALIFY", "path": "", "message": "2 of 20 qualify, 3 are needed"}
    suggested = PHANTOM_FINDING | {
        "suggestions": ['{"worker_id":"W-1041","name":"Dana Ortiz"}', ' { "b" : 1.0 , "a" : [ ] } ', "{}"]
    }
    return {
        "grounded-at-once": session(
            brief=brief(
                grounding="candidates", candidates=16, candidates_total=16, roster="2026-03-01T06:00:00Z", brief_ms=1
            ),
        ),
        "brief-form-alone": session(brief=brief()),
        "brief-degraded": session(brief=brief(degraded=True, brief_ms=1000)),
        "brief-of-a-floor": session(
            brief=brief(grounding="candidates", candidates=50, candidates_total=5000, candidates_total_is_floor=True)
        ),
        "infeasible": least(
            brief=brief(
                grounding="candidates",
                candidates=2,
                candidates_total=2,
                infeasible=True,
                findings=[too_few],
                roster="v",
            )
        ),
        "brief-empty": session(
            brief=brief(grounding="candidates", candidates=0, candidates_total=0, findings=[], roster="", brief_ms=0)
        ),
        "suggestions": session(
            attempts=[
                attempt(verdict="rejected", raw=PHANTOM, findings=[suggested, PHANTOM_FINDING | {"suggestions": []}]),
                attempt(2),
            ],
            brief=brief(findings=[suggested]),
        ),
        "suggestion-of-a-hundred-levels": session(
            attempts=[
                attempt(findings=[PHANTOM_FINDING | {"suggestions": [parts(('{"a":', 100), ("1", 1), ("}", 100))]}])
            ]
        ),
        "datasets": session(
            kind="quote",
            attempts=[
                attempt(datasets=[]),
                attempt(2, datasets=[{"name": "skus", "version": "sha256:ab"}, {"name": "preise-ä", "version": ""}]),
            ],
        ),
        "cost": session(attempts=[attempt(cost_nano_usd=1_230_000), attempt(2, cost_nano_usd=0)]),
        "cost-unknown-of-one-attempt": session(attempts=[attempt(cost_nano_usd=5), attempt(2)]),
        "cost-of-the-largest": session(attempts=[attempt(cost_nano_usd=2**63 - 1)]),
        "parse-problem": least(
            attempts=[attempt(verdict="unparsable", raw="", parse_problem='the model refused: "no"', findings=[])]
        ),
        "later-keys-all": session(
            caller="staffing \u2028 desk",
            brief=brief(
                grounding="candidates",
                candidates=3,
                candidates_total=9,
                candidates_total_is_floor=True,
                infeasible=True,
                degraded=True,
                findings=[suggested],
                roster="v2",
            ),
            token_budget_spent=True,
            no_progress=True,
            **{"try": 2},
            request_digest="sha256:0123456789abcdef0123456789abcdef",
            attempts=[
                attempt(
                    datasets=[{"name": "skus", "version": "1"}], cost_nano_usd=7, parse_problem="", findings=[suggested]
                )
            ],
        ),
        "later-keys-empty": session(caller="", request_digest="", **{"try": 2**63 - 1}),
    }


def presence() -> dict[str, Json]:
    return {
        "every-optional-key-absent": least(attempts=[unreached()]),
        "every-optional-key-empty": session(
            caller_trace="",
            kind="",
            provider="",
            model="",
            prompt="",
            spec="{}",
            artifact="{}",
            grounded_in_roster=False,
            max_iterations=0,
            attempts=[unreached(span_id="", findings=[], roster="")],
            error=fault("", "", "iterate", ""),
            final_verdict="infra_error",
        ),
        "empty-values-in-an-artifact": holding('{"a":[],"b":{},"c":"","d":false,"e":0,"f":null,"g":[[],{},""]}'),
        "null-true-false": holding('{"n":null,"t":true,"f":false,"all":[null,true,false,null]}'),
        "largest-row-integers": session(
            duration_ms=2**63 - 1,
            max_iterations=2**53 + 1,
            attempts=[attempt(input_tokens=2**63 - 1, output_tokens=2**53 + 1, chat_ms=2**62)],
        ),
    }


def strings() -> dict[str, Json]:
    controls = "".join(map(chr, range(0x20)))
    escaped = "".join(f"\\u{code:04X}" for code in range(0x20)) + "\\b\\t\\n\\f\\r"
    return {
        "latin-and-cjk": everywhere("Café résumé  你好"),
        "astral": everywhere("😀 \U0001d4b3 👩‍👩‍👧‍👦 🏳️‍🌈 𠜎 \U0010ffff \U00010000"),
        "combining-and-composed": everywhere("é é Å Å Å ﬁ fi 한 한"),
        "right-to-left": everywhere("שלום مرحبا \u202eabc\u202c \u2067x\u2069 \u200f"),
        "control-characters": everywhere(controls),
        "control-characters-escaped": holding(f'{{"{escaped}":"{escaped}"}}'),
        "markup": everywhere("<script>a && b</script> 'x' = \"y\" `z` \\ / </"),
        "line-separators": everywhere("a\u2028b\u2029c\u0085d\r\ne\rf\ng"),
        "delete-and-c1": everywhere("".join(map(chr, range(0x7F, 0xA1)))),
        "noncharacters": everywhere("\ufdd0 \ufffe \uffff \ufeff \ufffd \U0001fffe \ue000 \uf8ff"),
        "zero-width-and-spaces": everywhere(" \u200b\u200c\u200d\u2060\u00a0\u3000 leading and trailing "),
        "backslashes-and-quotes": everywhere('\\ \\\\ " \\" \\u0041 \\n / \\/'),
        "escapes-of-every-form": holding(
            '{"\\u0061\\/\\"\\\\":"\\u00e9\\u20AC\\ud83d\\ude00\\uD83D\\uDE00\\u007f\\u2028"}'
        ),
        "lone-surrogates": everywhere("\ud800 \udc00 \udfff\ud800 x\udbff"),
        "lone-surrogate-escapes": holding(
            '{"a":"\\ud800","b":"\\udc00\\ud800","c":"\\ud83d\\ud83d\\ude00","d":"\\\\ud800 \\\\\\udc00",'
            '"\\uDBFF":"\\ud800\\u0041","e":["\\ud800\\\\udc00","\\uD800\\n"]}'
        ),
        "json-inside-strings": everywhere('{"a":[1,"}]"],"timestamp":"2026-01-01T00:00:00.000000Z","daemon":""}'),
        "brackets-inside-strings": holding(parts(('{"s":"', 1), ('[{\\"', 200), ('","t":"]]}"}', 1))),
    }


def numbers() -> dict[str, Json]:
    around = [2**53, 2**63, 2**64, 2**128, 10**21, 10**22]
    integers = [sign * (n + delta) for n in around for delta in (-1, 0, 1) for sign in (1, -1)]
    rfc8785 = (
        "0.0,-0.0,5e-324,-5e-324,1.7976931348623157e308,-1.7976931348623157e308,9007199254740992.0,"
        "-9007199254740992.0,295147905179352830000.0,9.999999999999997e22,1e23,1.0000000000000001e23,"
        "999999999999999700000.0,999999999999999900000.0,1e21,9.999999999999997e-7,0.000001,"
        "333333333.3333332,333333333.33333325,333333333.3333333,333333333.3333334,333333333.33333343,"
        "-0.0000033333333333333333,1424953923781206.2"
    )
    notations = (
        "1.0,1E0,10e-1,1e+2,1E+02,1e02,1e-0,0e5,0E-5,-0e0,0.10,100.00,1.50,1e20,1e21,1E21,1e-6,1e-7,"
        "123456789012345678901.0,0.1e1,12.34e-3,-1.5e-10,1.0e100,4.35,0.3,2.675,1e22,1e15,1e16,1e17"
    )
    extremes = (
        "2.2250738585072014e-308,2.2250738585072011e-308,4.9406564584124654e-324,2.4703282292062328e-324,"
        "2.4703282292062327e-324,1e-400,-1e-400,1e-99999999999999999999,0e99999999999999999999,"
        "1.7976931348623158e308,1.797693134862315807e308,8.988465674311580e307,2e-323,1.5e-323"
    )
    halfway = (
        "9007199254740993.0,9007199254740991.5,9007199254740992.5,9007199254740993.00000000000000001,"
        "1.00000000000000011102230246251565404236316680908203125,"
        "1.00000000000000011102230246251565404236316680908203124,"
        "1.00000000000000011102230246251565404236316680908203126,4503599627370496.5,4503599627370497.5,"
        "0.500000000000000166533453693773481063544750213623046875,3.518437208883201171875e13"
    )
    return {
        "integers-beyond-53-and-64-bits": holding('{"n":[' + ",".join(map(str, integers)) + "]}"),
        "integers-of-a-thousand-digits": holding(parts(('{"n":[', 1), ("9", 1000), (",-1", 1), ("0", 999), ("]}", 1))),
        "integer-zeros": holding('{"n":[0,-0,1,-1,10,-10]}'),
        "doubles-of-rfc8785": holding(f'{{"n":[{rfc8785}]}}'),
        "doubles-in-every-notation": holding(f'{{"n":[{notations}]}}'),
        "doubles-at-the-extremes": holding(f'{{"n":[{extremes}]}}'),
        "doubles-at-halfway-points": holding(f'{{"n":[{halfway}]}}'),
        "doubles-of-many-digits": holding(
            parts(
                ('{"n":[0.', 1),
                ("3", 5000),
                (",1", 1),
                ("0", 300),
                (".5,0.", 1),
                ("0", 90000),
                ("25e90002,25", 1),
                ("0", 90000),
                (".0e-90000]}", 1),
            )
        ),
        "powers-of-ten": holding('{"n":[' + ",".join(f"1e{power}" for power in range(-324, 309)) + "]}"),
        "powers-of-two": holding('{"n":[' + ",".join(f"{2.0**power!r}" for power in range(-64, 128)) + "]}"),
        "numbers-in-a-spec": session(spec='{"rate":1.0,"budget":1e21,"id":12345678901234567890,"z":-0.0}'),
    }


def shapes() -> dict[str, Json]:
    wide = ",".join(f'"k{n * 7919 % 2000}":{n}' for n in range(2000))
    serde = "$serde_json::private::"
    return {
        "names-by-utf-16-units": holding(
            '{"\\u20ac":"Euro","\\r":"CR","\\ufb33":"Dalet","1":"One","\\ud83d\\ude00":"Emoji","\\u0080":"C",'
            '"\\u00f6":"o","\\uffff":1,"\\ue000":2,"\\ud800\\udc00":3,"\\udbff\\udfff":4,"\\ud7ff":5}'
        ),
        "names-with-common-prefixes": holding('{"aa":1,"a":2,"":3,"ab":4,"A":5,"a\\u0000":6,"a ":7,"10":8,"9":9}'),
        "names-that-parsers-reserve": holding(
            f'{{"{serde}Number":"1","b":{{"{serde}Number":"2"}},"c":{{"{serde}RawValue":"[}}"}},'
            '"__proto__":{"constructor":1},"toJSON":2}'
        ),
        "names-of-the-row-itself": holding(
            '{"schema":"session.iterate.v1","timestamp":"x","daemon":"y","attempts":[],"artifact":{"artifact":1}}'
        ),
        "equal-names-in-different-objects": holding('{"a":{"a":{"a":1}},"b":[{"a":1},{"a":1}]}'),
        "depth-of-a-hundred": holding(parts(('{"a":', 50), ("[", 50), ("]", 50), ("}", 50))),
        "many-brackets-at-little-depth": holding(parts(('{"a":[', 1), ("[],{},", 300), ("0]}", 1))),
        "wide-object": holding(f"{{{wide}}}"),
        "wide-array": holding('{"n":[' + ",".join(map(str, range(3000))) + "]}"),
        "white-space-everywhere": holding(' \t\r\n{ \n"b"\t:\r[ 1 ,\n2 ] , "a" : { } }\r\n \t'),
        "raw-of-exactly-the-limit": session(attempts=[attempt(raw=parts(("a", 256 * 1024 - 2), ("é", 1)))]),
        "raw-cut-inside-a-character": session(
            attempts=[attempt(raw=parts(("x", 1), ("\U0001d4b3", 64 * 1024), ("tail", 1)))]
        ),
    }


def fixtures() -> dict[str, Json]:
    return verdicts() | later_keys() | presence() | strings() | numbers() | shapes()


def refusals() -> list[Json]:
    """Texts that break a rule, with the kind of breach that every reader must name."""
    texts: dict[str, list[Any]] = {
        "duplicate_name": [
            '{"a":1,"a":1}',
            '{"a":1,"b":2,"a":3}',
            '{"workers":[{"id":1,"id":2}]}',
            '{"a":1,"\\u0061":2}',
            '{"":1,"":2}',
            '{"\\ud800":1,"\\udfff":2}',
            '{"\\ud800":1,"\ufffd":2}',
            '{"\\ud83d\\ude00":1,"😀":2}',
            '[{"x":{"y":1,"z":2,"y":3}}]',
        ],
        "too_deep": [
            parts(("[", 101), ("]", 101)),
            parts(('{"a":', 101), ("1", 1), ("}", 101)),
            parts(('[{"a":', 51), ("1", 1), ("}]", 51)),
            parts(("[", 100000)),
            parts(('{"a":', 50000)),
            parts(('["]]]]","\\"",', 101), ("1", 1), ("]", 101)),
            parts(("[", 101), ("oops", 1)),
        ],
        "double_overflow": [
            "1e400",
            "-1E400",
            '{"n":1.8e308}',
            "1.7976931348623159e308",
            "[1e99999999999999999999]",
            parts(("1", 400), (".0", 1)),
            parts(("0.", 1), ("0", 400), ("1e1000", 1)),
        ],
        "integer_too_long": [
            parts(("1", 1001)),
            parts(("[-9", 1), ("0", 1000), ("]", 1)),
            parts(('{"a":{"n":', 1), ("7", 5000), ("}}", 1)),
            parts(("1", 200000)),
        ],
        "not_utf8": [
            {"base64": "eyJhIjoi/yJ9"},  # a byte that UTF-8 does not have
            {"base64": "IsCvIg=="},  # an overlong slash
            {"base64": "Iu2ggCI="},  # a surrogate as three bytes
            {"base64": "IuLCoiI="},  # a character cut short
            {"base64": "IvSQgIAi"},  # beyond U+10FFFF
        ],
        "too_large": [
            parts(('"', 1), ("a", 256 * 1024 - 1), ('"', 1)),
            parts(('"', 1), ("é", 128 * 1024), ('"', 1)),
            parts((" ", 256 * 1024 + 1)),
            parts(("[", 1), ("1e20,", 13000), ("0]", 1)),
        ],
        "syntax": [
            "",
            " \n",
            "\ufeff{}",
            "NaN",
            '{"n":NaN}',
            "[Infinity]",
            "[-Infinity]",
            "nan",
            "{} {}",
            "{}x",
            '```json\n{"a":1}\n```',
            "[1,]",
            '{"a":1,}',
            "[1 2]",
            "[,1]",
            '{"a" 1}',
            '{"a":}',
            "{a:1}",
            "{'a':1}",
            "{1:2}",
            "[1",
            '{"a":1',
            '{"a"',
            '"abc',
            '"abc\\',
            "]",
            "}",
            "[}",
            '{"a":1]',
            "01",
            "-01",
            "00",
            "1.",
            ".5",
            "-.5",
            "+1",
            "-",
            "--1",
            "1e",
            "1e+",
            "1.e5",
            "0x10",
            "1_000",
            "\u0661",  # an Arabic-Indic digit
            "1.0f",
            "tru",
            "True",
            "nul",
            "undefined",
            '"a\nb"',
            '"a\tb"',
            '"\u0000"',
            '"\\x41"',
            '"\\\'"',
            '"\\u12"',
            '"\\u12g4"',
            '"\\u+123"',
            '"\\u 123"',
            '"\\U00e9"',
            '"\\ud83d\\ude0"',
            "\u00a0{}",
            "{}\u00a0",
            "[1,\u000b2]",
            "[1,\u000c2]",
            "// no\n{}",
            "[1]/* no */",
            "[1,\u20282]",
            # Not JSON at all comes before what a part of it breaks.
            '{"a":1,"a":2',
            '[1e400,"]',
            '{"a":1,"a":2,"b":NaN}',
        ],
    }
    return [{"kind": kind, "text": text} for kind, some in texts.items() for text in some]


def write_json(path: Path, value: Any) -> None:
    # ASCII: lone surrogates and control characters survive every editor and every git setting.
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="ascii")


def main() -> None:
    folder = HERE / "fixtures"
    folder.mkdir(exist_ok=True)
    made = fixtures()
    for name, content in made.items():
        write_json(folder / f"{name}.json", content)
    for path in folder.glob("*.json"):
        if path.stem not in made:
            path.unlink()
    write_json(HERE / "refusals.json", refusals())
    print(f"{len(made)} fixtures, {len(refusals())} refusals")


if __name__ == "__main__":
    main()
