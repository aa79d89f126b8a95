"""Turns recorded episodes into weights: demonstrations, the flow objective, the trainer."""

if __name__ != "flexor.learner":
    raise ImportError(f"import flexor.learner, not {__name__}")
