"""A fitted performance as files: the articulation for players, everything for scripts, and to go on from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..emotion import save_track
from ..head.fields import read_npz
from ..io.files import FormatError, replacing
from .sequence import SequenceFit
from .sequence_fitter import SequenceFitter

_ANGLES = ("HeadYaw", "HeadPitch", "HeadRoll")
"""Live Link Face's names; radians, see `SequenceFit.head_angles`."""

_FACTS = 9


def save_performance(path: str | Path, fit: SequenceFit) -> None:
    """Writes .csv, ARKit's 52 channels over time and beside them the head's angles and which frames are filled; .json,
    the channels; or .npz, everything. `emogs.emotion.load_track` reads the first two.

    Raises:
        ValueError: another ending; channels that are not ARKit's for .csv and .json.
    """
    path = Path(path)
    if path.suffix.lower() == ".npz":
        _save_arrays(path, fit)
        return
    save_track(path, fit.track())
    if path.suffix.lower() == ".csv":
        head, *rows = path.read_text(encoding="utf-8").splitlines()
        angles, filled = fit.head_angles().tolist(), fit.filled.int().tolist()
        lines = [",".join((head, *_ANGLES, "filled"))]
        for row, turn, gap in zip(rows, angles, filled, strict=True):
            lines.append(",".join((row, *(f"{angle:.5f}" for angle in turn), str(gap))))
        with replacing(path) as partial:
            partial.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _save_arrays(path: Path, fit: SequenceFit) -> None:
    arrays = {
        name: getattr(fit, name).numpy()
        for name in (
            "times", "identity", "expression", "viewmats", "K", "landmarks", "fitted", "error", "filled", "cuts",
        )
    }  # fmt: skip
    arrays |= {"fps": np.array(fit.fps), "template": np.array(fit.template.name)}
    arrays["expression_names"] = np.array(fit.template.expression_names)
    if fit.pose is not None:
        arrays["pose"] = fit.pose.numpy()
    with replacing(path) as partial:
        np.savez_compressed(partial, **arrays)


def save_progress(path: str | Path, fitter: SequenceFitter) -> None:
    """Writes what an interrupted fitter has done, for `load_progress`; nothing if that is nothing."""
    if fitter.identity is None or fitter.done == 0:
        return
    state = fitter.state.part(slice(0, fitter.done))
    arrays = {"rotation": state.rotation, "translation": state.translation, "values": state.values}
    arrays |= {"identity": fitter.identity, "given": _summary(fitter)}
    arrays |= {name: getattr(fitter, name)[: fitter.done].int() for name in ("there", "cuts")}
    with replacing(path) as partial:
        np.savez(partial, **{name: array.numpy() for name, array in arrays.items()})  # type: ignore[arg-type]


def load_progress(path: str | Path, fitter: SequenceFitter) -> bool:
    """Lets a fitter go on from what `save_progress` wrote, if that was of the same clip before the same camera; says
    whether it did.

    Raises:
        FormatError: the file is not such a file.
    """
    fields, channels, count = read_npz(path), fitter.state.values.shape[1], len(fitter.clip)
    given = fields.floats("given", _FACTS)
    if not torch.allclose(given.double(), _summary(fitter), rtol=1e-5):
        return False
    done = fields.rows("values")
    if not 0 < done <= count:
        raise FormatError(path, "values", f"expected 1 to {count} frames, got {done}")
    identity = fields.floats("identity", fitter.model.points.identity.shape[-3]).double()
    there, cuts = (fields.whole(name, done) > 0 for name in ("there", "cuts"))
    rotation, translation = fields.floats("rotation", done, 3, 3), fields.floats("translation", done, 3)
    values = fields.floats("values", done, channels)
    fitter.resume(identity, rotation.double(), translation.double(), values.double())
    fitter.cuts[:done] = cuts
    for row in (fitter.there[:done] & ~there).nonzero()[:, 0].tolist():
        fitter.leave_out(row, "as found before the interruption")
    return True


def _summary(fitter: SequenceFitter) -> Tensor:
    """[9] by which landmarks, head and camera are known again."""
    given, points, K = fitter.clip.given, fitter.model.points, fitter.K
    sizes = (*given.shape[:2], fitter.state.values.shape[1], points.expression.shape[-2])
    facts = (*sizes, given.nan_to_num(0.0).mean(), fitter.clip.fps, K[0, 0], K[0, 2], K[1, 2])
    return torch.tensor([float(fact) for fact in facts], dtype=torch.float64)
