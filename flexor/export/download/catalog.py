"""Catalog: the checkpoints that flexor knows by name: what each is, where it is, and what comes after it."""

from __future__ import annotations

from dataclasses import dataclass

GEMMA = "weights derived from PaliGemma: Gemma Terms of Use"
LEROBOT_FILES = (
    "config.json",
    "model.safetensors",
    "policy_preprocessor.json",
    "policy_postprocessor.json",
    "policy_*_step_*_*.safetensors, where there are any",
)
IMPORT = "flexor import {out} --out BUNDLE --tokenizer TOKENIZER"
CONVERT = (
    "openpi's examples/convert_jax_model_to_pytorch.py makes safetensors of {out} (a path with pi05 in it, by which it "
    "tells the model); then " + IMPORT.format(out="CONVERTED")
)


@dataclass(frozen=True, slots=True)
class Known:
    """A checkpoint, or a tokenizer, with a name of its own.

    Attributes:
        name: as it is called where it is published.
        spec: where it is.
        what: what it is.
        license: as far as it is known here; what its own page says holds.
        next: the command after the download, with {out} for its folder.
        size_gb: 1e9 bytes of all files, None when it is not known here; `--dry-run` asks.
        include: patterns of what is taken of it; () takes all.
        files: what to bring over by hand when the network cannot.
    """

    name: str
    spec: str
    what: str
    license: str
    next: str
    size_gb: float | None = None
    include: tuple[str, ...] = ()
    files: tuple[str, ...] = LEROBOT_FILES

    def next_command(self, out: str) -> str:
        """What to do with the files in `out`."""
        return self.next.format(out=out)


CATALOG = {
    known.name: known
    for known in (
        Known(
            "openpi/pi05_libero",
            "gs://openpi-assets/checkpoints/pi05_libero",
            "openpi's Pi0.5 trained on LIBERO (30k steps); JAX. Does not see the robot's state",
            GEMMA,
            CONVERT,
            files=("params/", "assets/", "all that lies below the path"),
        ),
        Known(
            "openpi/pi05_base",
            "gs://openpi-assets/checkpoints/pi05_base",
            "openpi's Pi0.5 before any fine-tuning; JAX",
            GEMMA,
            CONVERT,
            files=("params/", "assets/", "all that lies below the path"),
        ),
        Known(
            "lerobot/pi05_base",
            "hf:lerobot/pi05_base",
            "LeRobot's conversion of openpi's pi05_base, float32, 812 tensors",
            "gemma, as its page says",
            IMPORT,
            size_gb=14.47,
        ),
        Known(
            "lerobot/pi05_libero_base",
            "hf:lerobot/pi05_libero_base",
            "LeRobot's conversion of openpi's pi05_libero",
            GEMMA,
            IMPORT,
        ),
        Known(
            "lerobot/pi05_libero_finetuned",
            "hf:lerobot/pi05_libero_finetuned",
            "LeRobot's Pi0.5 trained on LIBERO, 6k steps on top of pi05_libero_base. Sees the state",
            GEMMA,
            IMPORT,
        ),
        Known(
            "lerobot/pi05_libero_finetuned_v044",
            "hf:lerobot/pi05_libero_finetuned_v044",
            "the same for LeRobot 0.4.4; normalised by mean and standard deviation",
            GEMMA,
            IMPORT,
        ),
        Known(
            "TensorAuto/tPi0.5-libero",
            "hf:TensorAuto/tPi0.5-libero",
            "OpenTau's Pi0.5 trained on LIBERO with discrete actions beside the flow",
            "apache-2.0, as its page says; " + GEMMA,
            IMPORT,
            files=("config.json", "model.safetensors, or its shards and their index", "all other .json files"),
        ),
        Known(
            "yunzhenzhang/rlvla",
            "hf:yunzhenzhang/rlvla",
            "openpi's pi05_libero under another name, as chunk-level offline RL starts from it",
            "not known here; " + GEMMA,
            "where it holds params/: " + CONVERT,
            files=("all files of the repository",),
        ),
        Known(
            "paligemma-tokenizer",
            "gs://big_vision/paligemma_tokenizer.model",
            "PaliGemma's SentencePiece model, which every Pi0.5 checkpoint needs for its prompts",
            "Gemma Terms of Use",
            "flexor import CHECKPOINT --out BUNDLE --tokenizer {out}/paligemma_tokenizer.model",
            size_gb=0.00426,
            files=("paligemma_tokenizer.model",),
        ),
        Known(
            "google/paligemma-3b-pt-224",
            "hf:google/paligemma-3b-pt-224",
            "the same tokenizer on the hub, gated: accept its terms, set HF_TOKEN. Only the tokenizer is taken",
            "Gemma Terms of Use",
            "flexor import CHECKPOINT --out BUNDLE --tokenizer {out}",
            include=("tokenizer*", "special_tokens_map.json", "added_tokens.json"),
            files=("tokenizer.json", "tokenizer.model", "tokenizer_config.json"),
        ),
    )
}
"""By name."""
