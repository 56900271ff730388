"""Tables of rules that turn another project's names of tensors into ours."""

from __future__ import annotations

import re
from collections.abc import Iterable

# (pattern for the beginning of a name, what takes its place, added to the pattern's first group to give {} there)
Row = tuple[str, str, int]
Rule = tuple[re.Pattern, str, int]


def rules(rows: Iterable[Row], old_prefix: str = "", new_prefix: str = "") -> tuple[Rule, ...]:
    """Rows as :func:`rename` needs them, for names that begin with ``old_prefix``, and then with ``new_prefix``."""
    return tuple((re.compile(re.escape(old_prefix) + old), new_prefix + new, offset) for old, new, offset in rows)


def rename(name: str, table: Iterable[Rule]) -> str:
    """The name by the first rule that fits its beginning; where none does, it stays as it is."""
    for pattern, replacement, offset in table:
        found = pattern.match(name)
        if found:
            number = int(found[1]) + offset if pattern.groups else 0
            return found.expand(replacement.format(number)) + name[found.end() :]
    return name
