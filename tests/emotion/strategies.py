"""What the emotion tests draw at random."""

import torch
from hypothesis import strategies as st

intensities = st.floats(0, 1, width=32)


def tensors(*shape: int, low: float = 0.0, high: float = 1.0):
    """float32 tensors with numbers in [low, high], the ends and the middle not rare."""
    count = int(torch.Size(shape).numel())
    numbers = st.lists(st.floats(low, high, width=32), min_size=count, max_size=count)
    return numbers.map(lambda values: torch.tensor(values, dtype=torch.float32).reshape(shape))


codes = tensors(7)
