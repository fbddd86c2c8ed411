"""Where XLA's time on CPUs goes in the backward pass of a convolution with batch normalization and ReLU.

    python experiments/conv_backward.py [--no-torch]

A reproduction for XLA's maintainers, of nothing but jax (and PyTorch beside it, where it is installed): the first
stage of ResNet-20 for 32x32 images at batch 128, float32, 16 channels. It prints CPU times of the parts, the
least of several turns, and the HLO of the weight gradient; run it on one core (taskset -c 0) to leave threads out.

On one core of a Xeon with AVX-512 (jaxlib 0.10.2, PyTorch 2.14; the machine was shared, so only ratios count)
normalization, ReLU and their gradients are on par with PyTorch, the convolution and the gradient of its input take
1.3 to 1.5 times as long, and the gradient of its kernel 3.8 to 4.3 times: three times the forward pass, for as many
products. It becomes a convolution whose window is the whole image, over transposed copies of both inputs. The
transposes are a fifth to a quarter of it; the rest is that convolution.

Other forms of the kernel's gradient did not help (times of the one that JAX derives; 16, 32 and 64 channels): nine
products of shifted images 2 to 3.7, with transposed operands 1.8 to 2.3; one product of patches 2.8 to 3.4; three of
rows of patches 2.9 to 4.4; a scan over images, whose patches stay in a cache, 0.8 to 1.1 at 16 channels; the same
convolution by explicit transposes behind barriers 1 to 1.2.

Three layers with their gradients take 2.2 times as long as PyTorch's, more than the sum of the parts, as loops of
the normalization's gradient are fused into the transposes. With the gradient of the normalization in closed form,
barriers around each convolution and `OPTIONS` they take 0.8 to 0.9 times as long as without.
"""

import importlib.util
import sys
import time
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax import lax

SHAPE = (128, 32, 32, 16)
LAYERS = 3
EPSILON = 1e-5

#: Keeps the barriers until after fusion.
OPTIONS = {"xla_disable_hlo_passes": "cse_barrier_expander"}


def convolve(x, kernel):
    """A 3x3 convolution, NHWC."""
    return lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def convolve_swapped(x, slope):
    """The weight gradient as a convolution of batch and channels swapped, by transposes of their own."""
    return lax.conv_general_dilated(
        x, slope, (1, 1), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def normalize(x, scale):
    """Batch normalization and ReLU, differentiated as they are written."""
    mean = x.mean((0, 1, 2))
    var = ((x - mean) ** 2).mean((0, 1, 2))
    return jax.nn.relu((x - mean) * (lax.rsqrt(var + EPSILON) * scale))


@jax.custom_vjp
def normalize_closed(x, scale):
    """The same, with the gradient in closed form."""
    return normalize(x, scale)


def _forward(x, scale):
    mean = x.mean((0, 1, 2))
    factor = lax.rsqrt(((x - mean) ** 2).mean((0, 1, 2)) + EPSILON)
    return jax.nn.relu((x - mean) * (factor * scale)), (x, mean, factor, scale)


def _backward(saved, slope):
    x, mean, factor, scale = saved

    def pass_relu(x, slope):
        unit = (x - mean) * factor
        return unit, jnp.where(unit * scale > 0, slope, 0.0)

    unit, passed = pass_relu(x, slope)
    sums = passed.sum((0, 1, 2)), (passed * unit).sum((0, 1, 2))
    (of_bias, of_scale), x, slope = lax.optimization_barrier((sums, x, slope))
    unit, passed = pass_relu(x, slope)
    number = x.size // x.shape[-1]
    return scale * factor * (passed - of_bias / number - unit * (of_scale / number)), of_scale


normalize_closed.defvjp(_forward, _backward)


def stack(x, kernel, scale, target, *, norm=normalize, barrier=lambda array: array):
    """Layers of convolution, normalization and ReLU, reduced to a number."""
    for _ in range(LAYERS):
        x = barrier(norm(barrier(convolve(x, kernel)), scale))
    return jnp.sum(x * target)


def gradient(function: Callable) -> Callable:
    """The gradient of a function of one array along a slope of its result."""
    return lambda array, slope: jax.vjp(function, array)[1](slope)[0]


def norm_gradient(x, scale, slope, *, norm=normalize):
    """The gradients of the input and of the scale."""
    return jax.vjp(norm, x, scale)[1](slope)


def kernel_gradient(x, kernel, slope):
    """The weight gradient, as JAX derives it."""
    return gradient(partial(convolve, x))(kernel, slope)


def jax_parts(x, slope, kernel, scale):
    """The parts, each a function without arguments."""
    swapped = jnp.transpose(x, (3, 1, 2, 0)), jnp.transpose(slope, (1, 2, 0, 3))
    plain, closed = (
        jax.value_and_grad(function, argnums=(0, 1, 2))
        for function in (
            stack,
            partial(stack, norm=normalize_closed, barrier=lax.optimization_barrier),
        )
    )

    def of(function, *arguments, **options):
        compiled = jax.jit(function, **options)
        return lambda: jax.block_until_ready(compiled(*arguments))

    return {
        "convolution": of(convolve, x, kernel),
        "gradient of its input": of(gradient(lambda x: convolve(x, kernel)), x, slope),
        "gradient of its kernel": of(kernel_gradient, x, kernel, slope),
        "- its transposes": of(
            lambda x, slope: (x.transpose(3, 1, 2, 0), slope.transpose(1, 2, 0, 3)), x, slope
        ),
        "- its convolution": of(convolve_swapped, *swapped),
        "norm and ReLU": of(normalize, x, scale),
        "gradient of norm and ReLU": of(norm_gradient, x, scale, slope),
        "- in closed form": of(partial(norm_gradient, norm=normalize_closed), x, scale, slope),
        "layers with gradient": of(plain, x, kernel, scale, slope),
        "- closed form and barriers": of(closed, x, kernel, scale, slope, compiler_options=OPTIONS),
    }


def torch_parts(x, slope, kernel, scale):
    """Those of the parts that PyTorch has, by the same names, NCHW."""
    import torch
    from torch.nn import functional

    torch.set_num_threads(1)
    x, slope = (
        torch.tensor(np.asarray(each)).permute(0, 3, 1, 2).contiguous() for each in (x, slope)
    )
    kernel = torch.tensor(np.asarray(kernel)).permute(3, 2, 0, 1).contiguous().requires_grad_()
    scale = torch.tensor(np.asarray(scale)).requires_grad_()
    shift, leaf = torch.zeros_like(scale), x.clone().requires_grad_()

    def layer(x):
        return functional.relu(functional.batch_norm(x, None, None, scale, shift, training=True))

    def of_convolution(*wanted):
        return torch.ops.aten.convolution_backward(
            slope, x, kernel, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, [*wanted, False]
        )

    def layers():
        array = leaf
        for _ in range(LAYERS):
            array = layer(functional.conv2d(array, kernel, padding=1))
        (array * slope).sum().backward()

    return {
        "convolution": lambda: functional.conv2d(x, kernel, padding=1),
        "gradient of its input": lambda: of_convolution(True, False),
        "gradient of its kernel": lambda: of_convolution(False, True),
        "norm and ReLU": lambda: layer(x),
        "gradient of norm and ReLU": lambda: layer(leaf).backward(slope),
        "layers with gradient": layers,
    }


def least_times(calls: dict[str, Callable[[], object]], turns: int) -> dict[str, float]:
    """The least CPU time of each call in ms, over several turns of all of them."""
    seconds = {name: [] for name in calls}
    for _ in range(turns):
        for name, call in calls.items():
            call()
            start = time.process_time()
            call()
            seconds[name].append(time.process_time() - start)
    return {name: 1e3 * min(values) for name, values in seconds.items()}


def main(torch: bool = True, turns: int = 5) -> None:
    """Prints the times and the weight gradient's HLO.

    Args:
        torch: whether PyTorch is timed beside it, where it is installed.
        turns: turns of all parts.
    """
    rng = np.random.default_rng(0)
    x, slope, kernel = (
        jnp.asarray(rng.normal(size=shape), jnp.float32)
        for shape in (SHAPE, SHAPE, (3, 3, SHAPE[-1], SHAPE[-1]))
    )
    arrays = x, slope, kernel, jnp.ones(SHAPE[-1])
    calls = {("jax", name): call for name, call in jax_parts(*arrays).items()}
    if torch and importlib.util.find_spec("torch"):
        calls |= {("torch", name): call for name, call in torch_parts(*arrays).items()}
    found = least_times(calls, turns)
    print(f"{'CPU ms':28} {'jax':>8} {'PyTorch':>8} {'ratio':>6}")
    for (side, name), time_ in found.items():
        if side == "jax":
            other = found.get(("torch", name))
            peer = f" {other:8.1f} {time_ / other:6.2f}" if other else ""
            print(f"{name:28} {time_:8.1f}{peer}")
    text = jax.jit(kernel_gradient).lower(x, kernel, slope).compile().as_text()
    lines = text[text.index("ENTRY") :].splitlines()
    print("\n".join(["", *(line.split(", metadata")[0] for line in lines)]))


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
