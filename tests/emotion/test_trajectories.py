"""Emotion over time: one clock for everybody, smooth, never outside its keyframes, and pulses that can be measured."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import tensors

from emogs.emotion import EASES, Trajectory, find_episode, frame_times, pulse

EPSILON = 1e-6
KEYFRAMES = 4
keyframes = st.tuples(
    st.lists(st.floats(0.01, 5), min_size=KEYFRAMES, max_size=KEYFRAMES).map(
        lambda steps: torch.tensor(steps, dtype=torch.float64).cumsum(0)
    ),
    tensors(KEYFRAMES, 7),
)


@given(keyframes, st.sampled_from(EASES))
def test_keyframes_are_met_and_ends_are_held(frames, ease):
    track = Trajectory(*frames, ease)
    assert torch.equal(track.at(track.times), track.values)
    beyond = torch.tensor([-100.0, 100.0])
    assert torch.equal(track.at(beyond), track.values[[0, -1]])


@given(keyframes, tensors(20), st.sampled_from(EASES))
def test_values_stay_between_their_keyframes(frames, shares, ease):
    track = Trajectory(*frames, ease)
    values = track.at(track.times[0] + shares.double() * track.duration)
    assert (values >= track.values.amin(0) - EPSILON).all()
    assert (values <= track.values.amax(0) + EPSILON).all()


@pytest.mark.parametrize(("fps", "times"), [(25, 2), (24, 5), (30, 2), (29.97, 4), (10, 3)])
def test_every_frame_rate_tells_the_same_story(fps, times):
    """Bit for bit at the instants that two rates share."""
    smile = pulse(torch.rand(7, generator=torch.Generator().manual_seed(0)), 0.4, 0.7, 0.9, start=0.3)
    slow, fast = smile.frames(fps), smile.frames(fps * times)
    assert torch.equal(fast[::times][: len(slow)], slow)


def test_identities_at_their_own_instants_agree():
    """One performance on two identities, of whom one dropped frames."""
    smile = pulse(torch.eye(7)[0], 0.4, 0.7, 0.9)
    first = frame_times(30, 2.0)
    second = first[torch.arange(len(first)) % 3 > 0]
    assert torch.equal(smile.at(torch.stack([first, first]))[0], smile.at(first))
    assert torch.equal(smile.at(second), smile.at(first)[torch.arange(len(first)) % 3 > 0])


def test_minimum_jerk_starts_and_ends_at_rest():
    """Speed and acceleration are zero at keyframes, and the jerk's integral is that of the closed form, 720."""
    rise = Trajectory(torch.tensor([0.0, 1.0]), torch.tensor([[0.0], [1.0]], dtype=torch.float64))
    step = 1e-3
    x = rise.at(torch.arange(-2 * step, 1 + 3 * step, step, dtype=torch.float64))[:, 0]
    speed = x.diff() / step
    assert speed[:2].abs().max() < 1e-4 > speed[-2:].abs().max()
    jerk = x[2:-2].diff(n=3) / step**3
    assert abs(float(jerk.square().mean()) - 720) < 10  # the outermost 1.5 steps, where it is largest, are missing
    assert abs(float(speed.max()) - 1.875) < 1e-3


@given(tensors(7), st.floats(0.1, 2), st.floats(0, 2), st.floats(0.1, 2), st.floats(0, 3))
def test_pulses_can_be_measured(code, onset, apex, offset, start):
    code[0] = 0.25 + code[0] / 2
    episode = pulse(code, onset, apex, offset, start)
    times = frame_times(200, start + onset + apex + offset + 0.5)
    found = find_episode(times, episode.at(times)[:, 0])
    expected = (start, onset, apex, offset, float(code[0]))
    for name, value, wanted in zip(found._fields, found, expected, strict=True):
        assert abs(value - wanted) < 0.02, name


def test_nothing_felt_is_no_episode():
    assert find_episode(frame_times(10, 1.0), torch.zeros(11)) is None


def test_an_episode_that_is_cut_off_ends_with_the_recording():
    times = frame_times(100, 1.0)
    found = find_episode(times, pulse(torch.ones(1), onset=0.4, apex=2.0, offset=0.5).at(times)[:, 0])
    assert abs(found.onset - 0.4) < 0.02
    assert abs(found.start + found.onset + found.apex - 1.0) < 0.02
    assert found.offset == 0


def test_neutral_stays_zero_bit_for_bit():
    assert not pulse(torch.zeros(7), 0.3, 0.2, 0.1).frames(60).any()


def test_gradients():
    values = torch.rand(3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    times = torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64)
    at = torch.tensor([-0.1, 0.1, 0.5, 0.9, 1.4], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda values, at: Trajectory(times, values).at(at), (values, at))


def test_frames_cover_the_end():
    assert len(frame_times(30, 1.0)) == 31
    assert len(frame_times(30, 0.0)) == 1
    one = Trajectory(torch.tensor([2.0]), torch.ones(1, 7))
    assert torch.equal(one.frames(25, duration=1.0), torch.ones(26, 7))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Trajectory(torch.zeros(0), torch.zeros(0, 7)), r"expected times \[K\] and values \[K, D\]"),
        (lambda: Trajectory(torch.zeros(2), torch.zeros(2, 7)), "each later than the one before, got 0 after 0"),
        (lambda: Trajectory(torch.tensor([0.0, torch.nan]), torch.zeros(2, 7)), "finite seconds"),
        (lambda: Trajectory(torch.zeros(1), torch.zeros(1, 7), "bounce"), "ease: expected one of minimum jerk"),
        (lambda: frame_times(0, 1.0), "fps: expected a number above 0, got 0"),
        (lambda: frame_times(float("nan"), 1.0), "fps"),
        (lambda: frame_times(25, -1.0), "duration"),
        (lambda: frame_times(25, 1e9), "duration"),
        (lambda: pulse(torch.zeros(7), 0, 1, 1), "^onset: expected seconds above 0, got 0"),
        (lambda: pulse(torch.zeros(7), 1, 1, 0.0), "^offset: expected seconds above 0, got 0"),
        (lambda: pulse(torch.zeros(7), 0, 0, 0), "^onset and offset: expected seconds above 0, got 0"),
        (lambda: pulse(torch.zeros(7), 1, -1, 1), "apex: expected a finite number from 0, got -1"),
        (lambda: pulse(torch.zeros(2, 7), 1, 1, 1), r"code: expected \[D\]"),
        (lambda: find_episode(torch.zeros(1), torch.ones(1), near=1.0), "near"),
    ],
)
def test_wrong_times_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_one_instant_may_be_a_number():
    course = pulse(torch.eye(7)[0], 0.4, 0.5, 0.6)
    assert torch.equal(course.at(0.3), course.at(torch.tensor(0.3, dtype=torch.float64)))
    assert torch.equal(course.at(1), course.at(torch.tensor([1.0]))[0])
    with pytest.raises(ValueError, match="times: expected finite seconds, got nan"):
        course.at(float("nan"))
    with pytest.raises(TypeError, match="times: expected a tensor, got list"):
        course.at([0.1])


def test_an_instant_that_is_no_number_has_no_value():
    course = pulse(torch.eye(7)[0], 0.4, 0.5, 0.6)
    values = course.at(torch.tensor([0.3, torch.nan, torch.inf]))
    assert values.isnan().all(-1).tolist() == [False, True, False]
    assert torch.equal(values[2], course.values[-1])
