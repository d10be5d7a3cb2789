"""Every instruction set of this CPU, one after the other: an untested fast path counts as absent."""

from __future__ import annotations

import pytest

from lenet_mp import engine


@pytest.fixture(params=engine.available())
def isa(request, monkeypatch):
    monkeypatch.setenv("LENET_MP_ISA", request.param)
    return request.param
