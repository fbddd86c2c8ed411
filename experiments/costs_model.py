"""Estimates the seconds of a training from the bytes of `costs_traffic` and stated assumptions."""

import dataclasses
import math
from typing import Any

import costs_traffic as traffic

from jaxhash.ops.selection import INTERPOLATION_ROUNDS

#: Bytes of a sorted entry: its code, its mask and its position, for the gradient.
SORT_ENTRY_BYTES = 9
#: Bytes of a row of a bank beside its code: class id, and whether it is filled.
BANK_ROW_BYTES = 5
#: Number of passes of the matrix of pairs through memory, forward and backward.
PAIR_PASSES = 6


@dataclasses.dataclass(frozen=True)
class Machine:
    """A machine by its data sheet; `latency` and `achieved` are assumptions.

    Attributes:
        name: name of the machine.
        chips: number of devices.
        hosts: number of hosts that hold the devices.
        flops: peak of a chip in FLOP/s, dense bfloat16.
        memory: memory of a chip in bytes.
        memory_rate: memory bandwidth of a chip in bytes/s.
        link_rate: greatest rate at which a chip sends over the interconnect, in bytes/s.
        achieved: fraction of ``link_rate`` that a collective reaches.
        latency: time of a collective of no bytes, in seconds.
        vcpus: number of vCPUs of a host.
    """

    name: str
    chips: int
    hosts: int
    flops: float
    memory: float
    memory_rate: float
    link_rate: float
    achieved: float
    latency: float
    vcpus: int


#: A collective of a torus of 16 x 16 takes 8 hops along either axis, both ways, at 1 us a hop.
V5E = Machine("v5e-256", 256, 32, 197e12, 16e9, 819e9, 200e9, 0.8, 32e-6, 224)
H100 = Machine("8 x H100", 8, 1, 989e12, 80e9, 3.35e12, 450e9, 0.8, 20e-6, 208)


@dataclasses.dataclass(frozen=True)
class Training:
    """A training to estimate.

    Attributes:
        name: name of the data.
        backbone: name of the backbone.
        images: number of images in an epoch.
        epochs: number of epochs.
        batch: number of images of a step, over all devices.
        bits: length of a code.
        remat: whether the backward pass computes the blocks again, to save memory.
        share: assumed fraction of the peak that the backbone reaches.
    """

    name: str
    backbone: str
    images: int
    epochs: int
    batch: int
    bits: int
    remat: bool
    share: float

    @property
    def steps(self) -> int:
        """Number of steps of the training."""
        return self.epochs * math.ceil(self.images / self.batch)


def selection_traffic(bits: int, rounds: int) -> traffic.Traffic:
    """Returns the traffic of HSWD by selection in the given number of rounds; rounds after interpolation are ties."""
    later = rounds - INTERPOLATION_ROUNDS
    return traffic.hswd_by_selection(
        bits, min(rounds, INTERPOLATION_ROUNDS), ties=later if later > 0 else None
    )


def communication(moved: traffic.Traffic, machine: Machine) -> float:
    """Returns the seconds of the collectives, one after the other."""
    rate = machine.link_rate * machine.achieved
    return moved.sent(machine.chips) / rate + moved.rounds * machine.latency


def sort_seconds(batch: int, bits: int, machine: Machine) -> float:
    """Returns the seconds of a sort of the gathered batch, one pass through memory a level."""
    return 2 * SORT_ENTRY_BYTES * batch * bits * math.log2(batch) / machine.memory_rate


def pair_seconds(pairs: float, bits: int, products: int, machine: Machine, share: float) -> float:
    """Returns the seconds of one device's pairs: matrix products, or passes through memory.

    The longer of the two counts.

    Args:
        pairs: number of pairs of the device.
        bits: length of a code.
        products: number of matrix products: 3 in the batch, 2 if the columns are constant.
        machine: machine to estimate for.
        share: share of the peak that the products reach.
    """
    compute = products * 2 * pairs * bits / (machine.flops * share)
    return max(compute, PAIR_PASSES * traffic.WORD_BYTES * pairs / machine.memory_rate)


def parts(
    training: Training, machine: Machine, model: dict[str, Any], rounds: int
) -> dict[str, float]:
    """Returns the seconds of each part of a step on the devices; HSWD by both methods."""
    batch, bits = training.batch, training.bits
    macs = model["training_macs"]["remat" if training.remat else "plain"]
    flops = 2 * macs * batch / machine.chips
    pairs = traffic.pairs_in_batch(batch, bits)
    return {
        "backbone": flops / (machine.flops * training.share),
        "batch norm": communication(
            traffic.batch_norms(model["channels"], model["layers"]), machine
        ),
        "gradients": communication(traffic.gradients(model["parameters"]), machine),
        "HSWD, selection": communication(selection_traffic(bits, rounds), machine),
        "HSWD, gather": communication(traffic.hswd_by_gather(batch, bits), machine)
        + sort_seconds(batch, bits, machine),
        "pairs": communication(pairs, machine)
        + pair_seconds(batch * batch / machine.chips, bits, 3, machine, training.share),
    }


def estimate(
    training: Training,
    machine: Machine,
    model: dict[str, Any],
    *,
    rounds: int,
    decode_rate: float,
    jpeg_bytes: float,
    image_bytes: int,
    threads: int,
) -> dict[str, Any]:
    """Estimates one training on one machine.

    Parts of a step on the devices do not overlap, which is the worst case. The input is read
    meanwhile.

    Args:
        training: training to estimate.
        machine: machine to estimate for.
        model: sizes of the backbone.
        rounds: number of rounds of the search of HSWD by selection.
        decode_rate: images a second that a vCPU decodes and crops.
        jpeg_bytes: bytes of an image file.
        image_bytes: bytes of a decoded image.
        threads: number of threads that read the input in a process of the library.
    """
    seconds = parts(training, machine, model, rounds)
    device = sum(value for name, value in seconds.items() if name != "HSWD, gather")
    decode = training.batch / (machine.hosts * machine.vcpus * decode_rate)
    rate = training.batch / device
    step = max(device, decode)
    waits = dict(seconds, input=decode if decode > device else 0.0)
    del waits["HSWD, gather"]
    return {
        "training": training.name,
        "backbone": training.backbone,
        "batch": training.batch,
        "bits": training.bits,
        "machine": machine.name,
        "steps": training.steps,
        "images_per_device": training.batch / machine.chips,
        "seconds": seconds,
        "device_seconds": device,
        "input_seconds": decode,
        "bottleneck": max(waits, key=waits.get),
        "images_per_second": rate,
        "images_per_second_per_host": rate / machine.hosts,
        "vcpus_needed_per_host": rate / machine.hosts / decode_rate,
        "vcpus_per_host": machine.vcpus,
        "read_bytes_per_second_per_host": rate / machine.hosts * jpeg_bytes,
        "copied_bytes_per_second_per_host": rate / machine.hosts * image_bytes,
        "hours": training.steps * step / 3600,
        "chip_hours": training.steps * step / 3600 * machine.chips,
        "hours_of_todays_input": training.epochs
        * training.images
        / (machine.hosts * threads * decode_rate)
        / 3600,
        "sent_bytes": {
            "gradients": traffic.gradients(model["parameters"]).sent(machine.chips),
            "batch norm": traffic.batch_norms(model["channels"], model["layers"]).sent(
                machine.chips
            ),
            "HSWD, selection": selection_traffic(training.bits, rounds).sent(machine.chips),
            "HSWD, gather": traffic.hswd_by_gather(training.batch, training.bits).sent(
                machine.chips
            ),
            "pairs": traffic.pairs_in_batch(training.batch, training.bits).sent(machine.chips),
        },
    }


def crossings(bits: int, machine: Machine, rounds: int) -> dict[str, int]:
    """Returns the smallest batch, a power of 2, from which selection is cheaper than the gather."""
    selection = selection_traffic(bits, rounds)
    seconds = communication(selection, machine)

    def first(cheaper):
        return next(2**k for k in range(1, 40) if cheaper(2**k))

    def gather(batch):
        return traffic.hswd_by_gather(batch, bits)

    chips = machine.chips
    return {
        "bytes": first(lambda n: selection.sent(chips) < gather(n).sent(chips)),
        "communication": first(lambda n: seconds < communication(gather(n), machine)),
        "time": first(
            lambda n: seconds < communication(gather(n), machine) + sort_seconds(n, bits, machine)
        ),
    }


def bank(items: int, bits: int, batch: int, machine: Machine, share: float) -> dict[str, Any]:
    """Estimates memory and seconds of a loss against a bank, replicated or sharded over devices.

    Either way a device has batch x items / devices pairs.
    """
    row = traffic.WORD_BYTES * bits + BANK_ROW_BYTES
    pairs = batch * items / machine.chips
    return {
        "items": items,
        "bits": bits,
        "batch": batch,
        "machine": machine.name,
        "replicated_bytes": row * items,
        "spread_bytes": row * items / machine.chips,
        "pair_bytes": traffic.WORD_BYTES * pairs,
        "memory_bytes": machine.memory,
        "pair_seconds": pair_seconds(pairs, bits, 2, machine, share),
        "communication_seconds": {
            "replicated": communication(traffic.bank(batch, bits), machine),
            "spread": communication(traffic.sharded_bank(batch, bits), machine),
        },
    }
