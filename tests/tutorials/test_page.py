# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of page.py: it reads pages and runs them as printed."""

from __future__ import annotations

import os

import pytest
from page import Shell, Step, follow, missing, steps

PAGE = """
Some text.

```console
$ mkdir one && cd one   # a comment
$ export WORD=two
```

```yaml
# some.yml
word: [one, two]
```

```yaml
not: {a: file}
```

```console
$ cat some.yml; echo "$WORD words"
```

This prints:

```text
word: […]
two words
```

```text
about something else
```

```console
$ true
```

<!-- screen: other -->

```text
of another test
```
"""


@pytest.fixture
def shell(tmp_path):
    one = Shell(tmp_path, {"PATH": os.environ["PATH"]}, 20)
    yield one
    one.close()


def test_a_page_is_read():
    assert steps(PAGE) == [
        Step("command", "mkdir one && cd one   # a comment"), Step("command", "export WORD=two"),
        Step("file", "# some.yml\nword: [one, two]\n", "some.yml"),
        Step("command", 'cat some.yml; echo "$WORD words"'), Step("output", "word: […]\ntwo words\n"), Step("command", "true"),
    ]


def test_a_page_is_followed(shell, tmp_path):
    follow(shell, steps(PAGE))
    assert (tmp_path / "one" / "some.yml").read_text().startswith("# some.yml")


def test_what_is_not_printed_is_found(shell):
    with pytest.raises(AssertionError, match="no such line: three words"):
        follow(shell, steps(PAGE.replace("two words", "three words")))
    assert missing("a\nb\n", "b\na\n") == "b" and missing("a…c\n", "abc\n") == ""


def test_a_command_that_fails_ends_the_page(shell):
    with pytest.raises(AssertionError, match="ended with 3"):
        follow(shell, [Step("command", "(exit 3)"), Step("command", "echo no")])
    assert "no\n" not in shell.log


def test_a_command_that_does_not_end_is_ended(tmp_path):
    one = Shell(tmp_path, {"PATH": os.environ["PATH"]}, 1)
    with pytest.raises(AssertionError, match="ended with the shell"):
        one.run("echo before; sleep 60 | cat")
    one.close()


def test_a_directory_that_the_page_does_not_create_is_found(shell):
    with pytest.raises(AssertionError, match="does not create"):
        follow(shell, [Step("file", "# a/b.yml\n", "a/b.yml")])


def test_a_replaced_word_must_be_printed(shell):
    follow(shell, [Step("command", "test there = there")], {"there": "here"})
    with pytest.raises(AssertionError, match="no longer prints there"):
        follow(shell, [Step("command", "true")], {"there": "here"})
