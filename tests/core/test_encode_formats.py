"""The formats of examples.jsonl beside the plainest, for every stage and verdict, and what is remarked."""

import functools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as RawTokenizer
from tokenizers import models, processors
from transformers import PreTrainedTokenizerFast

from tests.core.support import END, config, rules
from training.core.data.encode import (
    EncodedCompletion,
    EncodedPair,
    EncodedUnpaired,
    EncodingRules,
    Tokenizer,
    encode_demonstrations,
    encode_pairs,
    encode_unpaired,
)
from training.core.data.examples import EncodedExamples
from training.core.model.loading import find_base, load_tokenizer
from training.core.run.config import RunConfig
from training.core.run.directory import Receipt

USER = [{"role": "user", "content": "Hello"}]
GOOD = [{"role": "assistant", "content": "Yes"}]
BAD = [{"role": "assistant", "content": "No"}]
PAIR: dict[str, Any] = {"id": "a", "prompt": USER, "chosen": GOOD, "rejected": BAD}


@functools.cache
def loaded(settings: RunConfig) -> tuple[Tokenizer, EncodingRules]:
    return load_tokenizer(find_base(settings)), rules(settings)


def encoded(
    path: Path, *lines: object, base: Path, encode: Callable[..., Any] = encode_pairs, **changes: Any
) -> EncodedExamples[Any]:
    tokenizer, limits = loaded(config(base, **changes))
    (path / "examples.jsonl").write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    found: EncodedExamples[Any] = encode(path / "examples.jsonl", tokenizer=tokenizer, rules=limits)
    return found


@pytest.fixture
def tokenizer(base_folder: Path) -> Tokenizer:
    return load_tokenizer(find_base(config(base_folder)))


def test_the_prompt_may_be_the_messages_that_both_sides_begin_with(tmp_path: Path, base_folder: Path) -> None:
    implicit = {"id": "b", "chosen": USER + GOOD, "rejected": USER + BAD}
    explicit, found = encoded(tmp_path, PAIR, implicit, base=base_folder).items
    assert found == replace(explicit, id="b")


@pytest.mark.parametrize(
    ("chosen", "rejected", "detail"),
    [
        (GOOD, BAD, "prompt is missing, and chosen and rejected begin with no common message"),
        (USER + GOOD, USER + GOOD, "chosen and rejected are the same messages"),
        (USER + GOOD, USER, "rejected must be a list of messages"),
        (USER + GOOD, "No", "rejected must be a list of messages"),
        (USER + GOOD + USER, USER + GOOD + BAD, "prompt ends with the assistant; it must end with the user"),
    ],
)
def test_sides_without_a_prompt_that_cannot_be_used_are_named(
    tmp_path: Path, base_folder: Path, chosen: object, rejected: object, detail: str
) -> None:
    found = encoded(tmp_path, {"chosen": chosen, "rejected": rejected}, base=base_folder)
    assert found.left_out[0].detail.startswith(detail)


def test_plain_texts_are_tokenised_as_they_are_and_end(
    tmp_path: Path, base_folder: Path, tokenizer: Tokenizer
) -> None:
    plain = {"id": "a", "prompt": "The sky is", "chosen": " blue.", "rejected": " a bear.<|im_end|>"}
    (pair,) = encoded(tmp_path, plain, base=base_folder).items
    assert tokenizer.decode(list(pair.prompt)) == "The sky is"
    assert tokenizer.decode(list(pair.chosen)) == " blue.<|im_end|>"
    assert tokenizer.decode(list(pair.rejected)) == " a bear.<|im_end|>"
    assert pair.rejected.count(END) == 1


def test_a_text_marked_as_cut_gets_no_end_token(
    tmp_path: Path, base_folder: Path, tokenizer: Tokenizer
) -> None:
    conversation = PAIR | {"chosen_cut": True}
    plain = {"prompt": "The sky is", "chosen": " blu", "rejected": " red", "chosen_cut": True}
    first, second = encoded(tmp_path, conversation, plain, base=base_folder).items
    assert tokenizer.decode(list(first.chosen)) == "Yes"
    assert tokenizer.decode(list(first.rejected)) == "No<|im_end|>"
    assert tokenizer.decode(list(second.chosen)) == " blu"


def test_an_overlong_completion_can_be_cut_without_an_end_token_and_is_named(
    tmp_path: Path, base_folder: Path, tokenizer: Tokenizer
) -> None:
    long = PAIR | {"rejected": [{"role": "assistant", "content": "No " * 100}]}
    found = encoded(tmp_path, long, base=base_folder, max_length=64, overlong="cut")
    (pair,) = found.items
    assert len(pair.prompt) + len(pair.rejected) == 64
    assert tokenizer.decode(list(pair.prompt)).endswith("<|im_start|>assistant\n")
    assert END not in pair.rejected
    assert pair.chosen[-1] == END
    (remark,) = found.remarks
    assert (remark.line, remark.id, remark.reason) == (1, "a", "cut")
    assert remark.detail == (
        "prompt and rejected have 325 tokens; max_length is 64, so rejected ends after 40 of 301 tokens"
    )
    assert found.receipt(steps=1).cut == 1


def test_completions_that_differ_only_in_what_is_cut_are_identical(tmp_path: Path, base_folder: Path) -> None:
    long = PAIR | {
        "chosen": [{"role": "assistant", "content": "No " * 100 + "a"}],
        "rejected": [{"role": "assistant", "content": "No " * 100 + "b"}],
    }
    found = encoded(tmp_path, long, base=base_folder, max_length=64, overlong="cut")
    assert found.left_out[0].reason == "identical"


def test_the_receipt_counts_what_was_tokenised_and_names_what_came_twice(
    tmp_path: Path, base_folder: Path
) -> None:
    stored = {"prompt_token_ids": [0, 5], "chosen_token_ids": [7], "rejected_token_ids": [8]}
    turned = PAIR | {"id": "turned", "chosen": BAD, "rejected": GOOD}
    found = encoded(tmp_path, PAIR, PAIR | {"id": "again"}, turned, stored, base=base_folder)
    receipt = found.receipt(steps=2)
    assert (receipt.examples, receipt.used, receipt.retokenised, receipt.changed) == (4, 4, 3, 0)
    assert [(remark.line, remark.id, remark.reason, remark.detail) for remark in receipt.remarks] == [
        (2, "again", "duplicate", "the same as a; both are used"),
        (3, "turned", "opposite", "the opposite verdict of a; both are used"),
    ]
    written = json.loads(json.dumps(found.receipt(steps=2), default=vars))
    assert Receipt.from_json(written) == receipt


def test_the_same_tie_turned_round_is_a_duplicate_and_no_opposite(tmp_path: Path, base_folder: Path) -> None:
    tie = PAIR | {"tie": True}
    turned = tie | {"id": "b", "chosen": BAD, "rejected": GOOD}
    found = encoded(tmp_path, tie, turned, base=base_folder, loss={"name": "davidson"})
    assert [remark.reason for remark in found.remarks] == ["duplicate"]


@pytest.mark.parametrize("name", ["rao_kupper", "davidson"])
def test_ties_are_for_the_losses_that_know_them(tmp_path: Path, base_folder: Path, name: str) -> None:
    lines = [PAIR | {"id": "tie", "tie": True}, PAIR | {"p": 0.7}, PAIR | {"id": "c", "tie": True, "p": 0.7}]
    found = encoded(tmp_path, *lines, base=base_folder, loss={"name": name})
    assert [(pair.id, pair.tie, pair.p) for pair in found.items] == [("tie", True, 1.0), ("a", False, 0.7)]
    assert found.left_out[0].detail == "a tie has no p; p = 0.7 must be left out"


@pytest.mark.parametrize(("name", "nu"), [("rao_kupper", 1), ("davidson", 0)])
def test_a_nu_without_ties_refuses_them(tmp_path: Path, base_folder: Path, name: str, nu: float) -> None:
    found = encoded(tmp_path, PAIR | {"tie": True}, base=base_folder, loss={"name": name, "nu": nu})
    assert found.left_out[0].detail == f"with nu = {nu} the loss {name} has no ties; raise nu"


def test_weights_are_scaled_to_a_mean_of_one_so_that_their_size_does_not_matter(
    tmp_path: Path, base_folder: Path
) -> None:
    def weights(scale: float) -> list[float]:
        lines = [PAIR | {"id": str(number), "weight": scale * number} for number in (1, 2, 3)]
        return [pair.weight for pair in encoded(tmp_path, *lines, base=base_folder).items]

    assert weights(1) == pytest.approx([0.5, 1.0, 1.5])
    assert weights(1000) == pytest.approx(weights(1))


def test_judged_completions_and_preferences_both_serve_kto(
    tmp_path: Path, base_folder: Path, tokenizer: Tokenizer
) -> None:
    judged = {"id": "j", "prompt": USER, "completion": GOOD, "label": True, "weight": 2}
    found = encoded(tmp_path, judged, PAIR, base=base_folder, encode=encode_unpaired, loss={"name": "kto"})
    items: tuple[EncodedUnpaired, ...] = found.items
    assert [(item.id, tokenizer.decode(list(item.completion)), item.label) for item in items] == [
        ("j", "Yes<|im_end|>", True),
        ("a/chosen", "Yes<|im_end|>", True),
        ("a/rejected", "No<|im_end|>", False),
    ]
    assert sum(item.weight for item in items) == pytest.approx(3)
    assert items[0].weight == 2 * items[1].weight
    assert found.receipt(steps=1).used == 2


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"label": None}, "label must be true or false"),
        ({"label": 1}, "label must be true or false"),
        ({"completion": None}, "completion is missing"),
        ({"completion_token_ids": [END]}, "completion has no token before its end"),
        ({"weight": -1}, "weight = -1 must be above 0; 1 is usual"),
    ],
)
def test_judged_completions_that_cannot_be_used_are_named(
    tmp_path: Path, base_folder: Path, changes: dict[str, Any], detail: str
) -> None:
    line = {"prompt": USER, "completion": GOOD, "label": False} | changes
    found = encoded(tmp_path, line, base=base_folder, encode=encode_unpaired, loss={"name": "kto"})
    assert found.left_out[0].detail == detail


def test_the_same_completion_judged_twice_is_remarked(tmp_path: Path, base_folder: Path) -> None:
    line = {"prompt": USER, "completion": GOOD, "label": True}
    found = encoded(tmp_path, line, line, line | {"label": False}, base=base_folder, encode=encode_unpaired)
    assert [(remark.id, remark.reason) for remark in found.remarks] == [
        ("line-2", "duplicate"),
        ("line-3", "opposite"),
    ]


def test_demonstrations_are_prompt_and_completion_or_a_conversation(
    tmp_path: Path, base_folder: Path, tokenizer: Tokenizer
) -> None:
    lines = [
        {"id": "a", "prompt": USER, "completion": GOOD},
        {"id": "b", "messages": USER + BAD + USER + GOOD},
        {"id": "c", "prompt": "The sky is", "completion": " blue."},
        {"id": "d", "prompt": USER, "completion": GOOD, "completion_token_ids": [1, 2]},
    ]
    found = encoded(tmp_path, *lines, base=base_folder, encode=encode_demonstrations)
    items: tuple[EncodedCompletion, ...] = found.items
    assert [tokenizer.decode(list(item.completion)) for item in items[:3]] == [
        "Yes<|im_end|>",
        "Yes<|im_end|>",
        " blue.<|im_end|>",
    ]
    assert tokenizer.decode(list(items[1].prompt)).count("<|im_end|>") == 3
    assert items[3].completion == (1, 2)


@pytest.mark.parametrize(
    ("line", "detail"),
    [
        ({"messages": USER + GOOD, "prompt": USER}, "give either messages or prompt and completion"),
        ({"messages": GOOD}, "messages needs a prompt before the assistant's last message"),
        ({"messages": USER}, "messages needs a prompt before"),
        ({"messages": GOOD + USER}, "prompt ends with the assistant; it must end with the user"),
        ({"prompt": USER}, "completion is missing"),
        ({"prompt": USER, "completion": GOOD, "weight": 2}, "stage sft knows no weights; leave weight out"),
    ],
)
def test_demonstrations_that_cannot_be_used_are_named(
    tmp_path: Path, base_folder: Path, line: object, detail: str
) -> None:
    found = encoded(tmp_path, line, base=base_folder, encode=encode_demonstrations)
    assert found.left_out[0].detail.startswith(detail)


def test_tools_and_template_settings_reach_the_chat_template(
    tmp_path: Path, base_folder: Path, tokenizer: Tokenizer
) -> None:
    tokenizer.chat_template = (
        "{{ tools | tojson if tools else '' }}{{ mood }}{% for message in messages %}{{ message['content'] }}"
        "{% endfor %}"
    )
    line = PAIR | {"tools": '[{"name": "f"}]', "chat_template_kwargs": {"mood": "calm"}}
    (tmp_path / "examples.jsonl").write_text(json.dumps(line))
    (pair,) = encode_pairs(
        tmp_path / "examples.jsonl", tokenizer=tokenizer, rules=rules(config(base_folder))
    ).items
    assert tokenizer.decode(list(pair.prompt)) == '[{"name": "f"}]calmHello'


def beginning_tokenizer() -> tuple[Tokenizer, EncodingRules]:
    """Tokens a, b and newline; the tokenizer puts <s> before every text, and so does its chat template."""
    raw = RawTokenizer(models.BPE(vocab={"a": 0, "b": 1, "\n": 2}, merges=[]))
    raw.add_special_tokens(["<s>", "</s>"])
    raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 3)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template = (
        "{{ bos_token }}{% for message in messages %}{{ message['content'] }}"
        "{% if message['role'] == 'assistant' %}{{ eos_token }}{% else %}{{ '\\n' }}{% endif %}{% endfor %}"
    )
    loss = config(Path("b")).loss
    return tokenizer, EncodingRules(max_length=64, vocabulary=5, end_tokens=frozenset({4}), loss=loss)


def test_texts_begin_and_end_once_whatever_tokenizer_template_and_text_add(tmp_path: Path) -> None:
    tokenizer, limits = beginning_tokenizer()

    def answer(content: str) -> list[dict[str, str]]:
        return [{"role": "assistant", "content": content}]

    lines = [
        {"prompt": [{"role": "user", "content": "a"}], "chosen": answer("b</s>"), "rejected": answer("a")},
        {"prompt": "a\n", "chosen": "b</s>", "rejected": "a"},
    ]
    path = tmp_path / "examples.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines))
    for pair in encode_pairs(path, tokenizer=tokenizer, rules=limits).items:
        assert (pair.prompt, pair.chosen, pair.rejected) == ((3, 0, 2), (1, 4), (0, 4))


def merging_tokenizer() -> tuple[Tokenizer, EncodingRules]:
    """Tokens a, b, c, space and "ab", which a and b become wherever they meet."""
    vocabulary = {"a": 0, "b": 1, "c": 2, "ab": 3}
    raw = RawTokenizer(models.BPE(vocab=vocabulary, merges=[("a", "b")]))
    raw.add_special_tokens(["</s>"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="</s>")
    found = EncodingRules(
        max_length=64,
        vocabulary=5,
        end_tokens=frozenset({4}),
        loss=config(Path("b")).loss,
    )
    return tokenizer, found


def test_a_completion_whose_first_token_merges_with_the_prompt_is_tokenised_apart_and_named(
    tmp_path: Path,
) -> None:
    """Sampling begins after the prompt's own tokens, so training must too."""
    tokenizer, limits = merging_tokenizer()
    lines = [
        {"id": "apart", "prompt": "ca", "chosen": "c", "rejected": "a"},
        {"id": "merged", "prompt": "ca", "chosen": "bb", "rejected": "c"},
    ]
    path = tmp_path / "examples.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines))
    found = encode_pairs(path, tokenizer=tokenizer, rules=limits)
    assert [(pair.prompt, pair.chosen) for pair in found.items] == [((2, 0), (2, 4)), ((2, 0), (1, 1, 4))]
    receipt = found.receipt(steps=1)
    assert (receipt.retokenised, receipt.changed) == (2, 1)
    assert [(remark.id, remark.detail) for remark in receipt.remarks] == [
        ("merged", "the prompt's last tokens merge with the first of chosen; tokenised apart")
    ]


def test_an_edited_text_after_other_stored_prompt_ids_is_remarked(tmp_path: Path, base_folder: Path) -> None:
    found = encoded(tmp_path, PAIR | {"prompt_token_ids": [0, 5]}, base=base_folder)
    assert {remark.reason for remark in found.remarks} == {"changed"}
    assert found.receipt(steps=1).changed == 1


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "content", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(
    changes=st.dictionaries(
        st.sampled_from([*PAIR, "p", "weight", "tie", "label", "completion", "chosen_token_ids", "messages"]),
        json_values,
        max_size=3,
    )
)
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_line_holds_it_is_used_or_named_and_never_ends_the_run(
    tmp_path: Path, base_folder: Path, changes: dict[str, Any]
) -> None:
    for encode in (encode_pairs, encode_unpaired, encode_demonstrations):
        found = encoded(tmp_path, PAIR | changes, base=base_folder, encode=encode)
        assert found.examples == 1
        assert len(found.left_out) == (not found.items)
        json.dumps(found.receipt(steps=1), default=vars).encode()


@given(content=st.text(min_size=1).filter(lambda content: content.strip()))
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_comes_back_from_its_tokens(
    tmp_path: Path, base_folder: Path, tokenizer: Tokenizer, content: str
) -> None:
    pair: EncodedPair
    line = PAIR | {"chosen": [{"role": "assistant", "content": content}], "rejected": GOOD + USER + BAD}
    (pair,) = encoded(tmp_path, line, base=base_folder).items
    assert tokenizer.decode(list(pair.chosen)) == f"{content}<|im_end|>"
    assert pair.chosen.count(END) == 1
