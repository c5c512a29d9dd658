"""The painting agent: networks, environment, update rule, training loop."""
