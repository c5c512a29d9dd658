"""What all trainings share: device, precision, threads, layers, optimizer steps, weights, checkpoints, processes."""
