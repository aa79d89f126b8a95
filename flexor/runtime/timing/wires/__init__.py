"""The same request over different wires, to compare them."""
