"""Pictures of emotions: everybody by the same clock, and the map's middle is the neutral face."""

import numpy as np
import torch

from emogs.emotion import Track, pulse
from emogs.head import builtin_head
from emogs.io.sheet import GAP
from emogs.viewer.emotions import MAP_STEPS, MOST_INSTANTS, affect_map, strip_sheet
from emogs.viewer.heads import HeadView

SIZE = 32


def cells(sheet, rows, columns, top=0, left=0):
    """The pictures of a contact sheet."""
    step = SIZE + GAP
    return [
        [
            sheet[top + i * step : top + i * step + SIZE, left + j * step : left + j * step + SIZE]
            for j in range(columns)
        ]
        for i in range(rows)
    ]


def test_a_strip_begins_and_ends_at_rest_and_shows_it_to_everybody():
    smile = pulse(torch.eye(7)[0], 1.0, 1.0, 1.0)
    track = Track("regions", smile.times, smile.values[:, None].expand(-1, 3, -1), smile.ease)
    sheet = strip_sheet(builtin_head(), track, SIZE, people=2)
    top = sheet.shape[0] - 2 * SIZE - GAP
    for row in cells(sheet, 2, MOST_INSTANTS, top):
        assert np.array_equal(row[0], row[-1])
        assert not np.array_equal(row[0], row[MOST_INSTANTS // 2])
    first, second = cells(sheet, 2, 1, top)
    assert not np.array_equal(first[0], second[0])


def test_one_instant_is_one_picture():
    track = Track("emotion", torch.zeros(1, dtype=torch.float64), torch.zeros(1, 7))
    head = builtin_head()
    assert np.array_equal(strip_sheet(head, track, SIZE), HeadView(head, SIZE).draw(head.vertices))


def test_the_middle_of_the_map_is_neutral():
    head, count = builtin_head(), len(MAP_STEPS)
    sheet = affect_map(head, SIZE)
    edge = (count - 1) * (SIZE + GAP) + SIZE
    faces = cells(sheet, count, count, sheet.shape[0] - edge, sheet.shape[1] - edge)
    assert np.array_equal(faces[count // 2][count // 2], HeadView(head, SIZE).draw(head.vertices))
    assert not np.array_equal(faces[0][0], faces[-1][-1])
