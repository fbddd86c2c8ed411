"""Model selection: the last epoch, or the best of several candidates, is evaluated."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

from jaxtyping import PyTree

#: How the model is selected; `SELECTION_DESCRIPTIONS` describes each rule.
SelectionRule = Literal["last", "validation", "best-on-test"]

#: One sentence per rule, stored and printed beside the results.
SELECTION_DESCRIPTIONS: dict[SelectionRule, str] = {
    "last": "the last epoch; the queries are touched once",
    "validation": "chosen by best mAP of the validation items among themselves; the queries are "
    "touched once",
    "best-on-test": "chosen by best mAP on the test queries, as in the literature: optimistic",
}


class Candidate(NamedTuple):
    """A model that may be selected, with its mAP on the items that the rule uses."""

    epoch: int
    step: int
    map: float


def best_candidate(candidates: Sequence[Candidate]) -> Candidate:
    """Returns the candidate with the highest mAP, the earliest on ties.

    Raises:
        ValueError: if there are no candidates.

    Example:
        >>> best_candidate([Candidate(1, 8, 0.5), Candidate(2, 16, 0.7), Candidate(3, 24, 0.7)])
        Candidate(epoch=2, step=16, map=0.7)
    """
    return max(candidates, key=lambda candidate: candidate.map)


def rank_candidates(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Sorts the candidates by mAP, best first, the earliest first on ties.

    Example:
        >>> [c.epoch for c in rank_candidates([Candidate(1, 8, 0.5), Candidate(2, 16, 0.7)])]
        [2, 1]
    """
    return sorted(candidates, key=lambda candidate: -candidate.map)


class CandidateTracker:
    """Scores a candidate every few epochs and after the last epoch.

    Args:
        score: function from the model's variables to its mAP; None if the last model is taken and
            nothing is scored.
        every: epochs between two candidates.
        steps_per_epoch: number of steps of an epoch.
        total_steps: number of steps of the training.
        found: candidates that the training found before it was resumed.

    Attributes:
        found: the candidates so far.
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
        """Returns whether the model after this step is a candidate."""
        return self._score is not None and (step % self._every == 0 or step == self._total)

    def add(self, step: int, variables: PyTree) -> Candidate:
        """Scores the model after ``step`` steps, and adds it to the candidates."""
        self.found.append(Candidate(step // self._steps_per_epoch, step, self._score(variables)))
        return self.found[-1]


def select_model(
    rule: SelectionRule, candidates: Sequence[Candidate], *, epochs: int, total_steps: int
) -> dict[str, Any]:
    """Selects a model and describes the choice for results.json.

    Args:
        rule: how to select.
        candidates: candidates of the whole training; none if the rule is ``"last"``.
        epochs: number of epochs of the training.
        total_steps: number of steps of the training.

    Returns:
        ``rule``, ``epoch``, ``step``, ``candidates``, and in ``says`` the description of the rule.

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
