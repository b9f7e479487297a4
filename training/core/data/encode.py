"""examples.jsonl as token ids, for each stage and loss; what cannot be used is on the receipt. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from training.core.data.examples import EncodedExamples, EncodedLine, Remark, encode_file
from training.core.data.fields import as_messages, boolean, number
from training.core.data.text import EncodingRules, ExampleEncoder, Tokenizer
from training.core.errors import ExampleError
from training.core.run.config import SOFT_LABEL_LOSSES, TIE_LOSSES, TIELESS_NU, LossSettings
from training.core.run.directory import TokenIds

__all__ = [
    "EncodedCompletion",
    "EncodedPair",
    "EncodedUnpaired",
    "EncodingRules",
    "Tokenizer",
    "encode_completions",
    "encode_demonstrations",
    "encode_pairs",
    "encode_unpaired",
]


@dataclass(frozen=True)
class EncodedPair:
    """A preference as token ids; `weight` is normalised to mean 1 over the used pairs."""

    id: str
    prompt: TokenIds
    chosen: TokenIds
    rejected: TokenIds
    p: float
    weight: float
    tie: bool = False


@dataclass(frozen=True)
class EncodedUnpaired:
    """A completion that is desirable (`label`) or not, as token ids; the mean of `weight` is 1."""

    id: str
    prompt: TokenIds
    completion: TokenIds
    label: bool
    weight: float


@dataclass(frozen=True)
class EncodedCompletion:
    """One completion to score or to learn; `index` is its place among its example's completions."""

    id: str
    index: int
    prompt: TokenIds
    completion: TokenIds


Example = EncodedPair | EncodedUnpaired | EncodedCompletion
Weighted = TypeVar("Weighted", EncodedPair, EncodedUnpaired)


def encode_pairs(path: Path, *, tokenizer: Tokenizer, rules: EncodingRules) -> EncodedExamples[EncodedPair]:
    """The preferences of examples.jsonl, for every loss of pairs."""
    seen = _Seen()

    def encode(values: Mapping[str, Any], id: str) -> EncodedLine[EncodedPair]:
        encoder = _encoder(_with_prompt(values), tokenizer=tokenizer, rules=rules)
        pair = _pair(encoder, id=id)
        seen.remark(encoder, pair)
        return _line(encoder, pair)

    return weighted_to_mean_one(encode_file(path, encode=encode))


def encode_unpaired(
    path: Path, *, tokenizer: Tokenizer, rules: EncodingRules
) -> EncodedExamples[EncodedUnpaired]:
    """The judged completions of examples.jsonl, for the loss kto.

    A preference is taken too: its chosen completion as a desirable one, its rejected one as the opposite,
    under the ids `<id>/chosen` and `<id>/rejected`.
    """
    seen = _Seen()

    def encode(values: Mapping[str, Any], id: str) -> EncodedLine[EncodedUnpaired]:
        if "chosen" in values or "rejected" in values:
            encoder = _encoder(_with_prompt(values), tokenizer=tokenizer, rules=rules)
            return _line(encoder, *_both_sides(_pair(encoder, id=id)))
        encoder = _encoder(values, tokenizer=tokenizer, rules=rules)
        example = _unpaired(encoder, id=id)
        seen.remark(encoder, example)
        return _line(encoder, example)

    return weighted_to_mean_one(encode_file(path, encode=encode))


def encode_demonstrations(
    path: Path, *, tokenizer: Tokenizer, rules: EncodingRules
) -> EncodedExamples[EncodedCompletion]:
    """The prompts and completions of a stage sft's examples.jsonl.

    TRL's `messages` are taken too: the last one, the assistant's, is the completion, and it alone is learnt.
    """
    seen = _Seen()

    def encode(values: Mapping[str, Any], id: str) -> EncodedLine[EncodedCompletion]:
        if number(values, key="weight", default=1.0) != 1:
            raise ExampleError("contradictory", "stage sft knows no weights; leave weight out")
        encoder = _encoder(_from_conversation(values), tokenizer=tokenizer, rules=rules)
        example = EncodedCompletion(
            id=id, index=0, prompt=encoder.prompt, completion=_completion(encoder, name="completion")
        )
        seen.remark(encoder, example)
        return _line(encoder, example)

    return encode_file(path, encode=encode)


def encode_completions(
    path: Path, *, tokenizer: Tokenizer, rules: EncodingRules
) -> EncodedExamples[EncodedCompletion]:
    """The completions of a score stage's examples.jsonl; an example is used whole or not at all."""

    def encode(values: Mapping[str, Any], id: str) -> EncodedLine[EncodedCompletion]:
        texts, ids = _listed_completions(values)
        encoder = _encoder(values, tokenizer=tokenizer, rules=rules)
        found = [
            encoder.completion(texts[index], ids=ids[index], name=f"completion {index}")
            for index in range(len(texts))
        ]
        completions = (
            EncodedCompletion(id=id, index=index, prompt=encoder.prompt, completion=completion)
            for index, completion in enumerate(found)
        )
        return _line(encoder, *completions)

    return encode_file(path, encode=encode)


def weighted_to_mean_one(encoded: EncodedExamples[Weighted]) -> EncodedExamples[Weighted]:
    """The examples with their weights divided by the mean weight."""
    if not encoded.items:
        return encoded
    mean_weight = sum(item.weight for item in encoded.items) / len(encoded.items)
    items = tuple(replace(item, weight=item.weight / mean_weight) for item in encoded.items)
    return replace(encoded, items=items)


def _encoder(values: Mapping[str, Any], *, tokenizer: Tokenizer, rules: EncodingRules) -> ExampleEncoder:
    return ExampleEncoder(values=values, prompt_value=values.get("prompt"), tokenizer=tokenizer, rules=rules)


def _line(encoder: ExampleEncoder, *items: Any) -> EncodedLine[Any]:
    return EncodedLine(items=items, from_text=encoder.from_text, remarks=tuple(encoder.remarks))


def _completion(encoder: ExampleEncoder, *, name: str) -> TokenIds:
    """A completion to learn from: it says something before it ends."""
    ids = encoder.values.get(f"{name}_token_ids")
    found = encoder.completion(encoder.values.get(name), ids=ids, name=name)
    if encoder.rules.end_tokens.issuperset(found):
        raise ExampleError("empty", f"{name} has no token before its end")
    return found


def _pair(encoder: ExampleEncoder, *, id: str) -> EncodedPair:
    values = encoder.values
    pair = EncodedPair(
        id=id,
        prompt=encoder.prompt,
        chosen=_completion(encoder, name="chosen"),
        rejected=_completion(encoder, name="rejected"),
        p=number(values, key="p", default=1.0),
        weight=_weight(values),
        tie=boolean(values, key="tie", default=False),
    )
    if pair.chosen == pair.rejected:
        raise ExampleError("identical", "chosen and rejected are the same tokens")
    _check_label(pair, loss=encoder.rules.loss)
    return pair


def _unpaired(encoder: ExampleEncoder, *, id: str) -> EncodedUnpaired:
    return EncodedUnpaired(
        id=id,
        prompt=encoder.prompt,
        completion=_completion(encoder, name="completion"),
        label=boolean(encoder.values, key="label"),
        weight=_weight(encoder.values),
    )


def _both_sides(pair: EncodedPair) -> tuple[EncodedUnpaired, EncodedUnpaired]:
    def side(name: str, completion: TokenIds) -> EncodedUnpaired:
        return EncodedUnpaired(
            id=f"{pair.id}/{name}",
            prompt=pair.prompt,
            completion=completion,
            label=name == "chosen",
            weight=pair.weight,
        )

    return side("chosen", pair.chosen), side("rejected", pair.rejected)


def _weight(values: Mapping[str, Any]) -> float:
    weight = number(values, key="weight", default=1.0)
    if weight <= 0:
        raise ExampleError("broken", f"weight = {weight:g} must be above 0; 1 is usual")
    return weight


def _check_label(pair: EncodedPair, *, loss: LossSettings) -> None:
    if not 0 <= pair.p <= 1:
        raise ExampleError("broken", f"p = {pair.p:g} must be between 0 and 1; 1 is usual")
    if pair.p != 1 and loss.name not in SOFT_LABEL_LOSSES:
        raise ExampleError(
            "contradictory",
            f"p = {pair.p:g} needs the loss {' or '.join(SOFT_LABEL_LOSSES)}; the loss is {loss.name}",
        )
    if not pair.tie:
        return
    if loss.name not in TIE_LOSSES:
        raise ExampleError(
            "contradictory",
            f"the loss {loss.name} has no ties; train with {' or '.join(TIE_LOSSES)}, leave ties out, "
            "or give p = 0.5 with the loss dpo",
        )
    if loss.nu == TIELESS_NU[loss.name]:
        raise ExampleError(
            "contradictory", f"with nu = {loss.nu:g} the loss {loss.name} has no ties; raise nu"
        )
    if pair.p not in (0.5, 1):
        raise ExampleError("contradictory", f"a tie has no p; p = {pair.p:g} must be left out")


def _with_prompt(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """A preference with its prompt: where there is none, the messages with which both sides begin."""
    if "prompt" in values or "prompt_token_ids" in values:
        return values
    chosen, rejected = (as_messages(values.get(name), name=name) for name in ("chosen", "rejected"))
    shared = next(
        (place for place, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b),
        min(len(chosen), len(rejected)),
    )
    if chosen == rejected:
        raise ExampleError("identical", "chosen and rejected are the same messages")
    if not shared:
        raise ExampleError(
            "broken", "prompt is missing, and chosen and rejected begin with no common message"
        )
    return {
        **values,
        "prompt": list(chosen[:shared]),
        "chosen": list(chosen[shared:]),
        "rejected": list(rejected[shared:]),
    }


def _from_conversation(values: Mapping[str, Any]) -> Mapping[str, Any]:
    if "messages" not in values:
        return values
    if "prompt" in values or "completion" in values:
        raise ExampleError("broken", "give either messages or prompt and completion")
    conversation = as_messages(values["messages"], name="messages")
    if len(conversation) < 2:
        raise ExampleError("broken", "messages needs a prompt before the assistant's last message")
    return {**values, "prompt": list(conversation[:-1]), "completion": [conversation[-1]]}


def _listed_completions(values: Mapping[str, Any]) -> tuple[list[Any], list[Any]]:
    """The texts and the stored ids of `completion` or `completions`, as lists of equal length."""
    if ("completion" in values) == ("completions" in values):
        raise ExampleError("broken", "give either completion (messages) or completions (a list of them)")
    if "completion" in values:
        return [values["completion"]], [values.get("completion_token_ids")]
    texts = values["completions"]
    if not isinstance(texts, list) or not texts:
        raise ExampleError("broken", "completions must be a list of completions, each a list of messages")
    ids = values.get("completions_token_ids", [None] * len(texts))
    if not isinstance(ids, list) or len(ids) != len(texts):
        raise ExampleError(
            "broken", f"completions_token_ids must have {len(texts)} entries, one per completion"
        )
    return texts, ids


@dataclass(frozen=True)
class _Seen:
    """The examples so far by their tokens, to notice those that come twice or contradict each other."""

    ids: dict[tuple[object, ...], str] = field(default_factory=dict)

    def remark(self, encoder: ExampleEncoder, item: Example) -> None:
        """Note on the encoder that an earlier example is the same, or the same with the other verdict."""
        same, opposite = _keys(item)
        if same in self.ids:
            encoder.remarks.append(Remark("duplicate", f"the same as {self.ids[same]}; both are used"))
        elif opposite in self.ids:
            other = self.ids[opposite]
            encoder.remarks.append(Remark("opposite", f"the opposite verdict of {other}; both are used"))
        self.ids.setdefault(same, item.id)


def _keys(item: Example) -> tuple[tuple[object, ...], tuple[object, ...] | None]:
    """What makes two examples the same, and what makes them opposites (None where nothing does)."""
    match item:
        case EncodedPair(tie=True):
            return (item.prompt, frozenset((item.chosen, item.rejected))), None
        case EncodedPair():
            return (item.prompt, item.chosen, item.rejected), (item.prompt, item.rejected, item.chosen)
        case EncodedUnpaired():
            return (
                (item.prompt, item.completion, item.label),
                (item.prompt, item.completion, not item.label),
            )
    return (item.prompt, item.completion), None
