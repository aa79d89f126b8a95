"""The online loop: a policy that works, notices that it fails, learns from its own episodes and gets better."""
