"""The one real face of these tests: scikit-image's astronaut (NASA, public domain), landmarks set by hand."""

import numpy as np

# Read off an eightfold enlargement whose corner is pixel (165, 75); good to a pixel, the jaw to two.
_ENLARGED = [
    (125, 280), (130, 360), (138, 450), (150, 540), (170, 620), (205, 695), (265, 765), (350, 815), (450, 828),
    (550, 810), (630, 770), (690, 725), (740, 670), (780, 600), (808, 520), (825, 440), (845, 340),
    (200, 125), (235, 110), (275, 103), (330, 118), (388, 142),
    (592, 148), (650, 138), (705, 135), (750, 145), (785, 165),
    (480, 215), (478, 280), (475, 345), (470, 415), (395, 445), (430, 458), (470, 465), (515, 455), (560, 445),
    (225, 200), (265, 180), (320, 178), (370, 215), (325, 235), (265, 228),
    (575, 228), (625, 195), (680, 193), (745, 225), (700, 250), (640, 250),
    (310, 520), (360, 515), (420, 518), (460, 528), (510, 520), (580, 520), (635, 528),
    (590, 590), (530, 630), (465, 640), (400, 625), (350, 580),
    (325, 525), (400, 545), (460, 555), (530, 548), (620, 532), (540, 592), (460, 598), (390, 585),
]  # fmt: skip
ASTRONAUT = np.array(_ENLARGED, np.float64) / 8 + [165, 75]
"""[68, 2] pixels of skimage.data.astronaut()."""


def error_by_group(points: np.ndarray, truth: np.ndarray, groups: dict[str, slice]) -> dict[str, float]:
    """Mean distance over the truth's outer-eye distance, for all points and by group.

    Jaw landmarks are measured to the truth's contour: where along it they lie is convention (ours start higher).
    """
    distance = np.linalg.norm(points - truth, axis=1)
    jaw = truth[groups["jaw"]]
    begin, edge = jaw[:-1], np.diff(jaw, axis=0)
    arm = points[groups["jaw"], None] - begin
    # The contour goes on straight beyond its first and last point.
    low, high = np.zeros(len(edge)), np.ones(len(edge))
    low[0], high[-1] = -1, 2
    share = np.clip((arm * edge).sum(-1) / (edge**2).sum(-1), low, high)
    distance[groups["jaw"]] = np.linalg.norm(arm - share[..., None] * edge, axis=-1).min(1)
    distance /= np.linalg.norm(truth[36] - truth[45])
    return {"all": float(distance.mean()), **{name: float(distance[part].mean()) for name, part in groups.items()}}
