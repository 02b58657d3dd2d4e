"""CUDA's errors as DeviceErrors: which of them end the process, and what the operator reads.

Errors come as numbers, which CUDA's driver and runtime share; so nothing here needs CUDA.
"""

from trtserve.errors import DeviceError

STICKY = frozenset({
    # "The process must be terminated and relaunched", say CUDA's own words on each of these.
    226,  # Contained
    700,  # IllegalAddress
    702,  # LaunchTimeout
    710,  # Assert
    714,  # HardwareStackError
    715,  # IllegalInstruction
    716,  # MisalignedAddress
    717,  # InvalidAddressSpace
    718,  # InvalidPc
    719,  # LaunchFailure
    721,  # TensorMemoryLeak
    810,  # MpsClientTerminated
    911,  # ExternalDevice
    # Its words on these do not say so, but no later call can be trusted after them.
    214,  # ECCUncorrectable
    220,  # NvlinkUncorrectable
    709,  # ContextIsDestroyed
    999,  # Unknown
})
"""After one of these, every later call of the process fails too, whatever it asks for."""

NO_DEVICE = 100
"""cudaErrorNoDevice: a driver, but nothing that it may use."""

OLDEST_DRIVER = 13000
"""CUDA 13.0, which driver 580 brought. The packages of the extra are made for CUDA 13."""

NOT_INSTALLED = (
    "the packages for CUDA are not installed ({cause}). "
    "Install them with: pip install 'trtserve[cuda]'"
)


def device_error(number: int, name: str, text: str, doing: str) -> DeviceError:
    """What a failed call raises. `text` is CUDA's own; `doing` says on which device, and what."""
    return DeviceError(f"{doing}: {text} ({name}, {number})", name=name, sticky=number in STICKY)


def unusable(number: int, name: str, driver: int) -> str:
    """Why CUDA can not be used here, and the cure; empty if it can.

    `number` and `name` are the error of counting the devices, `driver` is the newest CUDA that the
    driver supports, as CUDA writes it (13000 is 13.0; 0: there is no driver).
    """
    if driver == 0:
        return (
            "there is no NVIDIA driver. Install driver 580 or newer; in a container, start it "
            "with access to the GPUs (docker run --gpus all)"
        )
    if driver < OLDEST_DRIVER:
        return (
            f"the NVIDIA driver supports CUDA {version(driver)} at most, and trtserve needs "
            f"{version(OLDEST_DRIVER)}. Update the driver to 580 or newer"
        )
    if number == NO_DEVICE:
        return "no CUDA device is visible. Check nvidia-smi and CUDA_VISIBLE_DEVICES"
    if number:
        return f"CUDA does not start ({name}, {number}). Check that nvidia-smi works here"
    return ""


def version(number: int) -> str:
    """CUDA's version numbers as people write them: 13000 is 13.0, 12080 is 12.8."""
    return f"{number // 1000}.{number % 1000 // 10}"
