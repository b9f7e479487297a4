"""The demo study's prompts and guidelines are fit to be imported, sampled from and shown."""

import itertools
import json
import re
from pathlib import Path
from typing import TypedDict

import pytest

from annotate.known_lines import known_line

DEMO = Path(__file__).resolve().parents[2] / "annotate" / "demo"
KINDS = {
    "explain", "advice", "rewrite", "summarise", "list", "email",
    "brainstorm", "code", "story", "compare", "disagree", "fact",
}  # fmt: skip
FEATURES = {"multi-turn", "system", "markdown", "long"}
MAX_SIMILARITY = 0.5


class Message(TypedDict):
    role: str
    content: str


class Prompt(TypedDict):
    id: str
    messages: list[Message]
    split: str
    tags: list[str]


@pytest.fixture(scope="module")
def prompts() -> list[Prompt]:
    text = (DEMO / "prompts.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def of_split(prompts: list[Prompt], split: str) -> list[Prompt]:
    return [prompt for prompt in prompts if prompt["split"] == split]


def turns(prompt: Prompt) -> list[Message]:
    """The messages without the system message."""
    return [message for message in prompt["messages"] if message["role"] != "system"]


def words(prompt: Prompt) -> list[str]:
    return re.findall(r"[^\W_]+", " ".join(message["content"] for message in prompt["messages"]).lower())


def similarity(left: Prompt, right: Prompt) -> float:
    """Jaccard similarity of the two sets of words."""
    a, b = set(words(left)), set(words(right))
    return len(a & b) / len(a | b)


def share_with(prompts: list[Prompt], tag: str) -> float:
    return sum(tag in prompt["tags"] for prompt in prompts) / len(prompts)


def test_each_line_has_exactly_the_fields_of_a_prompt(prompts: list[Prompt]) -> None:
    for prompt in prompts:
        assert prompt.keys() == {"id", "messages", "split", "tags"}, prompt
        for message in prompt["messages"]:
            assert message.keys() == {"role", "content"}, prompt["id"]
            assert message["content"] == message["content"].strip() != "", prompt["id"]


def test_there_are_80_train_and_40_heldout_prompts(prompts: list[Prompt]) -> None:
    assert len(of_split(prompts, "train")) == 80
    assert len(of_split(prompts, "heldout")) == 40
    assert len(prompts) == 120


def test_user_and_assistant_take_turns_and_the_user_is_last(prompts: list[Prompt]) -> None:
    for prompt in prompts:
        roles = [message["role"] for message in prompt["messages"]]
        spoken = roles[1:] if roles[0] == "system" else roles
        assert len(spoken) % 2 == 1, prompt["id"]
        assert spoken == (["user", "assistant"] * len(spoken))[: len(spoken)], prompt["id"]


def test_ids_and_contents_are_unique(prompts: list[Prompt]) -> None:
    ids = [prompt["id"] for prompt in prompts]
    contents = [json.dumps(prompt["messages"]) for prompt in prompts]
    assert len(set(ids)) == len(ids)
    assert len(set(contents)) == len(contents)


def test_no_two_prompts_are_near_duplicates_within_or_across_splits(prompts: list[Prompt]) -> None:
    close = [
        (left["id"], right["id"])
        for left, right in itertools.combinations(prompts, 2)
        if similarity(left, right) >= MAX_SIMILARITY
    ]
    assert close == []


def test_each_prompt_has_one_kind_and_otherwise_only_known_features(prompts: list[Prompt]) -> None:
    for prompt in prompts:
        tags = set(prompt["tags"])
        assert len(tags) == len(prompt["tags"]), prompt["id"]
        assert len(tags & KINDS) == 1, prompt["id"]
        assert tags <= KINDS | FEATURES, prompt["id"]


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_every_kind_occurs_in_both_splits(prompts: list[Prompt], split: str) -> None:
    kinds = {tag for prompt in of_split(prompts, split) for tag in prompt["tags"]} & KINDS
    assert kinds == KINDS


def test_feature_tags_say_what_the_messages_are(prompts: list[Prompt]) -> None:
    for prompt in prompts:
        tags = prompt["tags"]
        assert ("multi-turn" in tags) == (len(turns(prompt)) > 1), prompt["id"]
        assert ("system" in tags) == (prompt["messages"][0]["role"] == "system"), prompt["id"]
        assert ("long" in tags) == (len(prompt["messages"][-1]["content"].split()) >= 100), prompt["id"]


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_about_one_prompt_in_seven_is_multi_turn_and_a_few_have_a_system_message(
    prompts: list[Prompt], split: str
) -> None:
    chosen = of_split(prompts, split)
    assert 0.12 <= share_with(chosen, "multi-turn") <= 0.18
    assert 0.02 <= share_with(chosen, "system") <= 0.10
    assert all(len(turns(prompt)) in (1, 3, 5) for prompt in chosen)


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_prompts_are_short_on_average_so_that_a_cpu_can_train_on_them(
    prompts: list[Prompt], split: str
) -> None:
    lengths = [
        sum(len(message["content"].split()) for message in prompt["messages"])
        for prompt in of_split(prompts, split)
    ]
    assert 25 <= sum(lengths) / len(lengths) <= 40
    assert max(lengths) <= 190


def test_guidelines_say_when_to_use_each_choice() -> None:
    text = (DEMO / "guidelines.md").read_text(encoding="utf-8")
    assert text.startswith("# ")
    for choice in ("| `1` |", "| `2` |", "| `0` | Tie", "| `b` | Both are bad", "| `Space` | Skip"):
        assert choice in text
    assert len(text.split()) <= 800


@pytest.mark.parametrize(("name", "fewest"), [("practice", 3), ("gold", 5)])
def test_pairs_with_a_known_answer_can_be_imported_and_are_explained(name: str, fewest: int) -> None:
    lines = [
        known_line(json.loads(line))
        for line in (DEMO / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert len(lines) >= fewest
    assert len({line.messages_json for line in lines}) == len(lines)
    assert all(len(line.explanation) > 10 for line in lines)
    assert {"a", "b"} <= {line.verdict.value for line in lines}
    speaks_of_sides = re.compile(r"\b[AB]\b|\bthe (?i:first|second|left|right)\b")
    assert [line.explanation for line in lines if speaks_of_sides.search(line.explanation)] == []
