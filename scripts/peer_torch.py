"""PyTorch's side of bench_peers.py: reads requests, one JSON object a line, and answers each with images a second.

A step is what a PyTorch user writes: uint8 batch to floats in [-1, 1], forward, backward, SGD with momentum, from
memory. A request names the network's layers, the batch size, the variant and how long to measure.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from typing import Any

import torch
from torch import nn

FEWEST_STEPS = 3


class Squash(nn.Module):
    """1.7159 tanh(2x/3)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply it."""
        return 1.7159 * torch.tanh(x * (2 / 3))


ACTIVATIONS = {"squash": Squash, "elu": lambda: nn.ELU(0.5), "relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}


def build(layers: list[dict[str, Any]]) -> nn.Sequential:
    """Return the network of a list of layers (kind, input and output shape, kernel size, stride, padding)."""
    modules: list[nn.Module] = []
    for layer in layers:
        before, after, kernel = layer["input_shape"], layer["output_shape"], tuple(layer["kernel_size"])
        kind = layer["kind"]
        if kind == "activation":
            modules.append(ACTIVATIONS[layer["activation"]]())
        elif kind == "dense" and before[:2] == [1, 1]:
            modules += [nn.Flatten(), nn.Linear(before[2], after[2])]
        elif kind in ("conv", "dense"):
            modules.append(nn.Conv2d(before[2], after[2], kernel, layer["stride"], layer["padding"]))
        else:
            pool = nn.AvgPool2d if kind == "average_pool" else nn.MaxPool2d
            modules.append(pool(kernel, layer["stride"]))
    return nn.Sequential(*modules, nn.Flatten())


class Run:
    """One network, batch size and variant, warm."""

    def __init__(self, layers: list[dict[str, Any]], batch: int, variant: str) -> None:
        torch.manual_seed(0)
        last = "channels-last" in variant
        self.format = torch.channels_last if last else torch.contiguous_format
        self.bf16 = "bf16" in variant
        self.batch = batch
        net = build(layers).to(memory_format=self.format)
        self.net = torch.compile(net) if "compiled" in variant else net
        self.images = torch.randint(0, 256, (batch, *layers[0]["input_shape"]), dtype=torch.uint8)
        self.labels = torch.randint(0, layers[-1]["output_shape"][2], (batch,))
        self.sgd = torch.optim.SGD(net.parameters(), lr=1e-6, momentum=0.95)
        for _ in range(2):
            self.step()

    def step(self) -> float:
        """One training step; returns the loss, as a loop that reports it would."""
        x = self.images.permute(0, 3, 1, 2).to(torch.float32, memory_format=self.format).mul_(2 / 255).sub_(1)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.bf16):
            loss = nn.functional.cross_entropy(self.net(x), self.labels, reduction="sum")
        self.sgd.zero_grad()
        loss.backward()
        self.sgd.step()
        return float(loss)

    def rate(self, seconds: float) -> float:
        """Images a second: median over the steps of ``seconds``."""
        times: list[float] = []
        end = time.perf_counter() + seconds
        while len(times) < FEWEST_STEPS or time.perf_counter() < end:
            start = time.perf_counter()
            self.step()
            times.append(time.perf_counter() - start)
        return self.batch / statistics.median(times)


def main() -> None:
    """Answer requests until stdin ends; a request without layers sets the number of threads and gets the version."""
    runs: dict[str, Run] = {}
    for line in sys.stdin:
        request = json.loads(line)
        if "threads" in request:
            torch.set_num_threads(request["threads"])
            print(json.dumps(torch.__version__), flush=True)
            continue
        seconds = request.pop("seconds")
        key = json.dumps(request)
        if key not in runs:
            runs[key] = Run(request["layers"], request["batch"], request["variant"])
        print(json.dumps(runs[key].rate(seconds)), flush=True)


if __name__ == "__main__":
    main()
