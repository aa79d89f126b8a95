"""The scripted expert for LIBERO's goals: small skills that look at the simulator's state, and a plan that picks one."""
