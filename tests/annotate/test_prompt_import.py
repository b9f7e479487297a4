"""Prompt files: what is taken, what is refused, and that nothing is half-written."""

from __future__ import annotations

import io
import json

import pytest

from annotate.errors import PromptFileError
from annotate.models import AuditEntry, Prompt, Split, Study
from annotate.prompt_lines import canonical_messages, split_of_hash
from annotate.services.prompts import MAX_LINE_BYTES, import_prompts, read_lines
from tests.support.labelling import make_study

pytestmark = pytest.mark.django_db


def lines(*records: object) -> list[bytes]:
    return [json.dumps(record).encode() + b"\n" for record in records]


def faults(content: list[bytes]) -> PromptFileError:
    with pytest.raises(PromptFileError) as caught:
        import_prompts(study=make_study(), lines=content, heldout_share=0.2)
    assert not Prompt.objects.exists()
    return caught.value


def test_chats_and_plain_texts_are_imported_in_order() -> None:
    chat = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Bye"},
    ]
    content = lines(
        {"messages": chat, "id": 7, "tags": ["small talk"]}, {"prompt": "Why?"}, {"prompt": chat[1:2]}
    )
    report = import_prompts(study=make_study(), lines=content, heldout_share=0)
    assert (report.created, report.train, report.heldout, report.duplicates) == (3, 3, 0, 0)
    first, second, third = Prompt.objects.order_by("position")
    assert (first.messages, first.external_id, first.tags) == (chat, "7", ["small talk"])
    assert second.messages == [{"role": "user", "content": "Why?"}]
    assert third.messages == chat[1:2]
    assert [prompt.position for prompt in (first, second, third)] == [0, 1, 2]


def test_empty_lines_and_a_byte_order_mark_do_no_harm() -> None:
    content = [b"\xef\xbb\xbf" + lines({"prompt": "a"})[0], b"\n", b"   \r\n", *lines({"prompt": "b"})]
    assert import_prompts(study=make_study(), lines=content, heldout_share=0).created == 2


def test_duplicates_are_counted_and_left_as_they_are() -> None:
    study = make_study()
    import_prompts(study=study, lines=lines({"prompt": "a", "split": "heldout"}), heldout_share=0)
    again = lines({"prompt": "a", "split": "train"}, {"prompt": "b"}, {"prompt": "b"})
    report = import_prompts(study=study, lines=again, heldout_share=0)
    assert (report.created, report.duplicates) == (1, 2)
    assert Prompt.objects.get(external_id="", messages__0__content="a").split == Split.HELDOUT


def test_another_import_continues_the_order() -> None:
    study = make_study()
    for text in ("a", "b"):
        import_prompts(study=study, lines=lines({"prompt": text}), heldout_share=0)
    assert list(Prompt.objects.order_by("position").values_list("position", flat=True)) == [0, 1]


def test_the_content_decides_the_split_where_the_line_does_not() -> None:
    content = lines(*({"prompt": f"question {number}"} for number in range(1000)))
    first = make_study(name="first")
    report = import_prompts(study=first, lines=content, heldout_share=0.3)
    # 1000 independent draws at 0.3: mean 300, standard deviation 14.5; five of those are 72.
    assert 228 <= report.heldout <= 372
    second = make_study(name="second")
    import_prompts(study=second, lines=content[::-1], heldout_share=0.3)

    def heldout(study: Study) -> set[str]:
        prompts = Prompt.objects.filter(study=study, split=Split.HELDOUT)
        return set(prompts.values_list("content_hash", flat=True))

    assert heldout(first) == heldout(second)


def test_a_larger_share_only_adds_to_the_held_out_prompts() -> None:
    hashes = [f"{number:064x}"[::-1] for number in range(200)]
    small = {h for h in hashes if split_of_hash(h, heldout_share=0.1) == Split.HELDOUT}
    large = {h for h in hashes if split_of_hash(h, heldout_share=0.5) == Split.HELDOUT}
    assert small < large


def test_the_line_says_where_it_belongs() -> None:
    content = lines(
        {"prompt": "a", "split": "heldout"},
        {"prompt": "b", "split": "train"},
        {"prompt": "c", "split": "heldout"},
    )
    report = import_prompts(study=make_study(), lines=content, heldout_share=0.9)
    assert (report.train, report.heldout) == (1, 2)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"not json", "This is not JSON"),
        (b'{"prompt": "a"', "This is not JSON"),
        (b"\xff\xfe", "not UTF-8"),
        (b"[1]", "must be an object"),
        (b'"text"', "must be an object"),
        (b"{}", "has no prompt"),
        (b'{"prompt": ""}', "Message 1 is empty"),
        (b'{"prompt": "  \\n"}', "Message 1 is empty"),
        (b'{"prompt": []}', "at least one message"),
        (b'{"prompt": 3}', "at least one message"),
        (b'{"messages": ["x"]}', 'must be an object with "role"'),
        (b'{"messages": [{"role": "tool", "content": "x"}]}', "has the role 'tool'"),
        (b'{"messages": [{"role": "user", "content": 3}]}', "Message 1 is empty"),
        (b'{"messages": [{"role": "assistant", "content": "x"}]}', "last message must be the user's"),
        (b'{"messages": [{"role": "system", "content": "x"}]}', "last message must be the user's"),
        (
            b'{"messages": [{"role": "user", "content": "x"}, {"role": "user", "content": "y"}]}',
            "must take turns",
        ),
        (
            b'{"messages": [{"role": "user", "content": "x"}, {"role": "system", "content": "y"}]}',
            "system message can only be the first",
        ),
        (b'{"prompt": "a", "messages": []}', "has both"),
        (b'{"prompt": "a", "split": "dev"}', "split = 'dev'"),
        (b'{"prompt": "a", "tags": "x"}', "tags must be a list"),
        (b'{"prompt": "a", "tags": [1]}', "tags must be a list"),
        (b'{"prompt": "\\u0000"}', "NUL"),
        (b'{"prompt": "a", "id": "' + b"i" * 201 + b'"}', "201 characters"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"prompt": "' + b"x" * MAX_LINE_BYTES + b'"}', "more than 1,000,000 bytes"),
    ],
)
def test_a_broken_line_is_named_and_nothing_is_written(line: bytes, message: str) -> None:
    error = faults([*lines({"prompt": "good"}), line + b"\n"])
    assert error.count == 1
    assert error.errors[0].line == 2
    assert message in error.errors[0].message


def test_only_the_first_faults_are_listed_and_all_are_counted() -> None:
    error = faults([b"x\n"] * 30)
    assert error.count == 30
    assert [fault.line for fault in error.errors] == list(range(1, 21))
    assert str(error) == "30 lines are wrong; nothing was imported."


@pytest.mark.parametrize("content", [[], [b"\n", b"  \n"]])
def test_a_file_without_prompts_is_refused(content: list[bytes]) -> None:
    assert "no prompts" in faults(content).errors[0].message


def test_a_line_of_ten_megabytes_is_never_held_whole() -> None:
    handle = io.BytesIO(b'{"prompt": "' + b"x" * 10_000_000 + b'"}\n' + b'{"prompt": "b"}\n')
    read = list(read_lines(handle))
    assert [len(line) for line in read] == [MAX_LINE_BYTES + 1, 16]
    error = faults(read)
    assert (error.count, error.errors[0].line) == (1, 1)


def test_too_many_lines_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("annotate.services.prompts.MAX_LINES", 3)
    error = faults(lines(*({"prompt": str(number)} for number in range(9))))
    assert (error.count, error.errors[0].line) == (1, 4)


@pytest.mark.parametrize("share", [-0.1, 1.0, 7])
def test_a_share_out_of_range_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="heldout share"):
        import_prompts(study=make_study(), lines=lines({"prompt": "a"}), heldout_share=share)


def test_keys_that_are_not_used_are_named() -> None:
    content = lines({"prompt": "a", "source": "x"}, {"prompt": "b", "url": "y"})
    assert import_prompts(study=make_study(), lines=content, heldout_share=0).ignored_keys == (
        "source",
        "url",
    )


def test_an_import_leaves_an_audit_entry() -> None:
    study = make_study()
    import_prompts(study=study, lines=lines({"prompt": "a"}), heldout_share=0)
    entry = AuditEntry.objects.filter(study=study, action="prompts.imported").get()
    assert entry.details == {"created": 1, "duplicates": 0, "heldout": 0}


def test_equal_chats_have_equal_content_whatever_the_order_of_their_keys() -> None:
    one = canonical_messages([{"role": "user", "content": "ü"}])
    assert one == canonical_messages([{"content": "ü", "role": "user"}]) == '[{"role":"user","content":"ü"}]'
