"""Examples to token ids: stored ids are taken as they are, texts go through the chat template. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from jinja2 import TemplateError

from training.core.data.examples import (
    EncodedExamples,
    completion_messages,
    encode_file,
    messages,
    number,
    token_ids,
)
from training.core.errors import ExampleError, TrainingError
from training.core.run.config import LossSettings
from training.core.run.directory import Messages, TokenIds


class Tokenizer(Protocol):
    """What encoding needs of a Hugging Face tokenizer."""

    chat_template: Any
    eos_token_id: int | None

    def apply_chat_template(self, conversation: list[dict[str, Any]], **options: Any) -> Any: ...

    def decode(self, token_ids: list[int], **options: Any) -> str: ...


@dataclass(frozen=True)
class EncodingRules:
    """What decides whether and how an example is encoded; `end_tokens` are all ids that end a turn."""

    max_length: int
    vocabulary: int
    end_tokens: frozenset[int]
    loss: LossSettings


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
class EncodedCompletion:
    """One completion to score; `index` is its place among its example's completions."""

    id: str
    index: int
    prompt: TokenIds
    completion: TokenIds


def encode_pairs(path: Path, *, tokenizer: Tokenizer, rules: EncodingRules) -> EncodedExamples[EncodedPair]:
    """The preferences of examples.jsonl as token ids; those that cannot be used are on the receipt."""
    encoded = encode_file(
        path, encode=lambda values, name: (_pair(values, id=name, tokenizer=tokenizer, rules=rules),)
    )
    if not encoded.items:
        return encoded
    mean_weight = sum(pair.weight for pair in encoded.items) / len(encoded.items)
    weighted = tuple(replace(pair, weight=pair.weight / mean_weight) for pair in encoded.items)
    return replace(encoded, items=weighted)


def encode_completions(
    path: Path, *, tokenizer: Tokenizer, rules: EncodingRules
) -> EncodedExamples[EncodedCompletion]:
    """The completions of a score stage's examples.jsonl; an example is used whole or not at all."""
    return encode_file(
        path, encode=lambda values, name: _completions(values, id=name, tokenizer=tokenizer, rules=rules)
    )


def _pair(values: Mapping[str, Any], *, id: str, tokenizer: Tokenizer, rules: EncodingRules) -> EncodedPair:
    side = _Side(values=values, tokenizer=tokenizer, rules=rules)
    pair = EncodedPair(
        id=id,
        prompt=side.prompt,
        chosen=side.completion(values.get("chosen"), ids=values.get("chosen_token_ids"), name="chosen"),
        rejected=side.completion(
            values.get("rejected"), ids=values.get("rejected_token_ids"), name="rejected"
        ),
        p=number(values, key="p", default=1.0),
        weight=number(values, key="weight", default=1.0),
    )
    for name, completion in (("chosen", pair.chosen), ("rejected", pair.rejected)):
        if rules.end_tokens.issuperset(completion):
            raise ExampleError("empty", f"{name} has no token before its end")
    if pair.chosen == pair.rejected:
        raise ExampleError("identical", "chosen and rejected are the same tokens")
    _check_label(pair, tie=values.get("tie", False), loss=rules.loss)
    return pair


def _check_label(pair: EncodedPair, *, tie: object, loss: LossSettings) -> None:
    if not 0 <= pair.p <= 1:
        raise ExampleError("broken", f"p = {pair.p:g} must be between 0 and 1; 1 is usual")
    if pair.weight <= 0:
        raise ExampleError("broken", f"weight = {pair.weight:g} must be above 0; 1 is usual")
    if pair.p != 1 and loss.name != "dpo":
        raise ExampleError("contradictory", f"p = {pair.p:g} needs the loss dpo; the loss is {loss.name}")
    if tie is not False:
        raise ExampleError(
            "contradictory",
            f"the loss {loss.name} has no ties; leave ties out or give p = 0.5 with the loss dpo",
        )


def _completions(
    values: Mapping[str, Any], *, id: str, tokenizer: Tokenizer, rules: EncodingRules
) -> tuple[EncodedCompletion, ...]:
    texts, ids = _listed_completions(values)
    side = _Side(values=values, tokenizer=tokenizer, rules=rules)
    prompt = side.prompt
    return tuple(
        EncodedCompletion(
            id=id,
            index=index,
            prompt=prompt,
            completion=side.completion(texts[index], ids=ids[index], name=f"completion {index}"),
        )
        for index in range(len(texts))
    )


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
class _Side:
    """One example's way from messages or stored ids to token ids."""

    values: Mapping[str, Any]
    tokenizer: Tokenizer
    rules: EncodingRules

    @cached_property
    def prompt(self) -> TokenIds:
        stored = self._stored(self.values.get("prompt_token_ids"), name="prompt_token_ids")
        return stored or self._template(self._prompt_messages(), generate=True)

    def completion(self, value: object, *, ids: object, name: str) -> TokenIds:
        stored = self._stored(ids, name=f"token ids of {name}")
        encoded = stored or self._from_text(completion_messages(value, name=name))
        length = len(self.prompt) + len(encoded)
        if length > self.rules.max_length:
            raise ExampleError(
                "too long", f"prompt and {name} have {length} tokens; max_length is {self.rules.max_length}"
            )
        return encoded

    def _from_text(self, completion: Messages) -> TokenIds:
        prompt_messages = self._prompt_messages()
        prompt = self._template(prompt_messages, generate=True)
        whole = self._template(prompt_messages + completion, generate=False)
        if whole[: len(prompt)] != prompt:
            raise ExampleError("broken", "the chat template's prompt is no prefix of prompt and completion")
        return self._ending_with_end_token(whole[len(prompt) :])

    def _ending_with_end_token(self, completion: TokenIds) -> TokenIds:
        """Cut what the template writes after the end token; add that token where it is missing."""
        ends = [place for place, token in enumerate(completion) if token in self.rules.end_tokens]
        if ends and not self.tokenizer.decode(list(completion[ends[-1] + 1 :])).strip():
            return completion[: ends[-1] + 1]
        if self.tokenizer.eos_token_id is None:
            raise TrainingError("the base model's tokenizer names no end token (eos_token); it needs one")
        return (*completion, self.tokenizer.eos_token_id)

    def _prompt_messages(self) -> Messages:
        prompt = messages(self.values, key="prompt")
        if prompt[-1]["role"] == "assistant":
            raise ExampleError("broken", "prompt ends with the assistant; it must end with the user")
        return prompt

    def _stored(self, value: object, *, name: str) -> TokenIds | None:
        return token_ids(value, name=name, vocabulary=self.rules.vocabulary)

    def _template(self, conversation: Messages, *, generate: bool) -> TokenIds:
        if not self.tokenizer.chat_template:
            raise TrainingError(
                "the base model's tokenizer has no chat template; use a chat model or give token ids"
            )
        try:
            ids = self.tokenizer.apply_chat_template(
                list(conversation), tokenize=True, add_generation_prompt=generate, return_dict=False
            )
        except TemplateError as error:
            raise ExampleError("broken", f"the chat template refuses it ({error})") from None
        return tuple(ids)
