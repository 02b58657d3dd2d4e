"""A process that lets TensorRT's lean runtime load a file which it does not take.

    python -m tests.gpu.lean_child PLAN

Prints the problem and the cure as JSON, once the device has computed something after it. If it
hangs, the stacks of all threads go to stderr and it ends with status 1.
"""

import faulthandler
import json
import logging
import sys
from importlib import import_module
from pathlib import Path

import numpy as np

from tests.gpu.stand_in_lane import WIDTH, Lane
from trtserve.device.cuda import CudaDevice
from trtserve.engine.tensorrt import TensorRtRuntime
from trtserve.engine.tensorrt_plan import PlanRules
from trtserve.errors import ModelLoadError

PATIENCE_S = 30


def main() -> None:
    """Load it, twice, and compute."""
    faulthandler.dump_traceback_later(PATIENCE_S, exit=True)
    logging.basicConfig(level=logging.DEBUG)
    module = import_module("tensorrt_lean")
    path = sys.argv[1]
    device = CudaDevice(0)
    for _ in range(2):  # the second runtime has to be told as much as the first
        try:
            TensorRtRuntime(module, PlanRules(writable=True)).load(path, device, {})
        except ModelLoadError as error:
            problem, cure = error.problem, error.cure
        else:
            sys.exit("it was loaded")
    folder = Path(path).parent / "after"
    folder.mkdir(exist_ok=True)
    lane = Lane(device, folder)
    values = np.ones((2, WIDTH), np.float32)
    if not np.array_equal(lane.run(lane.context(), values), 4 * values):
        sys.exit("the device computes nonsense afterwards")
    sys.stdout.write(json.dumps((problem, cure)) + "\n")


if __name__ == "__main__":
    main()
