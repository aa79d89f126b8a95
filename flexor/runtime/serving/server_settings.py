"""ServerSettings: what can be set of a policy server, and its defaults."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from flexor.runtime.adapters.adapter_settings import AdapterSettings


class EngineSettings(BaseModel):
    """How the bundle is run; what is None is as the bundle has it, see `open_engine`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str | None = None
    precision: str | None = None
    threads: int = Field(default=1, ge=1)
    flow_steps: int | None = Field(default=None, ge=1)
    provider: str | None = None


class ServerSettings(BaseModel):
    """Settings of `flexor serve`.

    Attributes:
        bind: data address, ipc://PATH or tcp://127.0.0.1:PORT; None is the default one.
        engine: how the bundle is run.
        adapters: which adapters are taken, and how they are tried.
        max_waiting: sessions that may wait at the same time; further ones are told `busy`.
        max_sessions: sessions remembered; the one unused for longest is forgotten first.
        idle_limit_s: a session unused for so long is forgotten, and an episode that it left open counts as unknown.
        entropy: "slack" samples the entropy of a chunk after its reply, while no request waits; "never" does not (the
            word is not "off", which YAML reads as false).
        stop_timeout_s: how long stopping may take, a chunk under way included.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bind: str | None = None
    engine: EngineSettings = EngineSettings()
    adapters: AdapterSettings = AdapterSettings()
    max_waiting: int = Field(default=64, ge=1, le=4096)
    max_sessions: int = Field(default=256, ge=1, le=65536)
    idle_limit_s: float = Field(default=120.0, gt=0)
    entropy: Literal["slack", "never"] = "slack"
    stop_timeout_s: float = Field(default=10.0, gt=0, le=600)
