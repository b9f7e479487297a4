"""What the loop does with labels: recipes, policies, rounds, runs, jobs, and where responses came from."""

from training.models.comparison import PolicySummary, ResponseChange, Trial, TrialAnswer
from training.models.demonstrations import DemonstrationRun
from training.models.engine import EngineServer
from training.models.evaluation import EvaluationPair, EvaluationPlan, GateOverride, PrequentialTest
from training.models.jobs import Attempt, Job
from training.models.policies import Policy
from training.models.recipes import Recipe
from training.models.rounds import Round, Run
from training.models.sampled import ChosenPair, PairSimilarity, SampledResponse, Score

__all__ = [
    "Attempt",
    "ChosenPair",
    "DemonstrationRun",
    "EngineServer",
    "EvaluationPair",
    "EvaluationPlan",
    "GateOverride",
    "Job",
    "PairSimilarity",
    "Policy",
    "PolicySummary",
    "PrequentialTest",
    "Recipe",
    "ResponseChange",
    "Round",
    "Run",
    "SampledResponse",
    "Score",
    "Trial",
    "TrialAnswer",
]
