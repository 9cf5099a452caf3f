"""What clients were answered, and when: counted as it happens, told in a table at the end."""

import threading
import time
from dataclasses import dataclass, field

ACKNOWLEDGED, UNKNOWN_ATTEMPT, REFUSED_ATTEMPT = "acknowledged", "unknown", "refused"


@dataclass
class Phase:
    """From the beginning of a fault to the beginning of the next."""

    faults: str
    began: float
    healed: float | None = None
    got_on: tuple | None = None  # seconds after the healing in which everybody had made progress, and who was the last
    exits: int = 0  # of brokers, by themselves
    counts: dict = field(default_factory=lambda: dict.fromkeys((ACKNOWLEDGED, UNKNOWN_ATTEMPT, REFUSED_ATTEMPT), 0))
    pauses: dict = field(default_factory=dict)  # the longest of each client, and of all of them together under None


class Tally:
    """The pauses of a client go into the phase in which they end (or in which it is looked at)."""

    def __init__(self):
        self.lock, self.last = threading.Lock(), {}
        self.phases = [Phase("none", time.monotonic())]

    def count(self, client, kind, number=1):
        if number == 0:
            return
        with self.lock:
            self.phases[-1].counts[kind] += number
            if kind == ACKNOWLEDGED:
                self.note_pauses([client, None])
                self.last[client] = self.last[None] = time.monotonic()

    def begin(self, faults):
        with self.lock:
            self.note_pauses(list(self.last))
            self.phases.append(Phase(faults, time.monotonic()))

    def end(self):
        with self.lock:
            self.note_pauses(list(self.last))

    def note_pauses(self, clients):
        phase, now = self.phases[-1], time.monotonic()
        for client in clients:
            pause = now - self.last.get(client, now)
            phase.pauses[client] = max(pause, phase.pauses.get(client, 0))

    def longest_pause(self, since=0.0):
        """Of all clients together, in phases that began since then."""
        return max((phase.pauses.get(None, 0) for phase in self.phases if phase.began >= since), default=0)

    def table(self):
        lines = [f"{'at':>5} {'faults':<58} {'acked':>7} {'unknown':>7} {'refused':>7} {'exits':>5} {'pause of all':>12} {'of one':>7}  all got on, and the last"]
        zero = self.phases[0].began
        for phase in self.phases:
            ones = max((pause for client, pause in phase.pauses.items() if client is not None), default=0)
            counts = " ".join(f"{number:>7}" for number in phase.counts.values())
            got_on = "-" if phase.got_on is None else f"{phase.got_on[0]:.1f} s {phase.got_on[1]}"
            pauses = f"{phase.pauses.get(None, 0):>10.1f} s {ones:>5.1f} s"
            lines.append(f"{phase.began - zero:>5.0f} {phase.faults[:58]:<58} {counts} {phase.exits:>5} {pauses}  {got_on}")
        return "\n".join(lines)
