"""A page in the browser with an avatar and its sliders; moving one changes the Gaussians while one looks.

viser draws the Gaussians on the viewer's GPU; this process only says where they are. All sliders of all browser windows
are one shared state.
"""

from __future__ import annotations

import errno
import logging
import math
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import roma
import torch
from torch import Tensor

from ..emotion import EMOTIONS, default_tables, parse_emotion
from ..head.template import ARKIT_NAMES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..gaussians import Gaussians
    from ..model import Avatar

UNITS_PER_METRE = 100.0
"""viser keeps covariances in half precision, in which square metres of a pore are zero; square centimetres are not."""
CAMERA = (0.0, -0.03, 0.75)
"""Metres from the head's origin where the viewer first stands, looking back at it."""
FIELD_OF_VIEW = 35.0
"""Degrees, vertically."""

_ARTICULATIONS = {  # slider: (lowest, channels above zero, channels below zero)
    "look left": (-1.0, ("eyeLookOutLeft", "eyeLookInRight"), ("eyeLookInLeft", "eyeLookOutRight")),
    "look up": (-1.0, ("eyeLookUpLeft", "eyeLookUpRight"), ("eyeLookDownLeft", "eyeLookDownRight")),
    "blink": (0.0, ("eyeBlinkLeft", "eyeBlinkRight"), ()),
    "open jaw": (0.0, ("jawOpen",), ()),
}


class AvatarPage:
    """Serves an avatar at `address` until `stop`.

    Args:
        avatar: what to show.
        port: where to listen. host: who may connect; the default is this machine only.
    Raises:
        ValueError: the port is taken or not allowed.
    """

    def __init__(self, avatar: Avatar, port: int = 8080, host: str = "127.0.0.1") -> None:
        import viser

        _check_port(host, port)
        # Browsers open connections ahead of need and drop them; each would print a traceback.
        logging.getLogger("websockets.server").setLevel(logging.CRITICAL)
        self.avatar = avatar
        self.address = f"http://{host}:{port}"
        self._lock, self._quiet, self._shown = threading.RLock(), False, torch.tensor([])
        self.server = viser.ViserServer(host=host, port=port, label="emogs", verbose=False)
        self._set_stage()
        self.splats = self.server.scene.add_gaussian_splats("/avatar", **splat_arrays(avatar.posed()))
        self.emotions = self._sliders("Emotion", dict.fromkeys(EMOTIONS, 0.0))
        self.articulations = self._sliders("Articulation", {name: low for name, (low, _, _) in _ARTICULATIONS.items()})
        self._add_choices()

    @property
    def code(self) -> Tensor:
        """[7] what the emotion sliders say."""
        return torch.tensor([slider.value for slider in self.emotions.values()])

    @property
    def articulation(self) -> Tensor:
        """[52] what the articulation sliders and the photo's own expression say."""
        channels = self.own.value * self.avatar.source.detach().cpu().clone()
        for name, slider in self.articulations.items():
            _, above, below = _ARTICULATIONS[name]
            for channel in above if slider.value > 0 else below:
                channels[ARKIT_NAMES.index(channel)] = abs(slider.value)
        return channels

    def show(self) -> None:
        """Brings the Gaussians up to date with the sliders; of many waiting calls only the first has work to do."""
        with self._lock:
            wanted = torch.cat([self.code, self.articulation])
            if self._quiet or torch.equal(wanted, self._shown):
                return
            self._shown = wanted
            with torch.no_grad():
                posed = self.avatar.posed(wanted[: len(EMOTIONS)], wanted[len(EMOTIONS) :])
            self.splats.set_gaussians(**splat_arrays(posed))

    def set_emotion(self, code: Tensor) -> None:
        """Moves the emotion sliders to a code [7] at once."""
        with self._at_once():
            for slider, value in zip(self.emotions.values(), code.tolist(), strict=True):
                slider.value = value

    def reset(self) -> None:
        """Everything back to the neutral face, looking ahead."""
        with self._at_once():
            for slider in (*self.emotions.values(), *self.articulations.values(), self.turn, self.own):
                slider.value = 0.0
            self.preset.value = "neutral"

    def wait(self) -> None:
        """Returns when the process is interrupted."""
        self.server.sleep_forever()

    def stop(self) -> None:
        """Closes the page."""
        self.server.stop()

    def _set_stage(self) -> None:
        server, eye = self.server, UNITS_PER_METRE * np.array(CAMERA)
        server.gui.configure_theme(dark_mode=True, show_logo=False, show_share_button=False)
        server.scene.set_up_direction("+y")
        server.scene.set_background_image(np.full((1, 1, 3), 96, np.uint8))
        server.initial_camera.position = eye
        server.initial_camera.look_at = eye * [1, 1, 0]
        server.initial_camera.fov = math.radians(FIELD_OF_VIEW)

    def _sliders(self, title: str, lowest: dict[str, float]) -> dict[str, Any]:
        with self.server.gui.add_folder(title):
            return {name: self._slider(name, low, 1.0) for name, low in lowest.items()}

    def _slider(self, name: str, low: float, high: float) -> Any:
        slider = self.server.gui.add_slider(name, low, high, 0.01, 0.0)
        slider.on_update(lambda _: self.show())
        return slider

    def _add_choices(self) -> None:
        gui = self.server.gui
        self.preset: Any = gui.add_dropdown("preset", ("neutral", *EMOTIONS, *default_tables().compounds))
        self.preset.on_update(lambda _: self.set_emotion(parse_emotion(self.preset.value)))
        self.own = self._slider("photo's own expression", 0.0, 1.0)
        self.turn = gui.add_slider("turn head", -40.0, 40.0, 1.0, 0.0)
        self.turn.on_update(lambda _: self._turn())
        gui.add_button("reset").on_click(lambda _: self.reset())

    def _turn(self) -> None:
        half = math.radians(self.turn.value) / 2
        self.splats.wxyz = np.array([math.cos(half), 0.0, math.sin(half), 0.0])

    @contextmanager
    def _at_once(self) -> Iterator[None]:
        """Several sliders move, the Gaussians once."""
        with self._lock:
            self._quiet = True
            try:
                yield
            finally:
                self._quiet = False
            self.show()


def splat_arrays(gaussians: Gaussians) -> dict[str, Any]:
    """Gaussians as viser takes them: centers [N, 3], covariances [N, 3, 3], rgbs [N, 3], opacities [N, 1]; in cm."""
    if gaussians.colors is None:
        raise ValueError("gaussians: viser draws no harmonics, expected colors [N, 3]")
    rotations = roma.unitquat_to_rotmat(roma.quat_wxyz_to_xyzw(torch.nn.functional.normalize(gaussians.quats, dim=-1)))
    axes = rotations * (UNITS_PER_METRE * gaussians.scales)[:, None]
    arrays = {
        "centers": UNITS_PER_METRE * gaussians.means,
        "covariances": axes @ axes.mT,
        "rgbs": gaussians.colors.clamp(0, 1),
        "opacities": gaussians.opacities[:, None],
    }
    return {name: value.detach().float().cpu().numpy() for name, value in arrays.items()}


def _check_port(host: str, port: int) -> None:
    """viser would silently take the next free port, and the address just told would be someone else's."""
    if not 1 <= port <= 65535:
        raise ValueError(f"port: expected 1 to 65535, got {port}")
    with socket.socket() as probe:
        try:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
        except OSError as error:
            reason = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
            raise ValueError(f"port {port} on {host} {reason}; choose another with --port") from None
