"""Which workers of a step have an outcome for every task of theirs: `RUN/steps/STEP/parts/N/I`, written once each.

A part is that of one division: where the number of workers changed, the parts of the other number say nothing.
"""

from dataclasses import dataclass

from score_distill.agent.seeds import seed_of
from score_distill.artifacts.store import Store


@dataclass(frozen=True)
class Parts:
    store: Store
    run: str
    step: str
    worker: int
    workers: int

    def worker_for(self, task: str) -> int:
        """Who works on the task of that name."""
        return seed_of("worker", task) % self.workers

    @property
    def mine_done(self) -> bool:
        return self.store.exists(self._key(self.worker))

    @property
    def all_done(self) -> bool:
        return all(self.store.exists(self._key(worker)) for worker in range(self.workers))

    def finish_mine(self) -> None:
        """To be called when every outcome and call of this worker is stored."""
        self.store.put(self._key(self.worker), b"", if_absent=True)

    def _key(self, worker: int) -> str:
        return f"{self.run}/steps/{self.step}/parts/{self.workers}/{worker}"
