"""LIBERO, the benchmark, through hf-libero and robosuite, behind the same door as tabletop."""
