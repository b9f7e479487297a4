"""One example's way from chat messages, plain texts or stored ids to token ids. No torch.

Where a text ends: a completion given as text ends with the model's end token, since a person who writes or
edits an answer means it to end there. What the chat template writes after that token, a newline in many
templates, is left off: a sampler never produces it. A completion marked as cut (`chosen_cut`, `rejected_cut`,
`completion_cut`) gets no end token, and stored ids are taken as they are, so a sample that was cut by length
has none either.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from jinja2 import TemplateError

from training.core.data.examples import Remark
from training.core.data.fields import (
    as_messages,
    boolean,
    completion_messages,
    plain_text,
    template_options,
    token_ids,
)
from training.core.errors import ExampleError, TrainingError
from training.core.run.config import LossSettings
from training.core.run.directory import Messages, TokenIds


class Tokenizer(Protocol):
    """What encoding needs of a Hugging Face tokenizer."""

    chat_template: Any
    eos_token_id: int | None

    def __call__(self, text: str, **options: Any) -> Any: ...

    def apply_chat_template(self, conversation: list[dict[str, Any]], **options: Any) -> Any: ...

    def decode(self, token_ids: list[int], **options: Any) -> str: ...


@dataclass(frozen=True)
class EncodingRules:
    """What decides whether and how an example is encoded; `end_tokens` are all ids that end a turn.

    `overlong` says what becomes of prompt and completion above `max_length` tokens: "leave_out" or "cut".
    """

    max_length: int
    vocabulary: int
    end_tokens: frozenset[int]
    loss: LossSettings
    overlong: str = "leave_out"


@dataclass
class ExampleEncoder:
    """Encodes one example's prompt and completions; `remarks` says what was done to them on the way."""

    values: Mapping[str, Any]
    prompt_value: object
    tokenizer: Tokenizer
    rules: EncodingRules
    from_text: bool = False
    remarks: list[Remark] = field(default_factory=list)

    @cached_property
    def prompt(self) -> TokenIds:
        """The stored prompt ids, or those of the text; at least one and fewer than `max_length`."""
        found = self._stored_prompt or self._prompt_of_text
        if len(found) >= self.rules.max_length:
            raise ExampleError(
                "too long", f"the prompt has {len(found)} tokens; max_length is {self.rules.max_length}"
            )
        return found

    def completion(self, value: object, *, ids: object, name: str) -> TokenIds:
        """The stored ids of a completion, or those of its text; with the prompt within `max_length`."""
        stored = token_ids(ids, name=f"token ids of {name}", vocabulary=self.rules.vocabulary)
        encoded = stored or self._completion_of_text(value, name=name)
        room = self.rules.max_length - len(self.prompt)
        if len(encoded) > room:
            encoded = self._cut(encoded, room=room, name=name)
        return encoded

    def _cut(self, encoded: TokenIds, *, room: int, name: str) -> TokenIds:
        length = len(self.prompt) + len(encoded)
        limit = f"prompt and {name} have {length} tokens; max_length is {self.rules.max_length}"
        if self.rules.overlong != "cut":
            raise ExampleError("too long", limit)
        self.remarks.append(Remark("cut", f"{limit}, so {name} ends after {room} of {len(encoded)} tokens"))
        return encoded[:room]

    @cached_property
    def _stored_prompt(self) -> TokenIds | None:
        ids = self.values.get("prompt_token_ids")
        return token_ids(ids, name="prompt_token_ids", vocabulary=self.rules.vocabulary)

    @cached_property
    def _prompt_of_text(self) -> TokenIds:
        self.from_text = True
        found = self._tokens(self._prompt_messages, generate=True)
        if not found:
            raise ExampleError("empty", "prompt has no tokens")
        return found

    @cached_property
    def _prompt_messages(self) -> Messages | str:
        if isinstance(self.prompt_value, str):
            return plain_text(self.prompt_value, name="prompt")
        prompt = as_messages(self.prompt_value, name="prompt")
        if prompt[-1]["role"] == "assistant":
            raise ExampleError("broken", "prompt ends with the assistant; it must end with the user")
        return prompt

    def _completion_of_text(self, value: object, *, name: str) -> TokenIds:
        self.from_text = True
        prompt = self._prompt_messages
        if isinstance(prompt, str) != isinstance(value, str) and value is not None:
            raise ExampleError("broken", f"one of prompt and {name} is a text, the other messages")
        whole: Messages | str
        if isinstance(prompt, str):
            whole = prompt + plain_text(value, name=name)
        else:
            whole = prompt + completion_messages(value, name=name)
        encoded = self._after_prompt(whole, name=name)
        if boolean(self.values, key=f"{name.split()[0]}_cut", default=False):
            return self._without_end(encoded)
        return self._ending_with_end_token(encoded)

    def _after_prompt(self, whole: Messages | str, *, name: str) -> TokenIds:
        """The tokens that follow the prompt's; raises ExampleError when it is no prefix of the whole."""
        prompt, tokens = self._prompt_of_text, self._tokens(whole, generate=False)
        if self._stored_prompt not in (None, prompt):
            self.remarks.append(
                Remark("changed", f"the stored prompt ids are not those of the prompt's text before {name}")
            )
        if tokens[: len(prompt)] == prompt:
            return tokens[len(prompt) :]
        prompt_text = self._text(self._prompt_messages, generate=True)
        whole_text = self._text(whole, generate=False)
        if not whole_text.startswith(prompt_text):
            raise ExampleError("broken", "the chat template's prompt is no prefix of prompt and completion")
        self.remarks.append(
            Remark("changed", f"the prompt's last tokens merge with the first of {name}; tokenised apart")
        )
        return self._ids(whole_text[len(prompt_text) :], add_special_tokens=False)

    def _ending_with_end_token(self, completion: TokenIds) -> TokenIds:
        """Cut what the template writes after the end token; add that token where it is missing."""
        end = self._end(completion)
        if end is not None:
            return completion[: end + 1]
        if self.tokenizer.eos_token_id is None:
            raise TrainingError("the base model's tokenizer names no end token (eos_token); it needs one")
        return (*completion, self.tokenizer.eos_token_id)

    def _without_end(self, completion: TokenIds) -> TokenIds:
        return completion[: self._end(completion)]

    def _end(self, completion: TokenIds) -> int | None:
        """The place of the end token after which nothing but space and end tokens follow."""
        ends = [place for place, token in enumerate(completion) if token in self.rules.end_tokens]
        if not ends or self.tokenizer.decode(list(completion[ends[-1] + 1 :])).strip():
            return None
        end = ends[-1]
        # A text that holds the end token already, and a template that adds it, would end twice.
        while end > 0 and completion[end - 1] in self.rules.end_tokens:
            end -= 1
        return end

    def _tokens(self, content: Messages | str, *, generate: bool) -> TokenIds:
        if isinstance(content, str):
            return self._ids(content, add_special_tokens=True)
        return tuple(self._template(content, generate=generate, tokenize=True))

    def _text(self, content: Messages | str, *, generate: bool) -> str:
        if isinstance(content, str):
            return content
        return str(self._template(content, generate=generate, tokenize=False))

    def _ids(self, text: str, *, add_special_tokens: bool) -> TokenIds:
        return tuple(self.tokenizer(text, add_special_tokens=add_special_tokens)["input_ids"])

    def _template(self, conversation: Messages, *, generate: bool, tokenize: bool) -> Any:
        if not self.tokenizer.chat_template:
            raise TrainingError(
                "the base model's tokenizer has no chat template; use a chat model, plain texts or token ids"
            )
        try:
            return self.tokenizer.apply_chat_template(
                list(conversation),
                tokenize=tokenize,
                add_generation_prompt=generate,
                return_dict=False,
                **template_options(self.values),
            )
        except (TemplateError, TypeError) as error:
            raise ExampleError("broken", f"the chat template refuses it ({error})") from None
