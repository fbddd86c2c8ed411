"""Seconds of a training on paper, from the bytes of `costs_traffic` and stated assumptions."""

import dataclasses
import math
from typing import Any

import costs_traffic as traffic

from jaxhash.ops.selection import INTERPOLATION_ROUNDS

#: Bytes of an entry that is sorted: its code, its mask and its place, for the gradient.
SORTED = 9
#: Bytes of a row of a bank besides its code: class id and whether it was seen.
BANK_ROW = 5
#: Times that the matrix of pairs is written or read from memory, forward and backward.
PAIR_PASSES = 6


@dataclasses.dataclass(frozen=True)
class Machine:
    """A machine, by its data sheet, but for `latency` and `achieved`, which are assumed.

    Attributes:
        name: of the machine.
        chips: devices of it.
        hosts: machines that hold the chips.
        flops: peak of a chip in bfloat16, dense.
        memory: bytes of a chip's memory.
        memory_rate: bytes/s of it.
        link_rate: bytes/s that a chip sends over the interconnect at most.
        achieved: share of that which a collective reaches.
        latency: seconds of a collective of no bytes.
        vcpus: of a host.
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


#: A collective of a torus of 16 x 16 goes 8 hops along either axis, there and back, at 1 us a hop.
V5E = Machine("v5e-256", 256, 32, 197e12, 16e9, 819e9, 200e9, 0.8, 32e-6, 224)
H100 = Machine("8 x H100", 8, 1, 989e12, 80e9, 3.35e12, 450e9, 0.8, 20e-6, 208)


@dataclasses.dataclass(frozen=True)
class Training:
    """A training to be reckoned.

    Attributes:
        name: of the data.
        backbone: name of the backbone.
        images: in an epoch.
        epochs: of the training.
        batch: images of a step, on all devices.
        bits: length of a code.
        remat: whether the backward pass computes the blocks again, to spare memory.
        share: share of the peak that the backbone reaches; assumed.
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
        """Steps of the training."""
        return self.epochs * math.ceil(self.images / self.batch)


def selected(bits: int, rounds: int) -> traffic.Traffic:
    """HSWD by selection in so many rounds, of which those past interpolation follow a drawing in."""
    later = rounds - INTERPOLATION_ROUNDS
    return traffic.by_selection(
        bits, min(rounds, INTERPOLATION_ROUNDS), ties=later if later > 0 else None
    )


def communication(moved: traffic.Traffic, machine: Machine) -> float:
    """Seconds that the collectives take, one after the other."""
    rate = machine.link_rate * machine.achieved
    return moved.sent(machine.chips) / rate + moved.rounds * machine.latency


def sort_seconds(batch: int, bits: int, machine: Machine) -> float:
    """Of a sort of the gathered batch on each device, if each level is one pass through memory."""
    return 2 * SORTED * batch * bits * math.log2(batch) / machine.memory_rate


def pair_seconds(pairs: float, bits: int, products: int, machine: Machine, share: float) -> float:
    """Of one device's pairs: so many matrix products, or the passes over the matrix if they last.

    Args:
        pairs: of the device.
        bits: length of a code.
        products: matrix products: 3 in the batch, 2 where the columns are constant.
        machine: the machine.
        share: share of the peak that the products reach.
    """
    compute = products * 2 * pairs * bits / (machine.flops * share)
    return max(compute, PAIR_PASSES * traffic.WORD * pairs / machine.memory_rate)


def parts(
    training: Training, machine: Machine, model: dict[str, Any], rounds: int
) -> dict[str, float]:
    """Seconds of each part of a step on the devices; those of HSWD by either method."""
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
        "HSWD, selection": communication(selected(bits, rounds), machine),
        "HSWD, gather": communication(traffic.by_gather(batch, bits), machine)
        + sort_seconds(batch, bits, machine),
        "pairs": communication(pairs, machine)
        + pair_seconds(batch * batch / machine.chips, bits, 3, machine, training.share),
    }


def reckon(
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
    """One training on one machine.

    Nothing on the devices overlaps, which is the worst case; the input is read meanwhile.

    Args:
        training: the training.
        machine: the machine.
        model: sizes of the backbone.
        rounds: of the search of HSWD by selection.
        decode_rate: images that a vCPU decodes and crops a second.
        jpeg_bytes: of an image in a file.
        image_bytes: of a decoded one.
        threads: that read the input in a process of the library today.
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
            "HSWD, selection": selected(training.bits, rounds).sent(machine.chips),
            "HSWD, gather": traffic.by_gather(training.batch, training.bits).sent(machine.chips),
            "pairs": traffic.pairs_in_batch(training.batch, training.bits).sent(machine.chips),
        },
    }


def crossings(bits: int, machine: Machine, rounds: int) -> dict[str, int]:
    """The smallest batch, in powers of 2, from which selection is cheaper than the gather."""
    selection = selected(bits, rounds)
    seconds = communication(selection, machine)

    def first(cheaper):
        return next(2**k for k in range(1, 40) if cheaper(2**k))

    def gather(batch):
        return traffic.by_gather(batch, bits)

    chips = machine.chips
    return {
        "bytes": first(lambda n: selection.sent(chips) < gather(n).sent(chips)),
        "communication": first(lambda n: seconds < communication(gather(n), machine)),
        "time": first(
            lambda n: seconds < communication(gather(n), machine) + sort_seconds(n, bits, machine)
        ),
    }


def bank(items: int, bits: int, batch: int, machine: Machine, share: float) -> dict[str, Any]:
    """Memory and seconds of a loss against a bank, whole on each device or spread over them.

    Either way a device has batch x items / devices pairs.
    """
    row = traffic.WORD * bits + BANK_ROW
    pairs = batch * items / machine.chips
    return {
        "items": items,
        "bits": bits,
        "batch": batch,
        "machine": machine.name,
        "replicated_bytes": row * items,
        "spread_bytes": row * items / machine.chips,
        "pair_bytes": traffic.WORD * pairs,
        "memory_bytes": machine.memory,
        "pair_seconds": pair_seconds(pairs, bits, 2, machine, share),
        "communication_seconds": {
            "replicated": communication(traffic.bank(batch, bits), machine),
            "spread": communication(traffic.spread_bank(batch, bits), machine),
        },
    }
