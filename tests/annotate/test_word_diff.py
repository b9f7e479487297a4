"""The word diff: what differs is marked, everything is escaped, white space stays."""

import time

from hypothesis import given
from hypothesis import strategies as st

from annotate.word_diff import word_diff


def plain(html: str) -> str:
    for tag in ("<del>", "</del>", "<ins>", "</ins>"):
        html = html.replace(tag, "")
    for entity, character in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&#x27;", "'"), ("&amp;", "&")):
        html = html.replace(entity, character)
    return html


def test_words_are_marked_without_the_space_after_them() -> None:
    assert word_diff("a red car", "a blue car") == ("a <del>red</del> car", "a <ins>blue</ins> car")


def test_markup_in_a_text_is_escaped_inside_and_outside_of_marks() -> None:
    assert word_diff("<b>x</b> y", "<i> y") == (
        "<del>&lt;b&gt;x&lt;/b&gt;</del> y",
        "<ins>&lt;i&gt;</ins> y",
    )


@given(st.text(), st.text())
def test_without_the_marks_each_text_is_what_it_was(before: str, after: str) -> None:
    marked = word_diff(before, after)
    assert marked is not None
    assert [plain(side) for side in marked] == [before.lstrip(), after.lstrip()]


def test_equal_texts_have_no_marks() -> None:
    assert word_diff("same\n\nwords", "same\n\nwords") == ("same\n\nwords", "same\n\nwords")


def test_long_words_hold_the_texts_together() -> None:
    """Keeping "a" would cost "photosynthesis": both cannot be kept in order."""
    assert word_diff("photosynthesis a", "a photosynthesis") == (
        "photosynthesis <del>a</del>",
        "<ins>a</ins> photosynthesis",
    )


def test_long_texts_are_compared_by_sentence() -> None:
    common = "".join(f"This is the sentence of number {number}. " for number in range(100))
    marked = word_diff(f"One start. {common}One end.", f"Another start. {common}Another end.")
    assert marked is not None
    assert marked[0].startswith("<del>One start.</del> This is")
    assert marked[1].endswith("<ins>Another end.</ins>")
    assert marked[1].count("<ins>") == 2


def test_texts_of_too_many_sentences_are_not_compared() -> None:
    assert word_diff("the. a. " * 400, "a. the. " * 400) is None


def test_texts_without_a_word_in_common_are_marked_whole_however_long() -> None:
    assert word_diff("the. " * 600, "a. " * 600) == (
        f"<del>{('the. ' * 600).strip()}</del> ",
        f"<ins>{('a. ' * 600).strip()}</ins> ",
    )


def test_text_that_repeats_itself_costs_no_more_than_any_other() -> None:
    """`difflib` takes half a minute for these."""
    started = time.monotonic()
    assert word_diff("the " * 1000, "a the " * 500) is not None
    assert word_diff("the " * 480, "a the " * 250) is not None
    assert time.monotonic() - started < 2
