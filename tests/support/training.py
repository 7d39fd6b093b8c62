"""A network and options that learn the small log in a second, and a progress that remembers."""

from ranking_models.architectures import DCNv2
from ranking_models.fitting import FitOptions

NETWORK = DCNv2(embedding_dim=4, cross_layers=1, hidden=(8,), dropout=0.1)
OPTIONS = FitOptions(learning_rate=0.02, batch_size=32, epochs=12, patience=3)


class Recorder:
    """A `TrainingProgress` that remembers."""

    def __init__(self) -> None:
        self.rounds: list[tuple[str, int, int]] = []
        self.done: list[int] = []
        self.steps = 0
        self.losses: list[float] = []

    def begin(self, phase: str, epochs: int, steps: int, done: int = 0) -> None:
        self.rounds.append((phase, epochs, steps))
        self.done.append(done)

    def step(self, epoch: int, loss: float) -> None:
        self.steps += 1

    def validated(self, epoch: int, log_loss: float, auc: float) -> None:
        assert epoch == len(self.losses) + 1
        self.losses.append(log_loss)
