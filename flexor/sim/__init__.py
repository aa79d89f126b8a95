"""A simulated Franka behind the same door as a real one: tabletop, its tasks, and a scripted oracle."""

if __name__ != "flexor.sim":
    raise ImportError(f"import flexor.sim, not {__name__}")
