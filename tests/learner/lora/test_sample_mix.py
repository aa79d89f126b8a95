"""SampleMix: new samples in epochs, and a fixed share of what is replayed."""

from __future__ import annotations

import numpy as np

from flexor.learner.lora.sample_mix import SampleMix


def test_replayed_samples_are_their_share_and_new_ones_come_in_epochs():
    mix, alone = SampleMix(np.arange(40), np.arange(100, 140), 0.3, 7), SampleMix(np.arange(40), None, 0.3, 7)
    rng = np.random.default_rng(0)
    drawn = [mix.draw(first, 8, rng) for first in range(0, 4000, 8)]
    new, replayed = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
    assert len(new) + len(replayed) == 4000
    assert 0.27 < len(replayed) / 4000 < 0.33  # three standard deviations are 0.022
    assert set(new) == set(range(40))
    assert set(replayed) == set(range(100, 140))
    (epoch,) = [np.concatenate([alone.draw(first, 8, rng)[0] for first in range(40, 80, 8)])]
    assert sorted(epoch) == list(range(40))
    assert list(epoch) != list(range(40))
