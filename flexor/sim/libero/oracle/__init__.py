"""The scripted expert for LIBERO: small skills that look at the simulator's state, and a plan that picks one."""
