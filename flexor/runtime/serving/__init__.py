"""The wire, the policy server and its clients."""
