"""What a run will take on this machine: time, memory, energy and money, each with an interval."""

from dataclasses import dataclass

from pipelines.planning.calibration import Calibration
from pipelines.planning.counts import parts_of_a_step
from pipelines.planning.energy import Source, modelled_watts
from pipelines.pretraining.pretrain import PretrainConfig

TIME_ERROR = 0.15
MEMORY_ERROR = 0.15
"""What a prediction is allowed to be off by, more than benchmarks/planner.py found."""
DEPTH_ERROR = 0.15
"""Of a run whose time was reckoned from models of fewer blocks."""
MODEL_ERROR = 0.5
"""Of power that nothing measured: servers of a kind differ by this much."""
SPREADS = 3.0
"""Half quartile distances within which a step of another hour lies."""


@dataclass(frozen=True)
class Interval:
    """A figure, and between what it is expected to lie."""

    value: float
    low: float
    high: float

    def times(self, factor: float) -> "Interval":
        """Return it in another unit."""
        return Interval(self.value * factor, self.low * factor, self.high * factor)

    def __add__(self, other: "Interval") -> "Interval":
        return Interval(self.value + other.value, self.low + other.low, self.high + other.high)


@dataclass(frozen=True)
class Prices:
    """What an hour of the machine and a kilowatt-hour cost, in a currency of the user's, where they are known."""

    hour: float | None = None
    kilowatt_hour: float | None = None
    watts: float | None = None
    """What the machine draws when it is busy, where the user knows it better."""


@dataclass(frozen=True)
class Prediction:
    """What a run will take."""

    seconds: Interval
    memory_bytes: Interval
    kilowatt_hours: Interval
    energy_source: Source
    cost: Interval | None
    """None where no price is known."""


def step_seconds(config: PretrainConfig, measured: Calibration) -> float:
    """Return the time of one step that does nothing else."""
    curvature = measured.curvature_seconds / config.sophia.every if config.optimizer == "sophia" else 0.0
    return parts_of_a_step(config) * measured.micro_batch_seconds + measured.update_seconds + curvature


def predict(config: PretrainConfig, measured: Calibration, prices: Prices) -> Prediction:
    """Return what the whole run will take on the machine that was measured, from its first step."""
    steps = config.max_steps
    seconds = (
        measured.fixed_seconds
        + steps * step_seconds(config, measured)
        + steps // config.log_interval * measured.line_seconds
        + -(-steps // config.heldout_every) * measured.heldout_seconds
        + (steps - 1) // config.checkpoint_every * measured.checkpoint_seconds
    )
    error = (TIME_ERROR**2 + (SPREADS * measured.spread) ** 2) ** 0.5 + (DEPTH_ERROR if is_reckoned(measured) else 0)
    time = around(seconds, error)
    memory = around(measured.memory_bytes, MEMORY_ERROR + (DEPTH_ERROR if is_reckoned(measured) else 0))
    watts, source = power(measured, prices)
    energy = Interval(watts.value * time.value, watts.low * time.low, watts.high * time.high).times(1 / 3.6e6)
    return Prediction(time, memory, energy, source, cost(time, energy, prices))


def is_reckoned(measured: Calibration) -> bool:
    """Return whether the figures follow from models of fewer blocks than the run's."""
    return len(measured.depths) > 1


def around(value: float, error: float) -> Interval:
    """Return the figure with an interval of a relative width; what takes so much longer may take so much less."""
    return Interval(value, value / (1 + error), value * (1 + error))


def power(measured: Calibration, prices: Prices) -> tuple[Interval, Source]:
    """Return the watts that the run draws, and where they are from."""
    if prices.watts is not None:
        return Interval(prices.watts, prices.watts, prices.watts), "given"
    if measured.watts is not None:
        return around(measured.watts, TIME_ERROR), measured.watts_source
    return around(modelled_watts(measured.threads, measured.memory_bytes), MODEL_ERROR), "modelled"


def cost(time: Interval, energy: Interval, prices: Prices) -> Interval | None:
    """Return the price of the hours and of the energy, of those whose price is known."""
    parts = [time.times(prices.hour / 3600)] if prices.hour is not None else []
    parts += [energy.times(prices.kilowatt_hour)] if prices.kilowatt_hour is not None else []
    return sum(parts[1:], parts[0]) if parts else None
