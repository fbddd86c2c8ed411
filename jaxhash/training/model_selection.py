"""Which model of a training is evaluated: the last, or the best of several candidates."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

from jaxtyping import PyTree

#: How the model is chosen; `SELECTION_DESCRIPTIONS` tells what each means.
SelectionRule = Literal["last", "validation", "best-on-test"]

#: One sentence a rule, stored and printed beside the numbers.
SELECTION_DESCRIPTIONS: dict[SelectionRule, str] = {
    "last": "the last epoch; the queries are touched once",
    "validation": "chosen by best mAP of the validation items among themselves; the queries are touched once",
    "best-on-test": "chosen by best mAP on the test queries, as in the literature: optimistic",
}


class Candidate(NamedTuple):
    """A model that may be chosen, with its mAP on what the rule looks at."""

    epoch: int
    step: int
    map: float


def best_candidate(candidates: Sequence[Candidate]) -> Candidate:
    """The candidate with the highest mAP, the first of equals.

    Raises:
        ValueError: if there is none.

    Example:
        >>> best_candidate([Candidate(1, 8, 0.5), Candidate(2, 16, 0.7), Candidate(3, 24, 0.7)])
        Candidate(epoch=2, step=16, map=0.7)
    """
    return max(candidates, key=lambda candidate: candidate.map)


def rank_candidates(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates, best first, and the first of equals first.

    Example:
        >>> [c.epoch for c in rank_candidates([Candidate(1, 8, 0.5), Candidate(2, 16, 0.7)])]
        [2, 1]
    """
    return sorted(candidates, key=lambda candidate: -candidate.map)


class CandidateTracker:
    """The candidates of a training so far: every few epochs one, and the last epoch.

    Args:
        score: from the model's variables to its mAP; None where the last model is taken and nothing is scored.
        every: epochs between two candidates.
        steps_per_epoch: length of an epoch.
        total_steps: length of the training.
        found: those that a training found before it stopped.
    """

    def __init__(
        self,
        score: Callable[[PyTree], float] | None,
        *,
        every: int,
        steps_per_epoch: int,
        total_steps: int,
        found: Sequence[Candidate] = (),
    ):
        self.found = list(found)
        self._score, self._steps_per_epoch, self._total = score, steps_per_epoch, total_steps
        self._every = every * steps_per_epoch

    def should_evaluate(self, step: int) -> bool:
        """Whether the model after this step is a candidate."""
        return self._score is not None and (step % self._every == 0 or step == self._total)

    def add(self, step: int, variables: PyTree) -> Candidate:
        """Score the model as it is after ``step`` steps, and remember it."""
        self.found.append(Candidate(step // self._steps_per_epoch, step, self._score(variables)))
        return self.found[-1]


def select_model(
    rule: SelectionRule, candidates: Sequence[Candidate], *, epochs: int, total_steps: int
) -> dict[str, Any]:
    """Which model a rule chooses, ready for JSON: rule, epoch, step, candidates, and a sentence.

    Args:
        rule: how to choose.
        candidates: those of the whole training; none where the rule is ``"last"``.
        epochs: epochs of the training.
        total_steps: steps of the training.

    Example:
        >>> select_model("last", [], epochs=3, total_steps=24)["step"]
        24
    """
    chosen = Candidate(epochs, total_steps, 0.0) if rule == "last" else best_candidate(candidates)
    return {
        "rule": rule,
        "epoch": chosen.epoch,
        "step": chosen.step,
        "candidates": [candidate._asdict() for candidate in candidates],
        "says": SELECTION_DESCRIPTIONS[rule],
    }
