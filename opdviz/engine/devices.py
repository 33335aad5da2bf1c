"""Where the heavy steps of a comparison run: what `--device` asks for, and the GPUs at hand."""

from pathlib import Path

from opdviz.errors import RequestError

# What NVIDIA's driver says of each GPU: known without torch, which takes seconds to load.
DRIVER = Path("/proc/driver/nvidia/gpus")
CPU, GPU, AUTO = "cpu", "cuda", "auto"


def gpus() -> list[str]:
    """The names of the GPUs that this machine's driver lists."""
    names = []
    for information in sorted(DRIVER.glob("*/information")):
        lines = information.read_text(errors="replace").splitlines()
        models = [line.partition(":")[2].strip() for line in lines if line.startswith("Model:")]
        names.append(models[0] if models else "unnamed GPU")
    return names


def chosen(device: str) -> tuple[str, str]:
    """The device that is meant, and why where it was left to the machine.

    Raises
        RequestError: there is no such device.
    """
    if device == CPU:
        return CPU, ""
    if device == AUTO and not gpus():
        return CPU, "cpu: this machine lists no GPU"
    from opdviz.linalg import accelerator  # torch

    if device != AUTO:
        accelerator.device(device)
        return device, ""
    try:
        accelerator.device(GPU)
    except RequestError as error:
        return CPU, f"cpu: {error}"
    return GPU, f"{GPU} ({', '.join(gpus())})"
