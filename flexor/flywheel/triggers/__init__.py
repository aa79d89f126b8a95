"""Triggers: when the flywheel learns, corrects, prioritises and publishes, decided from episodes alone."""
