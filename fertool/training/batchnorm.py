"""Batch statistics over all processes on the CPU, where torch's own SyncBatchNorm does not run."""

from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

Module = TypeVar("Module", bound=nn.Module)


class _SumOverProcesses(torch.autograd.Function):
    """Sum of a tensor over all processes; its gradient is summed likewise."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        grad = grad.clone()
        dist.all_reduce(grad)
        return grad


class SyncBatchNorm(_BatchNorm):
    """Batch normalisation of (N, C, ...) whose training statistics are those of the global batch.

    Processes may have different shares of it.
    """

    def _check_input_dim(self, x: Tensor) -> None:
        """Accept any number of axes behind the channels."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        axes = [d for d in range(x.ndim) if d != 1]
        each = (-1, *[1] * (x.ndim - 2))  # shape of a value per channel
        local = torch.cat([x.sum(axes), x.new_tensor([x.numel() / x.shape[1]])])
        total = _SumOverProcesses.apply(local)
        count = total[-1]
        centred = x - (total[:-1] / count).view(each)
        var = _SumOverProcesses.apply((centred * centred).sum(axes)) / count
        with torch.no_grad():
            buffers = (self.num_batches_tracked, self.running_mean, self.running_var)
            counted, mean, variance = (cast(Tensor, buffer) for buffer in buffers)
            momentum = cast(float, self.momentum)
            counted += 1
            mean.lerp_(total[:-1] / count, momentum)
            variance.lerp_(var * count / (count - 1), momentum)
        scale = self.weight * torch.rsqrt(var + self.eps)
        return centred * scale.view(each) + self.bias.view(each)


def synchronise(model: Module, device: torch.device) -> Module:
    """Replace every batch normalisation by one that uses the global batch; a single process keeps its own."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return model
    if device.type == "cuda":
        return cast(Module, nn.SyncBatchNorm.convert_sync_batchnorm(model))
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
                replacement = SyncBatchNorm(child.num_features, child.eps, child.momentum)
                replacement.load_state_dict(child.state_dict())
                setattr(parent, name, replacement)
    return model
