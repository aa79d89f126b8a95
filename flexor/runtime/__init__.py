"""Serves a policy and drives a robot: wire, server, engines, client, daemon, episodes, entropy."""

if __name__ != "flexor.runtime":
    raise ImportError(f"import flexor.runtime, not {__name__}")
