"""The stand-in's engines and execution contexts; see testing/tensorrt.py."""

import ctypes
from math import prod
from typing import Any

import numpy as np

from trtserve.model.tensor import Shape
from trtserve.testing.tensorrt_plan import StandInPlan, StandInTensor

ITEMSIZES = {
    "FLOAT": 4, "HALF": 2, "BF16": 2, "INT8": 1, "INT32": 4, "INT64": 8, "BOOL": 1, "UINT8": 1,
    "FP8": 1,
}

ALIGNMENT = 256


class EngineBase:
    """ICudaEngine."""

    module: Any

    def __init__(self, plan: StandInPlan, logger: Any) -> None:
        self.plan = plan
        self.logger = logger
        self.tensors = {tensor.name: tensor for tensor in plan.inputs + plan.outputs}
        self.num_io_tensors = len(self.tensors)
        self.num_optimization_profiles = len(plan.profiles)

    def get_tensor_name(self, index: int) -> str:
        """By its place: the inputs first."""
        return list(self.tensors)[index]

    def get_tensor_mode(self, name: str) -> Any:
        """Input or output."""
        modes = self.module.TensorIOMode
        tensor = self.tensors.get(name)
        if tensor is None:
            return modes.NONE
        return modes.INPUT if tensor in self.plan.inputs else modes.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        """Its datatype."""
        return self.module.DataType[self.tensors[name].datatype]

    def get_tensor_shape(self, name: str) -> Shape:
        """-1 where profiles, or data, decide."""
        return self.tensors[name].shape

    def get_tensor_location(self, name: str) -> Any:
        """Where its address has to be."""
        places = self.module.TensorLocation
        return places.HOST if self.tensors[name].on_host else places.DEVICE

    def get_tensor_format(self, name: str, profile_index: int) -> Any:
        """How its elements lie. The lean runtime has no names for that, and raises."""
        formats = getattr(self.module, "TensorFormat", None)
        if formats is None:
            raise TypeError("Unable to convert function return value to a Python type!")
        return formats[self.tensors[name].format]

    def get_tensor_format_desc(self, name: str, profile_index: int) -> str:
        """The same in words."""
        tensor = self.tensors[name]
        return f"{tensor.format} {tensor.datatype} format"

    def get_tensor_vectorized_dim(self, name: str, profile_index: int) -> int:
        """The dimension of which several elements lie together."""
        return self.tensors[name].vector

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[Shape]:
        """[min, opt, max]."""
        return list(self.plan.profiles[profile_index].shapes[name])

    # TensorRT has the names the wrong way round too.
    def get_tensor_profile_values(self, name: int, profile_index: str) -> list[list[int]]:
        """[min, opt, max] of an input on the host; empty if there are none. By position: the
        profile's index, then the tensor's name."""
        assert isinstance(name, int), "the profile's index comes first"
        values = self.plan.profiles[name].values.get(profile_index)
        return [list(each) for each in values] if values is not None else []

    def is_shape_inference_io(self, name: str) -> bool:
        """Whether shapes depend on its values."""
        return self.tensors[name].on_host

    def get_aliased_input_tensor(self, name: str) -> str | None:
        """The input whose memory an output shares."""
        return self.tensors[name].alias or None

    def get_device_memory_size_for_profile_v2(self, profile_index: int) -> int:
        """The bytes that a context needs."""
        return scratch_bytes(self.plan, profile_index)

    def create_execution_context(self, strategy: Any = None) -> Any:
        """A context, or None. `strategy` may be an IRuntimeConfig."""
        module = self.module
        message = module.failure("create_execution_context")
        chosen = getattr(strategy, "strategy", strategy)
        if message is None and chosen is not module.ExecutionContextAllocationStrategy.USER_MANAGED:
            message = "this stand-in has no memory but what it is given"
        if message is not None:
            self.logger.log(module.ILogger.ERROR, message)
            return None
        return module.IExecutionContext(self)

    def create_runtime_config(self) -> Any:
        """What contexts may be made with."""
        return self.module.IRuntimeConfig()


class ContextBase:
    """IExecutionContext."""

    module: Any

    def __init__(self, engine: EngineBase) -> None:
        self.engine = engine
        self.nvtx_verbosity = self.module.ProfilingVerbosity[engine.plan.verbosity]
        self._profile = 0
        self._memory: int | None = None
        self._shapes: dict[str, Shape] = {}
        self._addresses: dict[str, int] = {}
        self._allocators: dict[str, Any] = {}
        self._put_off = True

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        """Choose a profile; the shapes have to be set anew. Raises RuntimeError."""
        if self._failed("set_optimization_profile_async") or not (
            0 <= profile_index < self.engine.num_optimization_profiles
        ):
            raise RuntimeError("Error in set optimization profile async.")
        self._profile = profile_index
        self._shapes.clear()
        self._put_off = True
        return True

    def set_device_memory(self, memory: int, size: int) -> None:
        """Scratch memory for runs. Too little, or at a wrong address, is not taken."""
        needed = scratch_bytes(self.engine.plan, self._profile)
        if memory % ALIGNMENT or size < needed:
            self._error(f"Error Code 3: the memory has {size} bytes, and {needed} are needed")
            return
        self._memory = memory
        self._put_off = True

    def set_input_shape(self, name: str, shape: Shape) -> bool:
        """False if the profile does not take it."""
        if self._failed("set_input_shape"):
            return False
        tensor = self.engine.tensors.get(name)
        if tensor is None or tensor not in self.engine.plan.inputs:
            return self._error(f"Error Code 3: no input is named {name}")
        low, _, high = self._profile_shapes(tensor)
        fits = len(shape) == len(low) and all(
            least <= size <= most for least, size, most in zip(low, shape, high, strict=True)
        )
        if not fits:
            return self._error(
                f"Error Code 3: Internal Error (shape {list(shape)} of {name} is outside of "
                f"profile {self._profile})"
            )
        self._shapes[name] = tuple(shape)
        self._put_off = True
        return True

    def infer_shapes(self) -> list[str]:
        """What shapes or values are missing. Raises RuntimeError if they do not fit."""
        missing = self._missing()
        if not missing:
            for tensor in self.engine.plan.inputs:
                if not self._takes_values(tensor):
                    self._error(f"Error Code 3: the values of {tensor.name} are out of range")
                    raise RuntimeError("infer_shapes error code: -1")
        if self._failed("infer_shapes"):
            raise RuntimeError("infer_shapes error code: -1")
        return missing

    def get_tensor_shape(self, name: str) -> Shape:
        """Its shape; -1 where the data decide, or nobody has yet."""
        tensor = self.engine.tensors[name]
        if tensor in self.engine.plan.inputs:
            return self._shapes.get(name, tensor.shape)
        return self._output_shape(tensor)

    def set_tensor_address(self, name: str, memory: int) -> bool:
        """False for a wrong address."""
        if self._failed("set_tensor_address"):
            return False
        tensor = self.engine.tensors.get(name)
        if tensor is None or (memory % ALIGNMENT and not tensor.on_host):
            return self._error(f"Error Code 3: {name} can not be at {memory:#x}")
        self._addresses[name] = memory
        return True

    def set_output_allocator(self, name: str, output_allocator: Any) -> bool:
        """Ask for an output's memory during runs."""
        tensor = self.engine.tensors.get(name)
        if tensor not in self.engine.plan.outputs:
            return self._error(f"Error Code 3: no output is named {name}")
        self._allocators[name] = output_allocator
        return True

    def get_max_output_size(self, name: str) -> int:
        """The most bytes that an output can have, for the shapes that are set."""
        tensor = self.engine.tensors[name]
        source = self._source(tensor)
        shape = self._shapes.get(source.name, source.shape)
        return -1 if -1 in shape else prod(shape) * ITEMSIZES[tensor.datatype]

    def execute_async_v3(self, stream_handle: int) -> bool:
        """Queue a run; False if something is missing, or can not be recorded."""
        if self._failed("execute_async_v3"):
            return False
        plan, machine = self.engine.plan, self.module.machine
        lacking = self._missing() or [
            name for name, tensor in self.engine.tensors.items()
            if name not in self._addresses and name not in self._allocators
        ]
        if lacking:
            return self._error(f"Error Code 3: nothing is known of {', '.join(lacking)}")
        if self._memory is None:
            return self._error("Error Code 3: no device memory was given")
        if machine.capturing(stream_handle):
            if self._put_off:
                return self._error("Error Code 9: updates were put off, and can not be recorded")
            if not plan.capturable:
                return self._error("Error Code 1: Cuda Runtime (operation not permitted)")
        self._put_off = False
        return all(self._compute(stream_handle, output) for output in plan.outputs)

    # --- inside --------------------------------------------------------------------------

    def _missing(self) -> list[str]:
        """Inputs of which nobody has told the shape, or the values."""
        return [
            tensor.name for tensor in self.engine.plan.inputs
            if (-1 in tensor.shape and tensor.name not in self._shapes)
            or (tensor.on_host and tensor.name not in self._addresses)
        ]

    def _takes_values(self, tensor: StandInTensor) -> bool:
        limits = self.engine.plan.profiles[self._profile].values.get(tensor.name)
        return limits is None or all(
            low <= value <= high
            for low, value, high in zip(limits[0], self._values(tensor), limits[2], strict=True)
        )

    def _compute(self, stream: int, output: StandInTensor) -> bool:
        """Twice as much into the scratch memory, and from there twice as much again."""
        machine = self.module.machine
        shape = self._output_shape(output)
        if output.rule == "shape":
            values = np.array(self._shapes[self._source(output).name], np.int64)
            ctypes.memmove(self._addresses[output.name], values.tobytes(), values.nbytes)
            return True
        source = self._addresses[self._source(output).name]
        if output.name in self._allocators:
            if machine.capturing(stream):
                return self._error("Error Code 1: Cuda Runtime (operation not permitted)")
            first = machine.read(stream, source, ITEMSIZES[output.datatype])
            shape = (int(np.frombuffer(first, np.float32)[0]), *shape[1:])
            size = prod(shape) * ITEMSIZES[output.datatype]
            allocator = self._allocators[output.name]
            target = allocator.reallocate_output_async(output.name, 0, size, ALIGNMENT, stream)
            if not target:
                return self._error(f"Error Code 2: OutOfMemory (no memory for {output.name})")
            allocator.notify_shape(output.name, shape)
        else:
            target = self._addresses[output.name]
        count = prod(shape)
        if count:
            machine.double(stream, self._memory, source, count, output.datatype)
            machine.double(stream, target, self._memory, count, output.datatype)
        return True

    def _output_shape(self, output: StandInTensor) -> Shape:
        if output.rule == "values":
            host = next(tensor for tensor in self.engine.plan.inputs if tensor.on_host)
            return self._values(host) if host.name in self._addresses else output.shape
        source = self._source(output)
        whole = self._shapes.get(source.name, source.shape)
        decided = [
            whole[index] if size == -1 else size for index, size in enumerate(output.shape)
        ]
        if output.rule == "data":
            decided[0] = -1
        return tuple(decided)

    def _source(self, output: StandInTensor) -> StandInTensor:
        """The input that an output is made of."""
        inputs = [tensor for tensor in self.engine.plan.inputs if not tensor.on_host]
        index = self.engine.plan.outputs.index(output)
        return inputs[min(index, len(inputs) - 1)]

    def _values(self, tensor: StandInTensor) -> Shape:
        kind = np.dtype(np.int64 if tensor.datatype == "INT64" else np.int32)
        data = ctypes.string_at(self._addresses[tensor.name], prod(tensor.shape) * kind.itemsize)
        return tuple(np.frombuffer(data, kind).tolist())

    def _profile_shapes(self, tensor: StandInTensor) -> tuple[Shape, Shape, Shape]:
        found = self.engine.plan.profiles[self._profile].shapes.get(tensor.name)
        return found or (tensor.shape, tensor.shape, tensor.shape)

    def _failed(self, method: str) -> bool:
        """Whether the call was scripted to fail."""
        message = self.module.failure(method)
        if message is not None:
            self._error(message)
        return message is not None

    def _error(self, message: str) -> bool:
        self.engine.logger.log(self.module.ILogger.ERROR, message)
        return False


class RtxContextBase(ContextBase):
    """IExecutionContext of TensorRT-RTX."""

    def is_stream_capturable(self, stream: int) -> bool:
        """Whether its runs can be recorded from outside."""
        return self.engine.plan.capturable


def scratch_bytes(plan: StandInPlan, profile: int) -> int:
    """What a context on a profile needs: as much as its largest input, if the plan does not
    say."""
    if plan.scratch:
        return plan.scratch[profile]
    largest = 0
    for tensor in plan.inputs:
        shape = tensor.shape
        if tensor.name in plan.profiles[profile].shapes:
            shape = plan.profiles[profile].shapes[tensor.name][2]
        largest = max(largest, prod(shape) * ITEMSIZES[tensor.datatype])
    return largest
