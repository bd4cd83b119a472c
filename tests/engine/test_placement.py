"""The words for devices and precisions: what each becomes on a machine, and what is refused."""

import pytest

from elbert.engine.placement import choose_device, choose_dtype
from elbert.errors import UsageError


@pytest.mark.parametrize("name", ["cpu", "cpu:0", "cpu:3"])
def test_every_way_to_say_cpu_computes_as_the_cpu_does(name: str) -> None:
    device = choose_device(name)
    assert device == "cpu"
    assert choose_dtype("auto", device) == "float32"
    with pytest.raises(UsageError, match="float16 needs a CUDA device"):
        choose_dtype("float16", device)


@pytest.mark.parametrize("name", ["", "tpu", "gpu", "cpu:x", "meta"])
def test_an_unknown_device_is_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(UsageError, match="unknown device .*allowed: auto, cpu, cuda, cuda:N"):
        choose_device(name)
