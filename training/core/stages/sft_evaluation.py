"""Looking at held-out demonstrations: their loss and perplexity, the best look so far, an early stop."""

import math
import time
from collections.abc import Sequence

from training.core.progress import say
from training.core.run.records import DemonstrationEvaluation
from training.core.stages.demonstrations import SftRun, heldout_looks
from training.core.stages.evaluation import is_due, patience_is_over, record_evaluation, restore_best
from training.core.stages.loop import check_finite

# exp of more overflows a float.
MOST_NATS = 700.0


def evaluate(job: SftRun, *, step: int) -> DemonstrationEvaluation:
    """Evaluate the model after `step` steps on every held-out demonstration.

    The loss is the mean negative log-likelihood of their completion tokens, in nats, and perplexity its exp.
    Raises TrainingError when the loss is infinite or no number.
    """
    learnt = heldout_looks(job, where=f"after step {step} of {job.plan.steps}")
    tokens = sum(one.completion_tokens for one in learnt)
    loss = sum(one.nll for one in learnt) / tokens
    check_finite(loss, name="held-out loss", step=step - 1, job=job)
    evaluation = DemonstrationEvaluation(
        step=step,
        epoch=step / job.plan.steps_per_epoch,
        loss=loss,
        perplexity=math.exp(min(loss, MOST_NATS)),
        mean_token_accuracy=sum(one.hits for one in learnt) / tokens,
        examples=len(learnt),
        time=time.time(),
    )
    say(f"held out: loss {loss:.4f}, perplexity {evaluation.perplexity:.3g} on {len(learnt)} demonstrations")
    return evaluation


def lowest(evaluations: Sequence[DemonstrationEvaluation]) -> DemonstrationEvaluation:
    """The first evaluation with the lowest loss."""
    return min(evaluations, key=lambda evaluation: evaluation.loss)


class Evaluations:
    """The evaluations of a run so far, which make what is due and say when the run is over."""

    def __init__(self, job: SftRun, *, made: Sequence[DemonstrationEvaluation]) -> None:
        self.job = job
        self.made = list(made)

    def is_over(self, step: int) -> bool:
        """Evaluate where it is due after `step` steps; whether the run ends there.

        An evaluation that a stop interrupted is made up for; one that was made is not made again.
        """
        settings = self.job.config.evaluation
        due = is_due(step, plan=self.job.plan, settings=settings)
        if self.job.heldout and due and all(made.step != step for made in self.made):
            self._evaluate(step)
        patience = patience_is_over(self.made, settings=settings, best=lowest)
        return patience or step == self.job.plan.steps

    def _evaluate(self, step: int) -> None:
        evaluation = evaluate(self.job, step=step)
        self.made.append(evaluation)
        record_evaluation(self.job, evaluation=evaluation, is_best=lowest(self.made) == evaluation)

    def keep_best(self, *, step: int) -> tuple[int, tuple[str, ...]]:
        """Restore the weights of the best evaluation where that is asked for: their step, and warnings."""
        if not (self.job.config.evaluation.keep_best and self.made):
            return step, ()
        return restore_best(self.job, wanted=lowest(self.made).step, reached=step)

    def of(self, step: int) -> DemonstrationEvaluation | None:
        """The evaluation of the weights after `step` steps."""
        return next((made for made in self.made if made.step == step), None)
