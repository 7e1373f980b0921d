"""CPU and memory of other processes, from /proc."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """User and system time of all threads of a process, ended ones too, and of its ended children, seconds."""
    # The command's name may hold spaces and parentheses: the fields are counted from the last one.
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    return sum(int(fields[at]) for at in (11, 12, 13, 14)) * _TICK_S


def rss_mib(pid: int) -> float:
    """Resident memory, MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def children(pid: int) -> list[int]:
    """Return a process and all that it has started, in any depth."""
    found = [pid]
    for thread in Path(f"/proc/{pid}/task").iterdir():
        for child in (thread / "children").read_text(encoding="ascii").split():
            found += children(int(child))
    return found


@dataclass(frozen=True, slots=True)
class Machine:
    """What the figures were taken on."""

    cpu: str
    cores: int
    memory_gib: float
    kernel: str
    load_1m: float

    @staticmethod
    def here() -> Machine:
        """Return what this machine is, now."""
        cpu = ""
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                cpu = line.partition(":")[2].strip()
                break
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
        return Machine(cpu, len(os.sched_getaffinity(0)), memory, os.uname().release, os.getloadavg()[0])
