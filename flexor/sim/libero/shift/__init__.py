"""Domain shift for LIBERO's suites (docs/shift.md): tabletop's levels, on the axes of LIBERO-Plus and some more."""
