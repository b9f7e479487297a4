"""Products of one shape: a token's numbers do not depend on the tokens beside it, bit for bit."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, LlamaConfig

from tests.core.models import made_model, made_steady_model
from tests.core.support import random_pair
from training.core.data.encode import EncodedPair
from training.core.logprobs.ledger import open_ledger
from training.core.logprobs.pairs import group_logps
from training.core.logprobs.paths import logps_path
from training.core.logprobs.reference import reference_logps
from training.core.model.lean import make_lean
from training.core.model.steady import is_steady, make_steady, steady_product
from training.core.progress import Progress

# Long enough for products of other shapes to round otherwise.
PAIRS = [
    random_pair(prompt=189, chosen=142, rejected=147),
    random_pair(prompt=16, chosen=700, rejected=15, seed=1),
    random_pair(prompt=64, chosen=300, rejected=31, seed=2),
]


@pytest.fixture(scope="module", autouse=True)
def _two_threads() -> Iterator[None]:
    """Two threads share a product between them, and divide it by its shape."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def wide_model(*, dtype: torch.dtype) -> nn.Module:
    """A layer of the demo model's widths, a fresh adapter on all of its linear layers."""
    torch.manual_seed(5)
    configuration = LlamaConfig(
        vocab_size=512,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=1,
        num_attention_heads=9,
        num_key_value_heads=3,
        initializer_range=0.1,
    )
    base: nn.Module = AutoModelForCausalLM.from_config(configuration).to(dtype).eval().requires_grad_(False)
    make_steady(base)
    lora = LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM")
    policy: nn.Module = get_peft_model(base, lora).eval()  # type: ignore[no-untyped-call,arg-type,unused-ignore]
    make_lean(policy)
    return policy


@pytest.fixture(scope="module", params=["bfloat16", "float32"])
def policy(request: pytest.FixtureRequest) -> nn.Module:
    return wide_model(dtype=getattr(torch, request.param))


def stored(policy: nn.Module, *, pairs: list[EncodedPair], ledger: Path) -> list[Tensor]:
    shown = Progress("reference", total=len(pairs))
    with open_ledger(ledger, reference="a" * 64, dtype="any") as opened:
        found = reference_logps(policy, pairs=pairs, ledger=opened, shown=shown)
    return [torch.cat([pair.chosen, pair.rejected]) for pair in found]


def test_before_the_first_step_policy_and_reference_agree_bit_for_bit(
    policy: nn.Module, tmp_path: Path
) -> None:
    references = stored(policy, pairs=PAIRS, ledger=tmp_path / "ledger.sqlite")
    for batch in ([2, 0], [1]):
        rows = group_logps(policy, pairs=[PAIRS[index] for index in batch], chunk_tokens=200)
        for index, live in zip(batch, rows, strict=True):
            assert torch.equal(torch.cat([live.chosen, live.rejected]), references[index])


def test_an_entry_is_the_same_whatever_is_computed_with_it(policy: nn.Module, tmp_path: Path) -> None:
    together = stored(policy, pairs=PAIRS, ledger=tmp_path / "together.sqlite")
    for place in (0, 2):
        (alone,) = stored(policy, pairs=[PAIRS[place]], ledger=tmp_path / f"{place}.sqlite")
        assert torch.equal(alone, together[place])


@settings(max_examples=12, deadline=None)
@given(
    rows=st.integers(1, 1500),
    first=st.integers(0, 1499),
    widths=st.sampled_from([(576, 192), (64, 100)]),
    dtype=st.sampled_from([torch.bfloat16, torch.float32]),
    biased=st.booleans(),
)
def test_a_row_of_a_product_depends_on_nothing_but_itself(
    rows: int, first: int, widths: tuple[int, int], dtype: torch.dtype, biased: bool
) -> None:
    numbers = torch.Generator().manual_seed(7)
    x = torch.randn(1500, widths[0], generator=numbers).to(dtype)
    weight = torch.randn(widths[1], widths[0], generator=numbers).to(dtype)
    bias = torch.randn(widths[1], generator=numbers).to(dtype) if biased else None
    part = slice(first, first + rows)
    whole = steady_product(x, weight=weight, bias=bias)
    assert torch.equal(steady_product(x[part], weight=weight, bias=bias), whole[part])
    wanted = torch.nn.functional.linear(x, weight, bias)
    assert torch.allclose(whole, wanted, rtol=1e-2, atol=0.2 if dtype == torch.bfloat16 else 1e-3)


def test_every_weight_gets_the_gradient_that_a_plain_layer_gives() -> None:
    steady, plain = made_model("qwen2"), made_model("qwen2")
    make_steady(steady)
    for model in (steady, plain):
        (logps,) = group_logps(model, pairs=[random_pair(prompt=5, chosen=4, rejected=6)])
        torch.autograd.backward(logps.chosen.sum() - logps.rejected.sum())
    for (name, ours), theirs in zip(steady.named_parameters(), plain.parameters(), strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        assert torch.allclose(ours.grad, theirs.grad, rtol=1e-4, atol=1e-5), name


def test_a_model_is_steady_when_all_its_products_are() -> None:
    steady = made_steady_model()
    assert logps_path(steady).steady
    steady.get_submodule("model.layers.0.mlp.up_proj").forward = None  # type: ignore[assignment]
    assert not is_steady(steady)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_products_of_another_kind_and_odd_widths_are_not_steady(kind: str) -> None:
    model = made_model(kind)
    make_steady(model)
    assert not logps_path(model).steady
