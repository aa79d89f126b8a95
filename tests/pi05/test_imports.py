"""What runs on a robot without torch: prompt, images, normalize, config."""

from __future__ import annotations

import subprocess
import sys


def test_preprocessing_imports_and_works_where_torch_is_missing() -> None:
    code = """
import sys
sys.modules["torch"] = None
import numpy as np
from flexor.pi05 import config, images, normalize, prompt
stats = normalize.NormStats.measure(np.random.rand(9, 2))
state = normalize.Normalizer("quantile", stats).normalize(np.zeros(2))
words = prompt.build_word_tokenizer(["lift it"], config.PRESETS["pi05-micro"].vocab_size)
tokens = prompt.Tokenizer(words, 40).encode(prompt.build_prompt("lift it", prompt.discretise(state)))
print(len(tokens), images.to_model(images.resize_with_pad(np.zeros((4, 6, 3), np.uint8), 8)[None]).shape)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "13 (1, 3, 8, 8)"
