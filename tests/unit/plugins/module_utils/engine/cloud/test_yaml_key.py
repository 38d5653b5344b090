# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests the edit of one key in a YAML file: all other bytes stay unchanged, and an error shows none of the file's content."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.base.errors import EngineError
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.cloud import yaml_key

KEY = "nvidia_vgpu_pfs"
EXPECTED = ["67:00.0", "e8:00.4"]
LINES = '- "67:00.0"\n- "e8:00.4"\n'


def changed(text, expected=tuple(EXPECTED)):
    """Returns the text after the edit. Asserts that a second edit makes no change."""
    expected = list(expected) if expected is not None else None
    made = yaml_key.edit(text, KEY, expected, "host.conf")
    assert yaml_key.edit(made.text, KEY, expected, "host.conf") is None
    assert yaml_key.current(made.text, KEY, "host.conf") == (expected or [])
    return made.text


@pytest.mark.parametrize(
    "before, after",
    [
        ("", KEY + ":\n" + LINES),
        ("# a comment\n", "# a comment\n" + KEY + ":\n" + LINES),
        ("a: 1\n# end\n", "a: 1\n# end\n" + KEY + ":\n" + LINES),
        ("a: 1", "a: 1\n" + KEY + ":\n" + LINES[:-1]),
        ("---\na: 1\n...\n", "---\na: 1\n" + KEY + ":\n" + LINES + "...\n"),
        ("  a: 1\n", "  a: 1\n  " + KEY + ":\n  " + LINES[:-1].replace("\n", "\n  ") + "\n"),
        ("\ufeffa: 1\n", "\ufeffa: 1\n" + KEY + ":\n" + LINES),
        ("\ufeff", "\ufeff" + KEY + ":\n" + LINES),
        ("a: 1\r\nb: 2\r\n", "a: 1\r\nb: 2\r\n" + (KEY + ":\n" + LINES).replace("\n", "\r\n")),
    ],
)
def test_the_key_is_appended(before, after):
    assert changed(before) == after


@pytest.mark.parametrize(
    "old, new",
    [
        (KEY + ":", KEY + ":\n" + LINES[:-1]),
        (KEY + ":  # all", KEY + ":  # all\n" + LINES[:-1]),
        (KEY + ": ~ # none", KEY + ": # none\n" + LINES[:-1]),
        (KEY + ": []", KEY + ":\n" + LINES[:-1]),
        (KEY + ': ""', KEY + ":\n" + LINES[:-1]),
        (KEY + ": [67:00.0]  # one", KEY + ': ["67:00.0", "e8:00.4"]  # one'),
        (KEY + ": [\n  67:00.0,  # x\n  68:00.0]", KEY + ': ["67:00.0", "e8:00.4"]'),
        (KEY + ":\n- 67:00.0", KEY + ":\n" + LINES[:-1]),
        (
            KEY + ":  # all\n  # first\n    - 67:00.0  # pf\n    - 68:00.0  # last",
            KEY + ':  # all\n  # first\n    - "67:00.0"\n    - "e8:00.4"  # last',
        ),
        ('"' + KEY + '" :\n- x', '"' + KEY + '" :\n' + LINES[:-1]),
        ("'" + KEY + "': [x]", "'" + KEY + "': [\"67:00.0\", \"e8:00.4\"]"),
        (KEY + ": &mine [x]", KEY + ': ["67:00.0", "e8:00.4"]'),
        (KEY + ": !!seq\n- x", KEY + ': ["67:00.0", "e8:00.4"]'),
        (KEY + ": |\n  text\n  more", KEY + ': ["67:00.0", "e8:00.4"]'),
        (KEY + ":\n  a: 1", KEY + ':\n  - "67:00.0"\n  - "e8:00.4"'),
        (KEY + ": *theirs", KEY + ': ["67:00.0", "e8:00.4"]'),
        (KEY + ":\n- *item\n- x", KEY + ":\n" + LINES[:-1]),
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_the_value_is_replaced_and_nothing_else(old, new, newline):
    before = "# top\na: &theirs [1]  # c\nx: &item 2\n"
    after = "\n\n# about b\nb: *theirs\nc: {d: 'é'}\n# end"
    texts = [one.replace("\n", newline) for one in (before, old, new, after)]
    assert changed(texts[0] + texts[1] + texts[3]) == texts[0] + texts[2] + texts[3]
    assert changed(texts[0] + texts[1] + texts[3], None) == texts[0] + texts[3][len(newline):]


def test_a_value_that_is_right_already_is_left_as_it_is():
    for text in (KEY + ": [67:00.0, 'e8:00.4']\n", KEY + ":\n  - 67:00.0  # pf\n  # vfs\n  - e8:00.4\n", KEY + ":\r\n- '67:00.0'\r\n- e8:00.4"):
        assert yaml_key.edit(text, KEY, EXPECTED, "host.conf") is None
    assert yaml_key.edit("a: 1\n", KEY, None, "host.conf") is None


def test_no_reader_takes_an_address_for_a_number():
    assert yaml.safe_load("- 67:00.4")[0] == 4020.4  # YAML 1.1 supports numbers in base 60
    assert yaml.safe_load(changed("a: 1\n")) == {"a": 1, KEY: EXPECTED}


def test_the_last_line_keeps_its_state():
    assert changed("a: 1\n" + KEY + ": [x]", None) == "a: 1"
    assert changed("a: 1\r\n" + KEY + ": [x]", None) == "a: 1"
    assert changed(KEY + ": [x]\n", None) == ""
    assert changed("\ufeff" + KEY + ": [x]\nb: 1", None) == "\ufeffb: 1"


def test_a_key_of_that_name_elsewhere_is_not_it():
    text = "a:\n  %s: [x]\nb: [%s]\n" % (KEY, KEY)
    assert changed(text) == text + KEY + ":\n" + LINES
    assert yaml_key.current(text, KEY, "host.conf") == []


def test_a_diff_shows_the_keys_lines_alone():
    made = yaml_key.edit("password: hunter2\n%s:  # pf\n- a\n- b # last\n# secret: x\ntoken: y\n" % KEY, KEY, EXPECTED, "host.conf")
    assert made.before == KEY + ":  # pf\n- a\n- b # last\n"
    assert made.after == KEY + ':  # pf\n- "67:00.0"\n- "e8:00.4" # last\n'
    made = yaml_key.edit("password: hunter2\n", KEY, EXPECTED, "host.conf")
    assert (made.before, made.after) == ("", KEY + ":\n" + LINES)


@pytest.mark.parametrize(
    "text, code, words",
    [
        ("a: 1\nb:\t2\n", "yaml_invalid", "line 2, column 3"),
        ("a: 1\nb:\n\t- 2\n", "yaml_invalid", "line 3, column 1"),
        ("password: 'hunter2\nb: 1\n", "yaml_invalid", "line 3"),
        ("hunter2: [1\nb: }\n", "yaml_invalid", "line 2"),
        ("a: hunter2\x01\n", "yaml_invalid", "#x0001), at line 1, column 11"),
        ("a: 1\r\nb: \x07\n", "yaml_invalid", "at line 2, column 4"),
        ('a: "\\UFFFFFFFF"\n', "yaml_invalid", "out of bounds"),
        ("%YAML " + "9" * 5000 + ".1\n---\na: 1\n", "yaml_invalid", "out of bounds"),
        ("a: *hunter2\n", "yaml_invalid", "an alias refers to an anchor that does not exist, at line 1, column 4"),
        ("a: 1\nb: 2\na: hunter2\n", "yaml_duplicate", "at line 1 and at line 3"),
        (KEY + ": [x]\n'" + KEY + "': [y]\n", "yaml_duplicate", "twice"),
        ("a: 1\n---\nb: hunter2\n", "yaml_documents", "begins at line 2"),
        ("{a: 1, %s: [x]}\n" % KEY, "yaml_form", "braces"),
        ("[hunter2]\n", "yaml_form", "no settings"),
        ("hunter2", "yaml_form", "no settings"),
        ("null\n", "yaml_form", "no settings"),
        ("? %s\n: [x]\n" % KEY, "yaml_form", "line 1"),
        (KEY + ": &x\n- hunter2\nb: *x\n", "yaml_anchor", "another key uses"),
        (KEY + ":\n- &x hunter2\nb: [*x]\n", "yaml_anchor", "another key uses"),
        ("&k %s: [a]\nb: *k\n" % KEY, "yaml_form", "line 1"),
        (KEY + ": [\nhunter2\n]\n", "yaml_edit", "another part of the file"),
        ("a: |\n  hunter2", "yaml_edit", "line break at the end"),
    ],
)
def test_what_can_not_be_done_soundly_is_refused(text, code, words):
    with pytest.raises(EngineError) as caught:
        yaml_key.edit(text, KEY, EXPECTED, "host.conf")
    (error,) = caught.value.errors
    assert error.code == code and error.device == "host.conf" and error.remedy and words in str(error)
    assert "hunter2" not in str(error)


def test_a_line_that_would_join_the_text_before_it_is_not_left_there():
    text = "a: |\n  x\n" + KEY + ": |\n  # hunter2\nb: 1\n"
    with pytest.raises(EngineError) as caught:
        yaml_key.edit(text, KEY, None, "host.conf")
    assert caught.value.errors[0].code == "yaml_edit" and "hunter2" not in str(caught.value)


def test_other_keys_are_not_judged():
    text = "x:\n- {c: 1, c: hunter2}\n"
    assert changed(text) == text + KEY + ":\n" + LINES


def test_the_size_of_a_value_does_no_harm():
    # Each alias doubles the size of its value. The expanded value would not fit into memory.
    text = "b0: &b0 [x, x]\n" + "".join("b%d: &b%d [*b%d, *b%d]\n" % (one, one, one - 1, one - 1) for one in range(1, 60))
    assert changed(text) == text + KEY + ":\n" + LINES


def test_what_is_nested_too_deeply_is_refused():
    # This document is nested more deeply than Python's recursion limit.
    with pytest.raises(EngineError) as caught:
        yaml_key.edit("a: " + "[" * 1100 + "]" * 1100 + "\n", KEY, EXPECTED, "host.conf")
    assert caught.value.errors[0].code == "yaml_form" and "nested" in str(caught.value)


# --- random documents

WORD = st.text("abcxyz01é-_/.", min_size=1, max_size=8).map(lambda word: "k" + word)
SCALAR = st.one_of(
    WORD,
    st.text("abc #:'\\é\U0001f600\"{}[]&*!|>%@`,?", max_size=10).map(lambda text: yaml.safe_dump(text, default_style='"', allow_unicode=True).strip()),
    st.text("abc #:\"é{}[]", max_size=10).map(lambda text: "'%s'" % text),
    st.sampled_from(["~", "", "1", "67:00.4", "0x1f", "yes", "!mine x", "2001-01-01", "-1", "[]", "{}", "[a, {b: c}]", "{a: [1, 2]}"]),
)
COMMENT = st.text("abc :#-'\"&*[]{}\té", max_size=12).map(lambda text: "# " + text)
GAP = st.lists(st.one_of(st.just(""), st.just("  "), COMMENT, COMMENT.map(lambda text: "   " + text)), max_size=3)


@st.composite
def entry(draw, number):
    """Returns the lines of a random key that the edit must keep. The key can have an anchor or refer to the anchor of the first key."""
    name = "%s%d" % (draw(WORD), number)
    tail = draw(st.sampled_from(["", "  # tail", " #"]))
    use = st.sampled_from(["*first"]) if number else st.nothing()
    kind = draw(st.sampled_from(["plain", "list", "map", "text", "folded", "quoted"]))
    if kind == "plain":
        return ["%s: %s%s" % (name, draw(st.one_of(SCALAR, use)), tail)]
    if kind == "list":
        items = draw(st.lists(st.one_of(SCALAR, use), min_size=1, max_size=3))
        pad = draw(st.sampled_from(["", "  "]))
        return ["%s:%s" % (name, tail)] + ["%s- %s" % (pad, one) for one in items]
    if kind == "map":
        return ["%s:%s" % (name, tail), "  inner: " + draw(st.one_of(SCALAR, use)), "  # within", "  other: " + draw(SCALAR)]
    if kind == "quoted":
        return ['%s: "two' % name, '  lines"%s' % tail]
    sign = "|" if kind == "text" else ">"
    return ["%s: %s%s" % (name, sign, draw(st.sampled_from(["", "-", "+"])) + tail), "  # no comment", "", "  text: %s" % KEY]


OURS = st.sampled_from(
    [
        [KEY + ":"],
        [KEY + ": ~  # none"],
        [KEY + ": []"],
        [KEY + ": [67:00.0, 'x']   # some"],
        [KEY + ": [67:00.0,", "  # in it", "  x]"],
        [KEY + ":", "- 67:00.0", "# in it", "- 68:00.0"],
        ["'%s' :  # ours" % KEY, "  # in it", "   - \"67:00.0\"", "", "   - &own x"],
        [KEY + ": *first"],
        [KEY + ": >-", "  text", "", "  more"],
        [KEY + ": &own", "  a: 1"],
    ]
)


@st.composite
def documents(draw):
    """Returns a random document as (text before the edited key, text of the key or None, text after the key)."""
    newline = draw(st.sampled_from(["\n", "\r\n"]))
    top = draw(st.sampled_from(["", "\ufeff"])) + draw(st.sampled_from(["", "---" + newline, "# top" + newline + newline]))
    blocks = [["first: &first [a]"]] + [draw(entry(number + 1)) for number in range(draw(st.integers(0, 4)))]
    position = draw(st.integers(1, len(blocks)))
    ours = draw(st.one_of(st.none(), OURS))

    def lines(some):
        return "".join(line + newline for block in some for line in block + draw(GAP))

    prefix = top + lines(blocks[:position])
    middle = newline.join(ours) if ours else None
    suffix = (newline if ours else "") + lines(blocks[position:])
    ending = draw(st.sampled_from(["", "# end", "..." + newline]))
    return prefix, middle, suffix + ending


def known(text):
    """Returns (content of the text without the edited key, value of the edited key)."""

    class Loader(yaml.SafeLoader):
        """A SafeLoader that accepts the tag !mine as well."""

    Loader.add_constructor("!mine", lambda loader, node: "mine " + node.value)
    data = yaml.load(text, Loader)
    ours = data.pop(KEY, None)
    return data, ours


@settings(max_examples=150)
@given(documents(), st.lists(st.from_regex(r"[0-9a-f]{2}:[01][0-9a-f]\.[0-7]", fullmatch=True), min_size=1, max_size=5))
def test_all_bytes_outside_the_key_stay(parts, expected):
    prefix, ours, suffix = parts
    text = prefix + (ours or "") + suffix
    try:
        made = yaml_key.edit(text, KEY, expected, "host.conf")
    except EngineError as exc:
        # The edit is rejected because it would have to add a line break after a text block at the end of the file.
        assert [one.code for one in exc.errors] == ["yaml_edit"] and not text.endswith("\n")
        return
    result = made.text if made else text
    if ours:
        assert result.startswith(prefix) and result.endswith(suffix) and len(result) > len(prefix) + len(suffix)
        assert made is None or made.after.rstrip("\r\n") == result[len(prefix): len(result) - len(suffix)].rstrip("\r\n")
    else:
        end = len(suffix) if suffix.endswith("...\n") or suffix.endswith("...\r\n") else 0
        kept = text[: len(text) - 4 - suffix.endswith("\r\n")] if end else text
        assert result.startswith(kept) and result.endswith(text[len(kept):])
    assert known(result) == (known(text)[0], expected)
    assert yaml_key.edit(result, KEY, expected, "host.conf") is None


@settings(max_examples=150)
@given(documents())
def test_what_was_set_is_removed_again(parts):
    prefix, ours, suffix = parts
    text = prefix + (ours or "") + suffix
    made = yaml_key.edit(text, KEY, None, "host.conf")
    assert (made is None) == (ours is None)
    if made:
        assert made.text == prefix + suffix[2 if suffix.startswith("\r") else 1:]
        assert known(made.text) == (known(text)[0], None)
        assert made.after == ""


@settings(max_examples=200)
@given(st.text("a:-[]{}&*!|>'\"#%?,~ \n\r\t\ufeff\x85\u2028\x01" + "kp", max_size=40), st.integers(0, 40))
def test_any_text_is_edited_or_refused(text, position):
    for one in (text, text[:position] + "\n" + KEY + ": [x]\n" + text[position:]):
        for expected in (EXPECTED, None):
            try:
                made = yaml_key.edit(one, KEY, expected, "host.conf")
            except EngineError as exc:
                assert exc.errors[0].code.startswith("yaml_") and exc.errors[0].remedy
                continue
            if made:
                assert yaml_key.edit(made.text, KEY, expected, "host.conf") is None
