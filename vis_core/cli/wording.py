"""Words of what the commands print."""


def counted(number: int, noun: str) -> str:
    """``1 track``, ``2 tracks``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
