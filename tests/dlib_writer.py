"""Writer of networks in dlib's serialisation: small files of the format that `fertool.pretrained.dlib_dat` reads."""

import math

import numpy as np

_EMPTY = b"\x01\x02" + b"\x01\x00" * 4  # a tensor without values


def integer(value: int) -> bytes:
    size = max(1, -(-abs(value).bit_length() // 8))
    return bytes([size | (0x80 if value < 0 else 0)]) + abs(value).to_bytes(size, "little")


def integers(*values: int) -> bytes:
    return b"".join(map(integer, values))


def reals(*values: float) -> bytes:
    parts = [math.frexp(v) for v in values]
    return b"".join(integers(int(m * 2**53), e - 53) for m, e in parts)


def text(value: str) -> bytes:
    return integer(len(value)) + value.encode()


def tensor(values: np.ndarray) -> bytes:
    shape = [*values.shape, *[1] * (4 - values.ndim)]
    return integers(2, *shape) + values.astype("<f4").tobytes()


def con(weight: np.ndarray, bias: np.ndarray, stride: int = 1, padding: int = 0) -> bytes:
    out, _, h, w = weight.shape
    return (
        text("con_4")
        + tensor(np.concatenate([weight.ravel(), bias]))
        + integers(out, h, w, stride, stride, padding, padding)
        + integers(1, *weight.shape)
        + integers(1, 1, out, 1, 1)
        + reals(1, 1, 1, 0)
    )


def affine(weight: np.ndarray, bias: np.ndarray) -> bytes:
    part = integers(1, 1, len(weight), 1, 1)
    return text("affine_") + tensor(np.concatenate([weight, bias])) + part + part + integer(0)


def bn_con(weight: np.ndarray, bias: np.ndarray, mean: np.ndarray, variance: np.ndarray, eps: float) -> bytes:
    part = integers(1, 1, len(weight), 1, 1)
    statistics = b"".join(tensor(v[None]) for v in (mean, variance, mean, variance))
    values = tensor(np.concatenate([weight, bias]))
    return text("bn_con2") + values + part + part + statistics + integers(100, 100) + reals(1, 0, 1, 1, eps)


def fc(weight: np.ndarray) -> bytes:
    inputs, outputs = weight.shape
    parts = integers(1, inputs, outputs, 1, 1) + integers(1, 0, 0, 0, 0)
    return text("fc_2") + integers(outputs, inputs) + tensor(weight) + parts + integer(1) + reals(1, 1, 1, 0)


def relu() -> bytes:
    return text("relu_")


def pool(kind: str, size: int, stride: int) -> bytes:
    return text(f"{kind}_pool_2") + integers(size, size, stride, stride, 0, 0)


def network(loss: bytes, source: bytes, layers: list[bytes | None]) -> bytes:
    """A whole file; None among the layers is a tag."""
    versions = [3, *(1 if layer is None else 2 for layer in layers[1:])]
    data = integer(1) + loss + integers(*reversed(versions)) + source
    for i, layer in enumerate(layers):
        if layer is not None:
            data += layer + b"110" + _EMPTY * 3 + (integer(1) if i == 0 else b"")
    return data


def metric_loss() -> bytes:
    return text("loss_metric_2") + reals(0.04, 0.6)


def mmod_loss(window: int, overlap: float) -> bytes:
    return text("loss_mmod_") + integers(1, window, window) + reals(1, 1, 0.5, overlap, 1, 0.5, 1)


def rgb(mean: tuple[float, float, float], size: int | None = None) -> bytes:
    if size is None:
        return text("input_rgb_image_pyramid") + reals(*mean)
    return text("input_rgb_image_sized") + reals(*mean) + integers(size, size)
