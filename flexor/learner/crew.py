"""Crew: processes on one machine that train one model together, each on its share of every batch.

Small matrices gain little from a second thread, but two processes with one thread each nearly double the samples a
second. All begin with the same weights, average their gradients in every step, and so keep the same weights.
"""

from __future__ import annotations

import contextlib
import datetime
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from flexor.errors import FlexorError
from flexor.runtime.child_process import end

PATIENCE_S = 600.0  # the first one measures on held-out episodes while the others wait for its next step
GOODBYE_S = 30.0


class CrewError(FlexorError):
    """Another process of the crew is gone, or did not answer in time."""


class Crew:
    """One process's place in a crew; alone, all of it costs nothing.

    Attributes:
        rank: 0 for the one that keeps the checkpoint and the curves.
        size: how many there are.
    """

    def __init__(self, rank: int = 0, size: int = 1, meeting: Path | None = None) -> None:
        """
        Args:
            meeting: a file that does not exist yet and is the same for all; needed unless alone.

        Raises:
            CrewError: the others did not come.
        """
        self.rank, self.size = rank, size
        if size == 1:
            return
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # one machine: no name has to be resolved
        with _told("meet"):
            dist.init_process_group(
                "gloo",
                init_method=f"file://{meeting}",
                rank=rank,
                world_size=size,
                timeout=datetime.timedelta(seconds=PATIENCE_S),
            )

    def agree(self, value: float) -> float:
        """What rank 0 says, for everyone."""
        if self.size == 1:
            return value
        said = torch.tensor([value], dtype=torch.float64)
        with _told("agree"):
            dist.broadcast(said, 0)
        return float(said)

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace float32 tensors by their mean over the crew, all in one message."""
        self.add_up(tensors)
        if self.size > 1:
            for tensor in tensors:
                tensor /= self.size

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors of one dtype by their sum over the crew, all in one message."""
        if self.size == 1:
            return
        message = torch.cat([tensor.reshape(-1) for tensor in tensors])
        with _told("add up"):
            dist.all_reduce(message)
        for tensor, total in zip(tensors, message.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(total.view_as(tensor))

    def close(self) -> None:
        """Leave; the others will find out at their next word."""
        if self.size > 1:
            dist.destroy_process_group()


@contextlib.contextmanager
def gather(size: int, work: Callable[..., None], args: tuple[object, ...]) -> Iterator[Crew]:
    """The place of rank 0, while size - 1 other processes run `work(crew, *args)` at theirs.

    They end when the context does. Everything has to be importable and picklable by multiprocessing (own code only).

    Raises:
        CrewError: the others did not come.
    """
    if size == 1:
        yield Crew()
        return
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="flexor-crew-") as folder:
        meeting = Path(folder) / "meeting"
        mates = [
            spawn.Process(target=_mate, args=(rank, size, meeting, work, args), daemon=True) for rank in range(1, size)
        ]
        for mate in mates:
            mate.start()
        crew = None
        try:
            crew = Crew(0, size, meeting)
            yield crew
            for mate in mates:
                mate.join(GOODBYE_S)
        finally:
            if crew is not None:
                crew.close()
            end(*mates, patience_s=GOODBYE_S)


def _mate(rank: int, size: int, meeting: Path, work: Callable[..., None], args: tuple[object, ...]) -> None:
    try:
        crew = Crew(rank, size, meeting)
        try:
            work(crew, *args)
        finally:
            crew.close()
    except (KeyboardInterrupt, CrewError):
        pass  # rank 0 tells why it ended
    except FlexorError as error:
        sys.exit(f"error in training process {rank}: {error}")


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """torch.distributed raises bare RuntimeErrors; say what it means here."""
    try:
        yield
    except RuntimeError as error:
        raise CrewError(
            f"the training processes could not {what}: one of them is gone or silent ({error}); the last checkpoint "
            "stands: give the same command again"
        ) from error
