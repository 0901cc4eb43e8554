"""Networks alone: time of a small forward beside its goal, and at paper size the ways to run faster than plain eager.

``--device cuda`` measures the paper sizes on a GPU. The matrix-multiply peak is of the same run and precision.
"""

from __future__ import annotations

import copy
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from common import emit, interleaved, measure, options
from torch import Tensor, nn

from subgrid.base.memory import keep_freed_memory

#: What a small network may take: s for so many columns on so many threads, and MFLOP a column.
SECONDS, COLUMNS, THREADS, MEGAFLOP = 0.012, 2048, 2, 0.7
#: Networks whose training should be twice as fast as plain eager, and whose forward should reach so much of the peak.
CONVOLUTION_AND_ATTENTION = ("unet", "pao", "convnext", "squeezeformer")
FASTER, OF_PEAK = 2.0, 0.55
#: How the losses after the same steps may differ from those of plain eager.
SAME_LOSS = 0.01
#: A training step does the forward pass and twice as much for the two gradients.
PASSES = 3


def shape_of(variables: str, levels: int) -> Any:
    """Shape of a network of the standard recipe."""
    import numpy as np

    from subgrid.columns import variable_set
    from subgrid.emulator import EmulatorConfig
    from subgrid.emulator.emulator import network_shape
    from subgrid.physics.vertical import VerticalGrid

    found = variable_set(variables)
    grid = VerticalGrid.sigma(np.linspace(0.0, 1.0, levels + 1).tolist())
    return network_shape(found, grid, EmulatorConfig.from_dict(found.emulator))


class Bench:
    """The device, its clock and its peak."""

    def __init__(self, device: str, smoke: bool) -> None:
        self.device, self.smoke = device, smoke
        self.size = 128 if smoke else 8192 if device == "cuda" else 1024
        self.rounds = 1 if smoke else 3 if device == "cuda" else 2

    def finished(self, work: Callable[[], Any]) -> Callable[[], None]:
        """``work``, ended when the device has done it."""

        def done() -> None:
            work()
            if self.device == "cuda":
                torch.cuda.synchronize()

        return done

    def product(self, bf16: bool) -> Callable[[], None]:
        """Three matrix products: one alone may meet another process."""
        kind = torch.bfloat16 if bf16 else torch.float32
        left, right = (torch.randn(self.size, self.size, device=self.device).to(kind) for _ in range(2))
        return self.finished(lambda: [torch.matmul(left, right) for _ in range(3)])

    def peak(self, walls: list[float]) -> float:
        """Operations a second of the fastest three."""
        return 3 * 2.0 * self.size**3 / min(walls)

    def columns(self, shape: Any, count: int) -> tuple[Tensor, Tensor]:
        """Normalised columns."""
        torch.manual_seed(1)
        return tuple(torch.randn_like(part) for part in shape.zeros(count, device=self.device))  # type: ignore[return-value]

    def autocast(self, bf16: bool) -> Any:
        """Mixed precision, or none."""
        return torch.autocast(self.device, dtype=torch.bfloat16, enabled=bf16)


def small(bench: Bench, name: str, shape: Any) -> list[dict[str, Any]]:
    """Time and operations of a small network's forward."""
    from subgrid.networks import build
    from subgrid.networks.flops import count_flops

    network = build(name, shape).eval()
    flops = count_flops(network, shape)
    columns = bench.columns(shape, 64 if bench.smoke else COLUMNS)
    with torch.inference_mode():
        work, product = bench.finished(lambda: network(*columns)), bench.product(False)
        interleaved(2, work, product)
        walls, products = interleaved(3 if bench.smoke else 40, work, product)
    floor = flops * len(columns[0]) / bench.peak(products)
    wall = min(walls)
    return [
        measure(
            f"small {name}: forward of {len(columns[0]):,} columns on {torch.get_num_threads()} threads",
            1e3 * wall,
            "ms",
            1e3 * floor,
            "its products at the peak",
            at_most=1e3 * SECONDS,
            judge="value",
            median_ms=1e3 * statistics.median(walls),
            share_of_peak=floor / wall,
        ),
        measure(f"small {name}: products of a column", flops / 1e6, "MFLOP", at_most=MEGAFLOP, judge="value"),
    ]


class _Written(nn.Module):
    """A convolution over levels as it is usually written: one-dimensional, with levels adjacent in memory."""

    def __init__(self, convolution: nn.Conv2d, levels_last: bool) -> None:
        super().__init__()
        self.weight, self.bias = convolution.weight, convolution.bias
        self.groups, self.levels_last = convolution.groups, levels_last
        kernel = convolution.kernel_size[1]
        self.padding = ((kernel - 1) // 2, kernel - 1 - (kernel - 1) // 2)

    def forward(self, x: Tensor) -> Tensor:
        x = x.squeeze(2) if self.levels_last else x.transpose(1, 2)
        padded = nn.functional.pad(x.contiguous(), self.padding)
        y = nn.functional.conv1d(padded, self.weight.squeeze(2), self.bias, groups=self.groups)
        return y.unsqueeze(2) if self.levels_last else y.transpose(1, 2)


class _ByLevel(nn.Module):
    """The layers of each level one after the other."""

    def __init__(self, merged: Any) -> None:
        super().__init__()
        self.body, self.weight, self.bias = merged.body, merged.weight, merged.bias

    def forward(self, scalars: Tensor) -> Tensor:
        y, linear = self.body(scalars), nn.functional.linear
        return torch.stack([linear(y, w.T, b) for w, b in zip(self.weight, self.bias, strict=True)], dim=1)


def plain(network: nn.Module) -> nn.Module:
    """The same network, on the same weights, as it is usually written: what the ways are compared with."""
    from subgrid.networks.levels import LevelConv
    from subgrid.networks.pao import _ScalarsByLevel

    network = copy.deepcopy(network)
    for part in list(network.modules()):
        for name, child in part.named_children():
            if isinstance(child, LevelConv):
                setattr(part, name, _Written(child.conv, False))
            elif isinstance(child, nn.Conv2d) and not isinstance(part, LevelConv):
                setattr(part, name, _Written(child, True))
            elif isinstance(child, _ScalarsByLevel):
                setattr(part, name, _ByLevel(child))
    return network


def ways(bench: Bench, training: bool, compiled: bool) -> dict[str, tuple[bool, str]]:
    """Ways to run: name to (bf16, how)."""
    found = {"plain": (False, "plain"), "eager": (False, ""), "bf16": (True, "")}
    if not training:
        found["script"] = (False, "script")
    if compiled:
        found |= {"compile": (False, "compile"), "compile bf16": (True, "compile")}
    if compiled and bench.device == "cuda":
        found["graphs bf16"] = (True, "graphs")
    return found


def made(how: str, network: nn.Module) -> Any:
    """The network as it is run one way."""
    if how == "plain":
        return plain(network)
    if how == "script":
        return torch.jit.script(network)
    if how:
        return torch.compile(network, mode="reduce-overhead" if how == "graphs" else "default")
    return network


def forwards(bench: Bench, network: nn.Module, shape: Any, batch: int, compiled: bool) -> dict[str, Any]:
    """Seconds of a forward by way; None where a way does not work."""
    columns = bench.columns(shape, batch)
    network = network.eval()

    def work(name: str) -> Callable[[], None]:
        bf16, how = ways(bench, False, compiled)[name]
        run = made(how, network)

        def forward() -> None:
            with torch.inference_mode(), bench.autocast(bf16):
                run(*columns)

        return bench.finished(forward)

    return timed(bench, ways(bench, False, compiled), work)


def trainings(
    bench: Bench, network: nn.Module, shape: Any, batch: int, compiled: bool, losses: dict[str, float]
) -> dict[str, Any]:
    """Seconds of a training step by way, on the same columns from the same weights; ``losses`` take the last loss."""
    columns, truth = bench.columns(shape, batch), shape.zeros(batch, device=bench.device)
    truth = (truth[0].new_ones(batch, shape.levels, shape.profiles_out), truth[1].new_ones(batch, shape.scalars_out))

    def work(name: str) -> Callable[[], None]:
        bf16, how = ways(bench, True, compiled)[name]
        own = copy.deepcopy(network).train()
        run = made(how, own)
        trained = run if how == "plain" else own
        optimizer = torch.optim.AdamW(trained.parameters(), lr=1e-4, foreach=True)

        def step() -> None:
            optimizer.zero_grad(set_to_none=True)
            with bench.autocast(bf16):
                p, s = run(*columns)
            loss = (p.float() - truth[0]).square().mean() + (s.float() - truth[1]).square().mean()
            loss.backward()
            optimizer.step()
            losses[name] = float(loss.detach())

        return bench.finished(step)

    return timed(bench, ways(bench, True, compiled), work)


def timed(bench: Bench, names: Any, work: Callable[[str], Callable[[], None]]) -> dict[str, Any]:
    """Least seconds of each way, and of a product in either precision; all in turns."""
    works: dict[str, Callable[[], None]] = {}
    for name in names:
        try:
            works[name] = work(name)
            for _ in range(2 if "compile" in name or "graphs" in name else 1):
                works[name]()
        except Exception as error:  # what a build of torch cannot compile or script is no failure of the benchmark
            works.pop(name, None)
            print_away(f"{name}: {type(error).__name__}")
    products = [bench.product(False), bench.product(True)]
    *walls, plain, half = interleaved(bench.rounds, *works.values(), *products)
    for extra, one in zip(interleaved(4 * bench.rounds, *products), (plain, half), strict=True):
        one += extra  # so short that a busy machine may have met all of them
    found = {name: min(one) for name, one in zip(works, walls, strict=True)}
    return {"seconds": found, "peak": bench.peak(plain), "peak_bf16": bench.peak(half)}


def print_away(text: str) -> None:
    """A word on standard error, where the result is not."""
    print(text, file=sys.stderr, flush=True)


def figures(name: str, kind: str, batch: int, flops: int, found: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The fastest way beside plain eager."""
    seconds = found["seconds"]
    fastest = min(seconds, key=seconds.__getitem__)
    goal = FASTER if name in CONVOLUTION_AND_ATTENTION and kind == "training" else None
    done = flops * batch
    return measure(
        f"paper {name}: {kind}, {batch:,} a batch, {fastest}",
        batch / seconds[fastest],
        "columns/s",
        batch / seconds["plain"],
        "plain eager float32",
        at_least=goal,
        columns_per_second={way: float(f"{batch / wall:.4g}") for way, wall in seconds.items()},
        eager_share_of_peak=done / seconds["eager"] / found["peak"],
        share_of_peak=done / seconds[fastest] / found["peak_bf16" if "bf16" in fastest else "peak"],
        matmul_peak_gflop_s=found["peak"] / 1e9,
        matmul_peak_bf16_gflop_s=found["peak_bf16"] / 1e9,
        megaflop_per_column=flops / 1e6,
        **more,
    )


def paper(
    bench: Bench, name: str, shape: Any, size: str, batches: tuple[int, int], compiled: bool
) -> list[dict[str, Any]]:
    """Forward and training at the published size: columns a second by way."""
    from subgrid.networks import ProbabilisticNetwork, build
    from subgrid.networks.flops import count_flops

    torch.manual_seed(0)
    network = build(name, shape, size).to(bench.device)
    flops = count_flops(network, shape)
    forward = forwards(bench, network, shape, batches[0], compiled)
    share = flops * batches[0] / forward["seconds"]["eager"] / forward["peak"]
    found = [figures(name, "forward", batches[0], flops, forward)]
    if name in CONVOLUTION_AND_ATTENTION:
        found.append(
            measure(f"paper {name}: float32 forward, share of the peak", share, "1", at_least=OF_PEAK, judge="value")
        )
    if isinstance(network, ProbabilisticNetwork):  # these bring losses of their own
        return found
    losses: dict[str, float] = {}
    trained = trainings(bench, network, shape, batches[1], compiled, losses)
    apart = {way: abs(loss / losses["plain"] - 1.0) for way, loss in losses.items()}
    same = {way: f"{value:.2g}{'' if value <= SAME_LOSS else ' (too far)'}" for way, value in apart.items()}
    found.append(figures(name, "training", batches[1], PASSES * flops, trained, loss_apart_from_plain=same))
    return found


def chosen_names(given: str, smoke: bool) -> list[str]:
    """Architectures to measure."""
    from subgrid.networks import names

    return given.split(",") if given else ["mlp", "unet"] if smoke else names()


def main() -> None:
    """Small sizes at 8 levels, then paper sizes at 60."""
    chosen = options(
        __doc__,
        architectures={"default": "", "help": "a comma list (default: all)"},
        device={"default": "cuda" if torch.cuda.is_available() else "cpu", "help": "of the paper sizes"},
        only={"default": "", "choices": ("", "small", "paper"), "help": "one of the two parts"},
        compiled={"action": "store_true", "help": "torch.compile too: a minute or more for each network"},
        forward={"type": int, "default": 384, "help": "columns a batch, forward at paper size"},
        batch={"type": int, "default": 64, "help": "columns a batch, training at paper size"},
    )
    keep_freed_memory()  # as the command line does
    names = chosen_names(chosen.architectures, chosen.smoke)
    with emit("networks", chosen.smoke) as found:
        if chosen.only != "paper":
            torch.set_num_threads(THREADS)
            shape = shape_of("speedy", 8)
            for name in names:
                found += small(Bench("cpu", chosen.smoke), name, shape)
        if chosen.only != "small":
            bench = Bench(chosen.device, chosen.smoke)
            shape = shape_of("v2_rh_mc", 60)
            size, batches = ("small", (8, 4)) if chosen.smoke else ("paper", (chosen.forward, chosen.batch))
            for name in names:
                started = time.perf_counter()
                found += paper(bench, name, shape, size, batches, chosen.compiled)
                print_away(f"{name}: {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
