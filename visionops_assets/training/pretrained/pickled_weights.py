"""The tensors of a PyTorch file as safetensors: `python pickled_weights.py START.pth NEW.safetensors`, in a process of
its own, which knows nothing of the rest and whose end says whether it went well.

Unpickled by `weights_only`: tensors and plain values, no code of the file's.
"""

import sys
from typing import Any

# Under which names training scripts keep the tensors beside epochs and optimisers.
_INSIDE = ("state_dict", "model_state_dict", "model")


def main(source: str, target: str) -> None:
    """Convert a file. Whatever torch raises is the last line of what the process says."""
    import torch
    from safetensors.torch import save_file

    found: Any = torch.load(source, map_location="cpu", weights_only=True)
    for name in _INSIDE:
        if isinstance(found, dict) and isinstance(found.get(name), dict):
            found = found[name]
            break
    tensors = {
        name: tensor.detach().clone(memory_format=torch.contiguous_format)
        for name, tensor in (found.items() if isinstance(found, dict) else ())
        if isinstance(tensor, torch.Tensor)
    }
    if not tensors:
        raise SystemExit("it holds no tensors by name")
    save_file(tensors, target)


if __name__ == "__main__":
    main(*sys.argv[1:])
