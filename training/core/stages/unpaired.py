"""Unpaired examples in training (KTO): a completion each, desirable or not, against a common reference
point.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.core.data.encode import EncodedUnpaired
from training.core.diagnostics import Look
from training.core.lanes import ONE, Lanes
from training.core.logprobs.pairs import completions_token_logps
from training.core.losses.kto import kto_loss
from training.core.model.loading import reference_mode
from training.core.process import raise_if_stopped
from training.core.run.config import LossSettings
from training.core.run.directory import TokenIds
from training.core.run.weights import Gradients, TrainedWeights
from training.core.stages.preferences import looks_of_shares, side_look


@dataclass(frozen=True)
class Mismatch:
    """An example's prompt with the completion of another: what KTO's reference point is estimated from."""

    prompt: TokenIds
    completion: TokenIds


@dataclass(frozen=True)
class UnpairedData:
    """Completions with their reference log-probs; `mismatches[i]` belongs to `items[i]`."""

    items: tuple[EncodedUnpaired, ...]
    references: tuple[Tensor, ...]
    mismatches: tuple[Mismatch, ...]
    mismatch_references: tuple[Tensor, ...]
    loss: LossSettings
    policy: nn.Module
    chunk_tokens: int | None = None
    lanes: Lanes = ONE

    def looks(
        self,
        indices: Sequence[int],
        *,
        where: str,
        point: float = 0.0,
        weights: TrainedWeights | None = None,
        total: int = 0,
    ) -> list[Look]:
        """How the given examples look under the policy, `point` being the reference point z in nats.

        With `weights`, the gradient of Σ w·loss / total is added to them.
        """

        def of_share(places: Sequence[int]) -> tuple[list[Look], Gradients | None]:
            gradients = None if weights is None else Gradients(weights)
            own = [indices[place] for place in places]
            return self._share(own, where=where, point=point, gradients=gradients, total=total), gradients

        shares = self.lanes.shares([len(self.items[index].completion) for index in indices])
        return looks_of_shares(self.lanes.each(of_share, shares), shares=shares, weights=weights)

    def _share(
        self, indices: Sequence[int], *, where: str, point: float, gradients: Gradients | None, total: int
    ) -> list[Look]:
        """The looks at one lane's examples, their gradient added to `gradients`."""
        found = []
        for index in indices:
            raise_if_stopped(where=where)
            item = self.items[index]
            with torch.set_grad_enabled(gradients is not None):
                live = self._logps(item.prompt, completion=item.completion)
                log_ratio = live.sum() - self.references[index].to(live.device).sum()
                loss = item.weight * self._loss(log_ratio, index=index, point=point)
            if gradients is not None:
                gradients.add_of(loss / total)
            found.append(
                self._look(index, live=live, log_ratio=float(log_ratio.detach()), loss=loss, point=point)
            )
        return found

    def mismatched_log_ratios(self, indices: Sequence[int], *, where: str) -> list[float]:
        """h of the given examples' mismatched completions, in nats; z is their mean, 0 at least."""

        def log_ratio(index: int) -> float:
            raise_if_stopped(where=where)
            mismatch = self.mismatches[index]
            live = self._logps(mismatch.prompt, completion=mismatch.completion)
            return float(live.sum() - self.mismatch_references[index].to(live.device).sum())

        with torch.no_grad():
            return self.lanes.each(log_ratio, indices)

    def first_example(self) -> tuple[Tensor, Tensor, Tensor]:
        """The first example's per-token log-probs: the policy's, the reference's now, those stored."""
        item = self.items[0]
        with torch.no_grad():
            live = self._logps(item.prompt, completion=item.completion)
        with reference_mode(self.policy):
            again = self._logps(item.prompt, completion=item.completion)
        return live, again, self.references[0]

    def sequences(self) -> list[tuple[TokenIds, TokenIds]]:
        """Prompt and completion of every example."""
        return [(item.prompt, item.completion) for item in self.items]

    def loss_at_start(self, indices: Sequence[int]) -> float:
        """The mean loss of the given examples under the reference itself."""
        zero = torch.zeros(())
        losses = [self.items[index].weight * self._loss(zero, index=index, point=0.0) for index in indices]
        return float(torch.stack(losses).mean())

    def _logps(self, prompt: TokenIds, *, completion: TokenIds) -> Tensor:
        (logps,) = completions_token_logps(
            self.policy, completions=[(prompt, completion)], chunk_tokens=self.chunk_tokens
        )
        return logps

    def _loss(self, log_ratio: Tensor, *, index: int, point: float) -> Tensor:
        return kto_loss(
            log_ratio[None],
            desirable=torch.tensor([self.items[index].label], device=log_ratio.device),
            z=log_ratio.new_tensor(point),
            settings=self.loss,
        )[0]

    def _look(self, index: int, *, live: Tensor, log_ratio: float, loss: Tensor, point: float) -> Look:
        item, beta = self.items[index], self.loss.beta
        side = side_look(live, reference=self.references[index], reward=beta * log_ratio)
        margin = beta * (log_ratio - point)
        return Look(
            index=index,
            loss=float(loss.detach()),
            margin=margin if item.label else -margin,
            chosen=side if item.label else None,
            rejected=None if item.label else side,
            tokens=len(item.prompt) + len(item.completion),
        )


def mismatches(items: Sequence[EncodedUnpaired], *, max_length: int) -> tuple[Mismatch, ...]:
    """For each example, its prompt with the completion of the next one that has another prompt.

    It does not depend on the batch, so that the reference's log-probs of it are computed once. A completion
    that does not fit is cut; where all prompts are one, the next completion serves.
    """
    return tuple(_mismatch(items, place=place, max_length=max_length) for place in range(len(items)))


def _mismatch(items: Sequence[EncodedUnpaired], *, place: int, max_length: int) -> Mismatch:
    prompt = items[place].prompt
    others = (items[(place + ahead) % len(items)] for ahead in range(1, len(items) + 1))
    other = next((item for item in others if item.prompt != prompt), items[(place + 1) % len(items)])
    room = max(1, max_length - len(prompt))
    return Mismatch(prompt=prompt, completion=other.completion[:room])
