"""A learner is shown what the policy is shown when it serves, whatever the bundle's prompt and width."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
from recordings import CAMERAS, SENTENCES
from small_learners import pool_of, settings
from tokenizers import Regex, models, pre_tokenizers, processors

from flexor.export.random_bundle import WORDS, random_config
from flexor.learner.demonstrations import DemonstrationError, load_demonstrations
from flexor.learner.lora.learn import LearnWatcher, learn
from flexor.learner.lora.served_prompts import ServedPrompts
from flexor.learner.prompt_table import PromptTable
from flexor.pi05.config import PRESETS
from flexor.pi05.init import randomise
from flexor.pi05.model import Pi05
from flexor.pi05.normalize import NormStats
from flexor.pi05.prompt import build_word_tokenizer
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.inference.bundle_writer import write_bundle
from flexor.runtime.inference.preprocessor import Preprocessor
from flexor.runtime.observation import Observation

QUIET = LearnWatcher(lambda done, total: None, lambda standing: None)
ROBOT, MODEL = 7, 32  # channels


def character_tokenizer() -> str:
    """One token a character, digits of a bin too, and no [UNK]."""
    ids = {"<bos>": 0, **{chr(code): code for code in range(1, 127)}}
    made = tokenizers.Tokenizer(models.WordLevel(ids, unk_token="<bos>"))
    made.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")  # type: ignore[assignment]
    made.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single="<bos> $A", special_tokens=[("<bos>", 0)]
    )
    return made.to_str()


def random_bundle(folder: Path, tokenizer: str | None = None, **changes: Any) -> Bundle:
    """A policy of random weights whose model has more channels than its robot, and room for long prompts."""
    sizes = replace(PRESETS["pi05-micro"], action_dim=MODEL, max_prompt_tokens=200)
    model, rng = Pi05(sizes), np.random.default_rng(3)
    randomise(model, 7)
    return write_bundle(
        folder,
        config=replace(random_config("random", sizes, rtc_max_delay=5), **changes),
        weights={name: tensor.numpy() for name, tensor in model.state_dict().items()},
        tokenizer_json=tokenizer or build_word_tokenizer(WORDS, sizes.vocab_size).to_str(),
        norm_stats={
            name: NormStats.measure(rng.normal(0.1, 1.5, (999, dim))) for name, dim in (("state", 8), ("actions", 7))
        },
    )


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return random_bundle(tmp_path_factory.mktemp("wide") / "random")


@pytest.mark.parametrize(
    "prompt",
    [
        {},
        {"prompt_state": False},
        {"prompt_padding": (127,) * 24},
        {"prompt_format": "opentau-0.1"},
        {"prompt_format": "opentau-0.2", "prompt_padding": (-1, 0)},
        {"tokenizer": character_tokenizer()},
        {"tokenizer": character_tokenizer(), "prompt_state": False},
    ],
    ids=lambda prompt: " ".join(prompt) or "as openpi",
)
def test_a_sample_is_what_the_preprocessor_makes_of_its_observation(
    recordings: Path, tmp_path: Path, prompt: dict[str, Any]
) -> None:
    bundle = random_bundle(tmp_path / "random", **prompt)
    pool, found = pool_of(recordings, bundle, settings()), load_demonstrations(recordings, CAMERAS, 32, 10)
    served = Preprocessor(bundle)
    for row in (0, 40, 100):
        frames: dict[str, Any] = dict(zip(CAMERAS, np.array(found.images[row]), strict=True))
        images, tokens = served.prepare(Observation(frames, found.states[row], found.spoken[found.episodes[row]]))
        seen = pool.see(row, 0)
        np.testing.assert_array_equal(seen.tokens.numpy(), tokens[None])
        np.testing.assert_allclose(seen.images.numpy(), images[None], atol=1e-6)


def test_the_state_is_varied_before_it_becomes_bins(wide: Bundle, recordings: Path) -> None:
    quiet, noisy = (pool_of(recordings, wide, settings(state_noise=noise)) for noise in (0.0, 0.5))
    same, other = (pool.see(0, 1).tokens for pool in (quiet, noisy))
    assert same.shape == other.shape, "every bin is one token of this tokenizer"
    assert 5 <= int((same != other).sum()) <= 8


def test_things_are_laid_into_varied_frames_alone_and_what_was_encoded_without_them_is_found_again(
    wide: Bundle, recordings: Path
) -> None:
    plain = {"shift_pixels": 0, "brightness": 0, "contrast": 0, "colour": 0}
    none, some = (pool_of(recordings, wide, settings(things=things, **plain)) for things in (0, 9))
    assert none.key(0, 1) == pool_of(recordings, wide, settings(thing_pixels=5, **plain)).key(0, 1)
    assert (none.key(0, 0) == some.key(0, 0)) and (none.key(0, 1) != some.key(0, 1))
    assert torch.equal(none.see(0, 0).images, some.see(0, 0).images)
    small = pool_of(recordings, wide, settings(things=9, thing_pixels=5, **plain))
    assert some.key(0, 1) != small.key(0, 1) and not torch.equal(some.see(0, 1).images, small.see(0, 1).images)
    changed = [(none.see(0, one).images != some.see(0, one).images).any(dim=(0, 1, 2)) for one in (1, 2, 3)]
    assert all(0 < part.float().mean() < 1 for part in changed)


def test_the_shipped_policy_is_taught_on_the_tokens_that_it_always_was() -> None:
    bundle = Bundle.open("pi05-nano")
    texts = [text for kinds in SENTENCES.values() for text in (*kinds["train"], *kinds["held_out"])]
    table, prompts = PromptTable(bundle.tokenizer(), texts, bundle.config.state_dim), ServedPrompts(bundle)
    states = np.random.default_rng(0).uniform(-1.3, 1.3, (200, bundle.config.state_dim)).astype(np.float32)
    for number, state in enumerate(states):
        sentence = number % len(texts)
        tokens, mask = table.encode(np.array([sentence]), state[None])
        np.testing.assert_array_equal(prompts.tokens(texts[sentence], state), tokens[0, mask[0]])


def test_a_sentence_is_refused_by_the_longest_prompt_that_it_may_become(tmp_path: Path) -> None:
    prompts = ServedPrompts(random_bundle(tmp_path / "random", character_tokenizer()))
    said = "a" * 150
    assert len(prompts.tokens(said, np.full(8, -0.99, np.float32))) == 191, "bins of one digit"
    with pytest.raises(DemonstrationError, match=r"episode 7: the prompt has 207 tokens.* at most 200; shorten it"):
        prompts.check("episode 7", said)
    with pytest.raises(DemonstrationError, match="episode 7: what was said is '  '; expected a sentence"):
        prompts.check("episode 7", "  ")


def test_chunks_are_padded_to_the_models_width_as_the_ones_that_are_on_their_way_are(
    wide: Bundle, recordings: Path
) -> None:
    pool, found = pool_of(recordings, wide, settings()), load_demonstrations(recordings, CAMERAS, 32, 10)
    rows = np.array([3, 50])
    actions, committed, reach = pool.chunks(rows, None)
    assert actions.shape == committed.shape == (2, 10, MODEL)
    assert reach.tolist() == [10, 10]
    _, normalizer = wide.normalizers()
    np.testing.assert_array_equal(actions[..., :ROBOT].numpy(), normalizer.normalize(found.actions[rows]))
    assert not actions[..., ROBOT:].any()
    for row, shown in zip(rows, committed.numpy(), strict=True):
        np.testing.assert_array_equal(shown[:5], Preprocessor(wide).clamp(found.played[row, :5]))


def test_doubt_turns_the_gripper_of_the_robot_and_leaves_the_padding_alone(wide: Bundle, recordings: Path) -> None:
    rows, gripper = np.array([3, 50]), ROBOT - 1
    turning, noisy = settings(prefix_flips=1.0, prefix_noise=0.0), settings(prefix_flips=0.0, prefix_noise=0.3)
    _, clean, _ = pool_of(recordings, wide, turning).chunks(rows, None)
    _, turned, _ = pool_of(recordings, wide, turning).chunks(rows, np.random.default_rng(0))
    _, doubted, _ = pool_of(recordings, wide, noisy).chunks(rows, np.random.default_rng(0))
    np.testing.assert_array_equal(turned[..., gripper], -clean[..., gripper])
    np.testing.assert_array_equal(turned[..., :gripper], clean[..., :gripper])
    assert (doubted[..., :ROBOT] != clean[..., :ROBOT]).all()
    assert not turned[..., ROBOT:].any() and not doubted[..., ROBOT:].any()


@pytest.mark.parametrize("profile", ["expert", "projector"])
def test_a_policy_with_more_channels_than_its_robot_learns(
    wide: Bundle, changed: Path, tmp_path: Path, profile: str
) -> None:
    told = learn(wide, changed, tmp_path / "adapters", settings(profile=profile, steps=30), QUIET)
    assert told["loss_after"] < 0.9 * told["loss_before"]
    assert Path(told["adapter"], "adapter_model.safetensors").is_file()
