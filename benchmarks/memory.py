"""Memory of this process, as Linux counts it."""

from __future__ import annotations

from pathlib import Path


def memory(field: str) -> float:
    """MiB. Fields: ``VmHWM`` is the peak, ``VmRSS`` what is held now.

    Not ``resource.getrusage``: its peak begins with that of the process that started this one.
    """
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status[field].split()[0]) / 1024
