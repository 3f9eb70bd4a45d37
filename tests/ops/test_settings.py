"""Settings that come from elsewhere: numbers of numpy work as Python's do."""

import numpy as np

from emogs import RasterSettings


def test_numbers_of_numpy_are_numbers():
    numpy, python = RasterSettings(blur=np.float32(0.25), near=np.int64(1)), RasterSettings(blur=0.25, near=1)
    assert numpy.projection == python.projection
    assert all(type(value) is float for value in numpy.projection + numpy.blending)
