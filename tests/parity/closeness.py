"""What parity tests compare with."""

import numpy as np


def close(ours, theirs, tolerance: float) -> None:
    """Every number within ``tolerance`` of the original's."""
    np.testing.assert_allclose(np.asarray(ours, dtype=np.float64), theirs, rtol=0, atol=tolerance)
