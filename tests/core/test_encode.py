"""Examples to token ids, and the receipt of those that cannot be used. Tokens of the base are bytes."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.core.support import END, config, rules
from training.core.data.encode import (
    EncodedCompletion,
    EncodedPair,
    Tokenizer,
    encode_completions,
    encode_pairs,
)
from training.core.data.examples import MAX_LINE_BYTES, EncodedExamples
from training.core.errors import TrainingError
from training.core.model.loading import find_base, load_tokenizer
from training.core.run.directory import LeftOut

USER = [{"role": "user", "content": "Hello"}]
GOOD = [{"role": "assistant", "content": "Yes"}]
BAD = [{"role": "assistant", "content": "No"}]
PAIR: dict[str, Any] = {"id": "a", "prompt": USER, "chosen": GOOD, "rejected": BAD}


@pytest.fixture
def tokenizer(base_folder: Path) -> Tokenizer:
    return load_tokenizer(find_base(config(base_folder)))


def encode(path: Path, *lines: object, base: Path, **changes: Any) -> EncodedExamples[EncodedPair]:
    settings = config(base, **changes)
    texts = (line if isinstance(line, str) else json.dumps(line) for line in lines)
    (path / "examples.jsonl").write_text("\n".join(texts), encoding="utf-8")
    tokenizer = load_tokenizer(find_base(settings))
    return encode_pairs(path / "examples.jsonl", tokenizer=tokenizer, rules=rules(settings))


def test_texts_go_through_the_chat_template_and_end_with_its_end_token(
    tmp_path: Path, base_folder: Path, tokenizer: Tokenizer
) -> None:
    (pair,) = encode(tmp_path, PAIR, base=base_folder).items
    assert tokenizer.decode(list(pair.prompt)) == (
        "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    )
    # The template writes a newline after the end token; a sampler never does.
    assert tokenizer.decode(list(pair.chosen)) == "Yes<|im_end|>"
    assert pair.chosen[-1] == END
    assert tokenizer.decode(list(pair.rejected)) == "No<|im_end|>"


def test_stored_token_ids_are_trained_on_as_they_are(tmp_path: Path, base_folder: Path) -> None:
    stored = PAIR | {
        "prompt_token_ids": [0, 5],
        "chosen_token_ids": [7, 8, END],
        "rejected_token_ids": [7, 0],  # cut by length: no end token is added
    }
    (pair,) = encode(tmp_path, stored, base=base_folder).items
    assert (pair.prompt, pair.chosen, pair.rejected) == ((0, 5), (7, 8, END), (7, 0))


def test_an_edited_text_follows_stored_prompt_ids_and_ends(tmp_path: Path, base_folder: Path) -> None:
    edited = PAIR | {"prompt_token_ids": [1, 2, 3], "rejected_token_ids": [9]}
    (pair,) = encode(tmp_path, edited, base=base_folder).items
    assert pair.prompt == (1, 2, 3)
    assert len(pair.chosen) == len("Yes") + 1
    assert pair.chosen[-1] == END


def test_an_end_token_is_added_where_the_template_writes_none(
    tmp_path: Path, base_folder: Path, tokenizer: Tokenizer
) -> None:
    settings = config(base_folder)
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    (tmp_path / "examples.jsonl").write_text(json.dumps(PAIR))
    (pair,) = encode_pairs(tmp_path / "examples.jsonl", tokenizer=tokenizer, rules=rules(settings)).items
    assert tokenizer.decode(list(pair.chosen)) == "Yes<|im_end|>"


def test_weights_are_normalised_to_mean_one_over_the_used_pairs(tmp_path: Path, base_folder: Path) -> None:
    encoded = encode(
        tmp_path,
        PAIR | {"id": "a", "weight": 1},
        PAIR | {"id": "b", "weight": 3},
        PAIR | {"id": "c", "weight": 100, "chosen": BAD},
        base=base_folder,
    )
    assert [pair.weight for pair in encoded.items] == [0.5, 1.5]


def test_an_example_without_an_id_is_called_after_its_line(tmp_path: Path, base_folder: Path) -> None:
    nameless = {key: value for key, value in PAIR.items() if key != "id"}
    encoded = encode(tmp_path, PAIR, "", nameless, base=base_folder)
    assert [pair.id for pair in encoded.items] == ["a", "line-3"]


UNUSABLE: list[tuple[object, str, str]] = [
    ("{", "broken", "the line is not valid JSON"),
    ("[" * 100_000, "broken", "the line is not valid JSON"),
    ("[]", "broken", "the line is not a JSON object"),
    (PAIR | {"id": ["a"]}, "broken", "id must be a text or a whole number"),
    (PAIR | {"prompt": None}, "broken", "prompt is missing"),
    (PAIR | {"prompt": []}, "broken", "prompt must be a list of messages"),
    (PAIR | {"prompt": "Hello"}, "broken", "one of prompt and chosen is a text, the other messages"),
    (PAIR | {"chosen": "Yes"}, "broken", "one of prompt and chosen is a text, the other messages"),
    (PAIR | {"prompt": 3}, "broken", "prompt must be a list of messages"),
    (PAIR | {"prompt": "Hello", "chosen": None}, "broken", "chosen is missing"),
    (PAIR | {"prompt": " ", "chosen": "Yes", "rejected": "No"}, "empty", "prompt is empty"),
    (PAIR | {"prompt": "Hello", "chosen": "", "rejected": "No"}, "empty", "chosen is empty"),
    (
        PAIR | {"chosen": [{"role": "assistant", "content": "\ud83d"}]},
        "broken",
        "chosen holds half a surrogate",
    ),
    (PAIR | {"id": "\udc00"}, "broken", "id holds half a surrogate pair at character 0"),
    (PAIR | {"prompt": [{"role": "user", "content": ["text"]}]}, "broken", "prompt has a message without"),
    (
        PAIR | {"prompt": [{"role": "user", "content": "x" * 200}]},
        "too long",
        "the prompt has 219 tokens; max_length is 128",
    ),
    (PAIR | {"chosen_cut": "yes"}, "broken", "chosen_cut must be true or false"),
    (PAIR | {"tie": "yes"}, "broken", "tie must be true or false"),
    (PAIR | {"tools": "no JSON"}, "broken", "tools must be a list of tools"),
    (PAIR | {"tools": {"name": "f"}}, "broken", "tools must be a list of tools"),
    (PAIR | {"chat_template_kwargs": [1]}, "broken", "chat_template_kwargs must be an object"),
    (PAIR | {"prompt": [{"role": "user"}]}, "broken", "prompt has a message without a role and a text"),
    (PAIR | {"prompt": USER + GOOD}, "broken", "prompt ends with the assistant; it must end with the user"),
    (PAIR | {"chosen": USER}, "broken", "chosen ends with the role user, not assistant"),
    (PAIR | {"chosen": None}, "broken", "chosen is missing"),
    (PAIR | {"rejected": [{"role": "assistant", "content": " \n"}]}, "empty", "rejected is empty"),
    (PAIR | {"chosen_token_ids": []}, "empty", "token ids of chosen is empty"),
    (PAIR | {"chosen_token_ids": [END]}, "empty", "chosen has no token before its end"),
    (PAIR | {"chosen_token_ids": [1.5]}, "broken", "token ids of chosen must be a list of whole numbers"),
    (PAIR | {"chosen_token_ids": [True]}, "broken", "token ids of chosen must be a list of whole numbers"),
    (PAIR | {"chosen_token_ids": [258]}, "broken", "token ids of chosen holds 258, outside the vocabulary"),
    (PAIR | {"rejected": GOOD}, "identical", "chosen and rejected are the same tokens"),
    (
        PAIR | {"rejected": [{"role": "assistant", "content": "No " * 100}]},
        "too long",
        "prompt and rejected have 325 tokens; max_length is 128",
    ),
    (PAIR | {"p": 1.5}, "broken", "p = 1.5 must be between 0 and 1; 1 is usual"),
    (PAIR | {"p": "yes"}, "broken", "p must be a finite number"),
    (PAIR | {"weight": 10**400}, "broken", "weight must be a finite number"),
    (PAIR | {"weight": float("nan")}, "broken", "weight must be a finite number"),
    (PAIR | {"weight": 0}, "broken", "weight = 0 must be above 0; 1 is usual"),
    (PAIR | {"tie": True}, "contradictory", "the loss dpo has no ties; train with rao_kupper or davidson"),
]


@pytest.mark.parametrize(("line", "reason", "detail"), UNUSABLE, ids=[detail for *_, detail in UNUSABLE])
def test_an_example_that_cannot_be_used_is_named_with_its_reason(
    tmp_path: Path, base_folder: Path, line: object, reason: str, detail: str
) -> None:
    encoded = encode(tmp_path, line, PAIR | {"id": "good"}, base=base_folder, max_length=128)
    assert [pair.id for pair in encoded.items] == ["good"]
    (entry,) = encoded.left_out
    assert (entry.line, entry.reason) == (1, reason)
    assert entry.detail.startswith(detail)
    receipt = encoded.receipt(steps=1)
    assert (receipt.examples, receipt.used) == (2, 1)


def test_a_second_example_with_an_id_is_left_out(tmp_path: Path, base_folder: Path) -> None:
    encoded = encode(tmp_path, PAIR, PAIR, base=base_folder)
    assert encoded.left_out == (
        LeftOut(line=2, id="a", reason="duplicate id", detail="an earlier line has the id a too"),
    )


def test_a_line_of_more_than_ten_megabytes_is_left_out(tmp_path: Path, base_folder: Path) -> None:
    encoded = encode(tmp_path, "x" * (2 * MAX_LINE_BYTES + 5), PAIR, base=base_folder)
    assert [(entry.line, entry.detail) for entry in encoded.left_out] == [
        (1, "the line is longer than 10 MB")
    ]
    assert len(encoded.items) == 1


def test_a_soft_label_needs_the_loss_that_uses_it(tmp_path: Path, base_folder: Path) -> None:
    soft = PAIR | {"p": 0.7}
    assert encode(tmp_path, soft, base=base_folder).items[0].p == 0.7
    encoded = encode(tmp_path, soft, base=base_folder, loss={"name": "hinge", "beta": 0.1})
    assert (
        encoded.left_out[0].detail
        == "p = 0.7 needs the loss dpo or rao_kupper or davidson; the loss is hinge"
    )


def test_a_template_that_rewrites_the_prompt_is_noticed(
    tmp_path: Path, base_folder: Path, tokenizer: Tokenizer
) -> None:
    tokenizer.chat_template = "{{ messages | length }}{{ messages[-1]['content'] }}"
    (tmp_path / "examples.jsonl").write_text(json.dumps(PAIR))
    encoded = encode_pairs(tmp_path / "examples.jsonl", tokenizer=tokenizer, rules=rules(config(base_folder)))
    assert encoded.left_out[0].detail == "the chat template's prompt is no prefix of prompt and completion"


def test_a_template_that_refuses_a_conversation_leaves_it_out(
    tmp_path: Path, base_folder: Path, tokenizer: Tokenizer
) -> None:
    tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    (tmp_path / "examples.jsonl").write_text(json.dumps(PAIR))
    encoded = encode_pairs(tmp_path / "examples.jsonl", tokenizer=tokenizer, rules=rules(config(base_folder)))
    assert encoded.left_out[0].detail == "the chat template refuses it (roles must alternate)"


def test_texts_without_a_chat_template_end_the_run(
    tmp_path: Path, base_folder: Path, tokenizer: Tokenizer
) -> None:
    tokenizer.chat_template = None
    (tmp_path / "examples.jsonl").write_text(json.dumps(PAIR))
    with pytest.raises(
        TrainingError, match="has no chat template; use a chat model, plain texts or token ids"
    ):
        encode_pairs(tmp_path / "examples.jsonl", tokenizer=tokenizer, rules=rules(config(base_folder)))


def test_no_usable_example_says_how_many_and_why(tmp_path: Path, base_folder: Path) -> None:
    encoded = encode(tmp_path, "{", PAIR | {"chosen": BAD}, PAIR | {"chosen": BAD}, base=base_folder)
    assert str(encoded.none_usable()) == (
        "none of the 3 examples can be used (2 identical, 1 broken); receipt.json says why, one by one"
    )


def completions(path: Path, *lines: object, base: Path) -> EncodedExamples[EncodedCompletion]:
    settings = config(base, stage="score")
    (path / "examples.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    tokenizer = load_tokenizer(find_base(settings))
    return encode_completions(path / "examples.jsonl", tokenizer=tokenizer, rules=rules(settings))


def test_one_completion_or_several_can_be_scored(tmp_path: Path, base_folder: Path) -> None:
    encoded = completions(
        tmp_path,
        {"id": "one", "prompt": USER, "completion": GOOD, "completion_token_ids": [1, 2]},
        {"id": "two", "prompt": USER, "completions": [GOOD, BAD], "completions_token_ids": [None, [3]]},
        base=base_folder,
    )
    assert [(item.id, item.index, len(item.completion)) for item in encoded.items] == [
        ("one", 0, 2),
        ("two", 0, len("Yes") + 1),
        ("two", 1, 1),
    ]


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({}, "give either completion (messages) or completions (a list of them)"),
        ({"completion": GOOD, "completions": [GOOD]}, "give either completion"),
        ({"completions": []}, "completions must be a list of completions"),
        ({"completions": [GOOD], "completions_token_ids": []}, "completions_token_ids must have 1 entries"),
        ({"completions": [GOOD], "completions_token_ids": [[1], [2]]}, "completions_token_ids must have 1"),
    ],
)
def test_completions_that_cannot_be_scored_are_named(
    tmp_path: Path, base_folder: Path, changes: dict[str, Any], detail: str
) -> None:
    encoded = completions(tmp_path, {"id": "a", "prompt": USER} | changes, base=base_folder)
    assert encoded.left_out[0].detail.startswith(detail)
