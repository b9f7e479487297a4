"""Preference pairs in training: their losses and gradients, and how they look under the policy."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from training.core.data.encode import EncodedPair
from training.core.diagnostics import Look, SideLook
from training.core.lanes import ONE, Lanes
from training.core.logprobs.pairs import (
    TOKENS_PER_PASS,
    PairTokenLogps,
    group_logps,
    pair_tokens,
    passes,
)
from training.core.losses.inputs import PairLogps
from training.core.losses.rewards import pair_rewards
from training.core.losses.select import preference_loss
from training.core.model.loading import reference_mode
from training.core.process import raise_if_stopped
from training.core.run.config import LossSettings
from training.core.run.directory import TokenIds
from training.core.run.weights import Gradients, TrainedWeights

Seen = TypeVar("Seen")


@dataclass(frozen=True)
class PreferenceData:
    """Pairs with the reference's log-probs of each (None under a loss without a reference)."""

    items: tuple[EncodedPair, ...]
    references: tuple[PairTokenLogps, ...] | None
    loss: LossSettings
    policy: nn.Module
    pairs_per_pass: int | None = None
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
        """How the given pairs look under the policy.

        With `weights`, the gradient of Σ w·loss / total is added to them. A request to stop is
        answered between passes, saying `where`. `point` is KTO's alone.
        """

        def of_share(places: Sequence[int]) -> tuple[list[Look], Gradients | None]:
            gradients = None if weights is None else Gradients(weights)
            own = [indices[place] for place in places]
            return self._share(own, where=where, gradients=gradients, total=total), gradients

        shares = self.lanes.shares([pair_tokens(self.items[index]) for index in indices])
        return looks_of_shares(self.lanes.each(of_share, shares), shares=shares, weights=weights)

    def _share(
        self, indices: Sequence[int], *, where: str, gradients: Gradients | None, total: int
    ) -> list[Look]:
        """The looks at one lane's pairs, their gradient added to `gradients`."""
        found: list[Look] = []
        tokens = [pair_tokens(self.items[index]) for index in indices]
        most = TOKENS_PER_PASS / self.lanes.count
        for part in passes(tokens, pairs_per_pass=self.pairs_per_pass, most=most):
            raise_if_stopped(where=where)
            group = indices[part]
            with torch.set_grad_enabled(gradients is not None):
                live = self._live(group)
                logps = self._sums(group, live=live)
                losses = self._weighted(group, logps=logps)
            if gradients is not None:
                gradients.add_of(losses.sum() / total)
            found += self._looks(group, live=live, logps=logps, losses=losses)
        return found

    def mismatched_log_ratios(self, indices: Sequence[int], *, where: str) -> list[float]:
        """Nothing: pairs need no reference point."""
        return []

    def sequences(self) -> list[tuple[TokenIds, TokenIds]]:
        """Prompt and chosen completion of every pair."""
        return [(pair.prompt, pair.chosen) for pair in self.items]

    def loss_at_start(self, indices: Sequence[int]) -> float | None:
        """The mean loss of the given pairs under the reference itself; None under a loss without one."""
        if self.references is None:
            return None
        logps = self._sums(indices, live=[self.references[index] for index in indices])
        return float(self._weighted(indices, logps=logps).mean())

    def first_example(self) -> tuple[Tensor, Tensor, Tensor]:
        """The first pair's per-token log-probs: the policy's, the reference's now, the reference's as
        stored.
        """
        with torch.no_grad():
            (live,) = self._live([0])
        with reference_mode(self.policy):
            (again,) = self._live([0])
        stored = live if self.references is None else self.references[0]
        return _joined(live), _joined(again), _joined(stored)

    def _live(self, group: Sequence[int]) -> tuple[PairTokenLogps, ...]:
        pairs = [self.items[index] for index in group]
        return group_logps(self.policy, pairs=pairs, chunk_tokens=self.chunk_tokens)

    def _sums(self, group: Sequence[int], *, live: Sequence[PairTokenLogps]) -> PairLogps:
        pairs = [self.items[index] for index in group]
        references = None if self.references is None else [self.references[index] for index in group]
        return pair_sums(pairs, live=live, references=references)

    def _weighted(self, group: Sequence[int], *, logps: PairLogps) -> Tensor:
        losses = preference_loss(logps, settings=self.loss)
        return losses * losses.new_tensor([self.items[index].weight for index in group])

    def _looks(
        self, group: Sequence[int], *, live: Sequence[PairTokenLogps], logps: PairLogps, losses: Tensor
    ) -> list[Look]:
        with torch.no_grad():
            chosen_rewards, rejected_rewards = pair_rewards(logps, settings=self.loss)
        rewards = zip(chosen_rewards.tolist(), rejected_rewards.tolist(), strict=True)
        return [
            self._look(index, live=one, loss=loss, rewards=both)
            for index, one, loss, both in zip(group, live, losses.tolist(), rewards, strict=True)
        ]

    def _look(self, index: int, *, live: PairTokenLogps, loss: float, rewards: tuple[float, float]) -> Look:
        pair = self.items[index]
        reference = None if self.references is None else self.references[index]
        chosen_reference = None if reference is None else reference.chosen
        rejected_reference = None if reference is None else reference.rejected
        return Look(
            index=index,
            loss=loss,
            margin=rewards[0] - rewards[1],
            chosen=side_look(live.chosen, reference=chosen_reference, reward=rewards[0]),
            rejected=side_look(live.rejected, reference=rejected_reference, reward=rewards[1]),
            tokens=len(pair.prompt) + len(pair.chosen) + len(pair.rejected),
            ranked=not pair.tie,
        )


def looks_of_shares(
    found: Sequence[tuple[Sequence[Seen], Gradients | None]],
    *,
    shares: Sequence[Sequence[int]],
    weights: TrainedWeights | None,
) -> list[Seen]:
    """The looks of all lanes in the order of their places; the lanes' gradients are added in theirs."""
    every: dict[int, Seen] = {}
    for (looks, gradients), places in zip(found, shares, strict=True):
        every.update(zip(places, looks, strict=True))
        if weights is not None and gradients is not None:
            weights.add(gradients)
    return [every[place] for place in sorted(every)]


def _joined(logps: PairTokenLogps) -> Tensor:
    return torch.cat([logps.chosen, logps.rejected])


def pair_sums(
    pairs: Sequence[EncodedPair],
    *,
    live: Sequence[PairTokenLogps],
    references: Sequence[PairTokenLogps] | None,
) -> PairLogps:
    """Summed log-probs of some pairs, shape (pairs,), float32; the gradient flows through `live` alone."""
    device = live[0].chosen.device

    def values(numbers: Sequence[float]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.float32, device=device)

    def sums(tokens: Sequence[Tensor]) -> Tensor:
        return torch.stack([logps.sum() for logps in tokens])

    return PairLogps(
        policy_chosen=sums([one.chosen for one in live]),
        policy_rejected=sums([one.rejected for one in live]),
        reference_chosen=None if references is None else sums([one.chosen for one in references]).to(device),
        reference_rejected=None
        if references is None
        else sums([one.rejected for one in references]).to(device),
        chosen_tokens=values([len(one.chosen) for one in live]),
        rejected_tokens=values([len(one.rejected) for one in live]),
        p=values([pair.p for pair in pairs]),
        tie=torch.tensor([pair.tie for pair in pairs], device=device),
    )


def side_look(live: Tensor, *, reference: Tensor | None, reward: float) -> SideLook:
    """A completion as the policy sees it, as plain numbers; log-ratios to five decimals."""
    log_ratios = None
    if reference is not None:
        difference = live.detach() - reference.to(live.device)
        log_ratios = tuple(round(value, 5) for value in difference.tolist())
    return SideLook(logp=float(live.detach().sum()), reward=reward, tokens=len(live), log_ratios=log_ratios)
