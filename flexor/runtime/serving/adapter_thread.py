"""The adapter thread: takes orders and reports, and drives the lifecycle of adapters off the I/O and engine threads."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flexor.errors import FlexorError
from flexor.runtime.adapters.adapter_error import AdapterError
from flexor.runtime.adapters.adapter_schema import AdapterSchema
from flexor.runtime.adapters.adapter_settings import AdapterSettings
from flexor.runtime.adapters.adapter_slots import AdapterSlots, Carried
from flexor.runtime.adapters.adapter_store import AdapterStore
from flexor.runtime.adapters.base_weights import BaseWeights
from flexor.runtime.adapters.canary import Verdict
from flexor.runtime.adapters.legible import legible
from flexor.runtime.adapters.lifecycle import Lifecycle
from flexor.runtime.adapters.loader import Carrier
from flexor.runtime.adapters.signing import read_trusted_keys
from flexor.runtime.adapters.verification import Verifier
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.serving.peers import Peer
from flexor.runtime.serving.wire import Message

TICK_S = 1.0
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answered:
    """The reply to an order."""

    peer: Peer
    reply: Message


@dataclass(frozen=True, slots=True)
class Announced:
    """An adapter changed its state."""

    told: dict[str, Any]


@dataclass(frozen=True, slots=True)
class AdaptersEnded:
    """The thread is over."""


Report = Answered | Announced | AdaptersEnded


def open_lifecycle(bundle: Bundle, carrier: Carrier, slots: AdapterSlots, settings: AdapterSettings) -> Lifecycle:
    """The adapters of a server, as its settings have them; nothing is loaded yet.

    Raises:
        AdapterError: busy: another server has the directory.
        KeyFileError: keys that cannot be read.
        BundleError: weights that are not those of the bundle.
        OSError: the disk refuses.
    """
    assert settings.dir is not None
    verifier = Verifier(
        bundle,
        AdapterSchema.of(bundle.model_config, settings.rank, settings.alpha, bundle.adapter_pairs),
        BaseWeights(bundle),
        read_trusted_keys(settings.keys) if settings.keys is not None else {},
        settings.max_change,
    )
    return Lifecycle(AdapterStore(settings.dir), verifier, carrier, slots, settings)


class AdapterThread(threading.Thread):
    """Owns the lifecycle from start() until it ends.

    Attributes:
        listing: how everything stood after the last thing that happened; plain values, replaced whole.
    """

    def __init__(self, lifecycle: Lifecycle, post: Callable[[Report], None]) -> None:
        """`post` is called in this thread with what happened, in order."""
        super().__init__(name="flexor-adapters", daemon=True)
        self._lifecycle, self._post = lifecycle, post
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self.listing: dict[str, Any] = lifecycle.listing()
        self._orders: dict[str, Callable[[Message], dict[str, Any]]] = {
            "adapter.push": lambda order: lifecycle.push(order.fields["adapter"]),
            "adapter.swap": lambda order: lifecycle.swap(order.fields["adapter"], order.fields.get("at")),
            "adapter.rollback": lambda order: lifecycle.rollback(),
            "adapter.remove": lambda order: lifecycle.remove(order.fields["adapter"]),
        }
        lifecycle.store.announce = lambda told: post(Announced(told))

    def ask(self, peer: Peer, order: Message) -> None:
        """Take an order; its reply is posted once it is done."""
        self._jobs.put(lambda: self._post(Answered(peer, self._reply(order))))

    def episode_ended(self, carried: Carried, success: bool | None, verdict: Verdict | None) -> None:
        """See Lifecycle."""
        self._jobs.put(lambda: self._lifecycle.episode_ended(carried.adapter, success, verdict))

    def shadowed(self, carried: Carried, played: NDArray[np.float32], shadow: NDArray[np.float32]) -> None:
        """See Lifecycle."""
        self._jobs.put(lambda: self._lifecycle.shadowed(carried.adapter, played, shadow))

    def failed(self, carried: Carried, told: str) -> None:
        """See Lifecycle."""
        self._jobs.put(lambda: self._lifecycle.failed(carried.adapter, told))

    def stop(self) -> None:
        """Do what was ordered so far, then end."""
        self._jobs.put(None)

    def run(self) -> None:
        """Work until stopped."""
        next_tick_s = 0.0
        try:
            while True:
                with contextlib.suppress(queue.Empty):
                    job = self._jobs.get(timeout=TICK_S)
                    if job is None:
                        return
                    self._do(job)
                if time.monotonic() >= next_tick_s:
                    self._do(self._lifecycle.tick)
                    next_tick_s = time.monotonic() + TICK_S
                self._do(self._tell)
        finally:
            self._lifecycle.store.close()
            self._post(AdaptersEnded())

    def _tell(self) -> None:
        self.listing = self._lifecycle.listing()

    def _do(self, job: Callable[[], None]) -> None:
        """What goes wrong with an adapter must not end the thread, and serving goes on without it."""
        try:
            job()
        except (FlexorError, OSError) as error:
            logger.error("adapters: %s", error)
        except Exception:
            logger.exception("adapters: a fault of the server's own")

    def _reply(self, order: Message) -> Message:
        try:
            told = self._orders[order.type](order)
            self._tell()
            return Message("adapter", order.id, {"told": told})
        except AdapterError as error:
            code, text = error.reason, str(error)
        except FlexorError as error:
            code, text = "engine", str(error)
        except OSError as error:
            code, text = "disk", f"{self._lifecycle.store.root}: {error.strerror or error}; make room or mend it"
        except Exception as error:
            logger.exception("order %s failed", order.type)
            code, text = "internal", f"{type(error).__name__}: {error}; see the server's log"
        self._do(self._tell)
        return Message("error", order.id, {"code": code, "message": legible(text)[:4000]})
