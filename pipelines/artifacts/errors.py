"""The mistakes that a person can mend, each said in one line."""

from collections.abc import Callable, Mapping


class UserError(Exception):
    """A mistake in what the user gave: the message names the thing, the value and the remedy. Exit status 2."""


class StageFailed(Exception):
    """A stage could not do its work; the message names the stage and the cause. Exit status 1."""


class TemporaryFault(StageFailed):
    """A stage failed for a fault of the network or of a remote file system, which may be over at the next try."""


class Killed(StageFailed):
    """The process that built a stage was ended from outside; what it had committed is kept."""


class OutOfMemory(Killed):
    """The kernel killed the process that built a stage for lack of memory."""


LOOSEN = "loosen the thresholds or name another source"


class EmptyOutput(StageFailed):
    """A stage would have published nothing; the message carries the funnel that led there."""

    def __init__(self, stage: str, counts: Mapping[str, float], remedy: str = LOOSEN) -> None:
        funnel = ", ".join(f"{reason} {count:,.0f}" for reason, count in counts.items()) or "no record was read"
        super().__init__(f"{stage}: no document is left ({funnel}); {remedy}")

    def __reduce__(self) -> tuple[Callable[..., Exception], tuple[type[Exception], str]]:
        """Cross to another process by the line alone."""
        return error_with, (type(self), str(self))


class DamagedArtifact(Exception):
    """A published artifact's files do not match its manifest; it was moved to quarantine and is to be rebuilt."""


def error_with(kind: type[Exception], message: str) -> Exception:
    """Return the error of that kind with this very line, however its kind makes a line of its own."""
    error = kind.__new__(kind, message)
    error.args = (message,)
    return error
