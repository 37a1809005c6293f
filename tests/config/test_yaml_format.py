from __future__ import annotations

import math

import pytest

from esc_tf.config.yaml_format import dump_yaml, parse_yaml
from esc_tf.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E4", 1e4),
        ("1.", 1.0),
        (".5", 0.5),
        ("-.5e+2", -50.0),
        ("+3", 3),
        ("012", 12),
        ("0", 0),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("on", "on"),
        ("off", "off"),
        ("yes", "yes"),
        ("no", "no"),
        ("y", "y"),
        ("2001-01-01", "2001-01-01"),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("0x10", "0x10"),
        ("1e", "1e"),
        ("1.2.3", "1.2.3"),
        ("=", "="),
        ("'1e-4'", "1e-4"),
        ('"12"', "12"),
        ("[1, 2.0, a]", [1, 2.0, "a"]),
        ("Źródło", "Źródło"),
    ],
)
def test_scalars_are_what_they_look_like(text: str, value: object) -> None:
    parsed = parse_yaml(text, "here")
    assert parsed == value
    assert type(parsed) is type(value)


def test_infinities_and_nan_are_numbers() -> None:
    assert parse_yaml("[.inf, -.INF, 1e400]", "here") == [math.inf, -math.inf, math.inf]
    assert math.isnan(parse_yaml(".nan", "here"))


def test_anchors_stand_for_their_value() -> None:
    assert parse_yaml("a: &x [1]\nb: *x", "here") == {"a": [1], "b": [1]}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: 2\na: 3", "line 3: key 'a' stands twice"),
        ("s: {a: 1, a: 2}", "key 'a' stands twice"),
        ("1: a", "key '1' is not text; put it in quotes"),
        ("true: a", "key 'true' is not text"),
        ("null: a", "key 'null' is not text"),
        ("[1]: a", "a key must be one word"),
        ("<<: {a: 1}", "use 'extends'"),
        ("a:\n\t- 1", "line 2: not valid YAML"),
        ("a: b: c", "line 1: not valid YAML"),
        ("a: [1", "not valid YAML"),
        ("a: 'x", "not valid YAML"),
        ("--- a\n--- b", "expected a single document"),
        ("a: \0", "special characters are not allowed"),
        ("*nobody", "undefined alias 'nobody'"),
        ("&x [*x]", "nested more than 50 levels"),
        ("&x {a: *x}", "recursive"),
        ("!!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("!!binary aGk=", "could not determine a constructor"),
        ("!!timestamp 2001-01-01", "could not determine a constructor"),
        ("!!set {a}", "could not determine a constructor"),
        ("!!int abc", "not valid YAML"),
        ("!!float ''", "not valid YAML"),
        ("!!bool abc", "not valid YAML"),
        ("!!map [a]", "'!!map' stands before something else"),
        ("!!map a", "'!!map' stands before something else"),
        ("[" * 51 + "]" * 51, "nested more than 50 levels"),
        ("[" * 60 + "]" * 60, "nested more than 50 levels"),
        ("[" * 5000 + "]" * 5000, "nested more than 50 levels"),
        ("a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 99)), "levels"),
    ],
)
def test_what_is_refused_is_refused_in_one_sentence(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, "file.yaml")
    (problem,) = caught.value.problems
    assert problem.startswith("file.yaml:")
    assert words in problem
    assert "\n" not in problem


def test_fifty_levels_are_read() -> None:
    assert dump_yaml(parse_yaml("[" * 50 + "]" * 50, "here")).strip("- []\n") == ""


def test_a_number_with_very_many_digits_is_no_traceback() -> None:
    try:
        assert parse_yaml("9" * 5000, "here") > 0  # Python 3.10 reads it
    except ConfigError as error:
        assert "here" in str(error)


def test_aliases_that_stand_for_billions_of_values_are_refused_at_once() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    with pytest.raises(ConfigError, match="more than 100000 values"):
        parse_yaml("\n".join(lines), "here")


@pytest.mark.parametrize(
    "text",
    ["1e-4", "on", "yes", "true", "null", "~", "012", "2001-01-01", "1:30", "", " a ", "a: b", "é",
     "#a", "&a", "*a", "!a", "a\nb", "'", '"', "=", "<<", "1_0", "0x1", ".inf", "-", "1.", "1E4"],
)  # fmt: skip
def test_text_is_still_text_after_a_round_trip(text: str) -> None:
    assert parse_yaml(dump_yaml({"a": text, "b": [text]}), "dump") == {"a": text, "b": [text]}


@pytest.mark.parametrize(
    "number", [0, -3, 2**40, 1e-4, 1e-10, 1e20, 5.0, 0.1 + 0.2, 1.7976931348623157e308]
)
def test_numbers_keep_value_and_kind_after_a_round_trip(number: float) -> None:
    parsed = parse_yaml(dump_yaml({"a": number}), "dump")["a"]
    assert parsed == number
    assert type(parsed) is type(number)


def test_a_dump_keeps_the_order_of_keys() -> None:
    assert dump_yaml({"b": 1, "a": None}) == "b: 1\na: null\n"
