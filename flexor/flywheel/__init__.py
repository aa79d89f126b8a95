"""Where sim and runtime are composed: evaluation, the demo."""
