"""The start of a training in several processes by itself, where a setting and not ``torchrun`` asks for them."""

import logging
import os
import sys
import uuid

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from lpaint.errors import ExitCode, TrainingError


def launch(module: str, processes: int) -> None:
    """Run ``module`` in so many processes of this machine, as ``torchrun --standalone`` does, and exit as they do.

    Returns at once where one process is asked for, or this already is one of several.

    Raises:
        TrainingError: the processes were killed, all of them, so that none could say a word.
        SystemExit: they are done; 0, or the exit code of the one that told why.
    """
    if processes == 1 or "WORLD_SIZE" in os.environ:
        return
    # What it would say of a process's end, the process says better.
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
        # Below 0 is a signal: that of the process that was killed, of which another tells.
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
