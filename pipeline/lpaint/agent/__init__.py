"""The painting agent. ``trainer`` runs the training loop, ``train_step`` one update, ``ddpg`` has the update rule."""
