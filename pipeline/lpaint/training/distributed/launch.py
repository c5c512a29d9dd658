"""Starts the processes of a training where a parameter, not ``torchrun``, asks for several."""

import logging
import os
import sys
import uuid

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from lpaint.errors import ExitCode, TrainingError


def launch(module: str, processes: int) -> None:
    """Run ``module`` in ``processes`` processes on this machine, as ``torchrun --standalone`` does, then exit.

    Returns at once if ``processes`` is 1 or this already is one of several processes.

    Raises:
        TrainingError: all processes were killed, so that none could report an error.
        SystemExit: the processes ended; 0, or the exit code of the one that reported an error.
    """
    if processes == 1 or "WORLD_SIZE" in os.environ:
        return
    # The processes report their errors themselves.
    logging.disable(logging.CRITICAL)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
    )
    try:
        elastic_launch(config, sys.executable)("-m", module)
    except ChildFailedError as error:
        # Codes below 0 are signals, of processes that were killed; another process reports those.
        codes = [failure.exitcode for failure in error.failures.values() if failure.exitcode > 0]
        if not codes:
            raise TrainingError(
                f"{module}: its processes were killed; give it more memory or fewer agent.processes, "
                "and run the same command again to go on from the last checkpoint"
            ) from None
        sys.exit(codes[0])
    except SignalException:
        sys.exit(ExitCode.INTERRUPTED)
    sys.exit(ExitCode.OK)
