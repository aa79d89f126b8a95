"""Measurements that take more than a sitting: cells of a YAML file, filled bit by bit, told with intervals."""
