"""What every training shares: device, precision, threads, layers, optimiser steps, weights, checkpoints, processes."""
