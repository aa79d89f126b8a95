"""The two programs of a model as graphs of fixed shape, for every format that they are exported to."""
