"""Time as an argument: waiting that a test can do in no time.

What belongs here: the clock that everything in this package waits by. What does not: how long.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clock:
    """Seconds that only grow, and a way to let some of them pass."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def deadline(self, seconds: float) -> "Deadline":
        """The moment ``seconds`` from now."""
        began = self.now()
        return Deadline(self, began, began + seconds)


@dataclass(frozen=True, slots=True)
class Deadline:
    """Until when somebody waits, asking less and less often."""

    clock: Clock
    began: float
    ends: float

    @property
    def passed(self) -> bool:
        """Whether it is over."""
        return self.clock.now() >= self.ends

    @property
    def waited(self) -> float:
        """Seconds since it was set."""
        return self.clock.now() - self.began

    def pause(self, turn: int, *, at_least: float = 0.0) -> None:
        """Wait before asking again: 0.1 s at first, at most 5 s, and not beyond the end.

        Args:
            turn: How often was asked before, from 0.
            at_least: Seconds that the other side asked for; they count at most 30.
        """
        wanted = max(min(0.1 * 2 ** min(turn, 10), 5.0), min(at_least, 30.0))
        self.clock.sleep(max(0.0, min(wanted, self.ends - self.clock.now())))
