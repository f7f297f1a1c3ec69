"""Which device the endpoint's model takes, and that it answers from there."""

import numpy as np
import pytest
from pretend_cuda import cuda_device

from momo_platform.serving.config import ServingConfig
from momo_platform.stages import UserError
from pipelines.serve import ServeOptions, config_of
from pipelines.serving import MoMoReader, ServedMoMo


class Watched(ServedMoMo):
    """Notes how many texts each batch has."""

    def __init__(self, *arguments):
        self.sizes = []
        super().__init__(*arguments)

    def texts(self, texts):
        self.sizes.append(len(texts))
        return super().texts(texts)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_model_is_warm_on_its_gpu_and_answers_as_on_the_cpu(folders, precision):
    counted = MoMoReader(folders["one"]).counted(["a red apple", "two blue cats"])
    tokens = [ids for ids, _ in counted]

    def answers(encoder):
        picture = np.arange(3 * 64 * 64, dtype=np.uint8).reshape(3, 64, 64)
        return (
            encoder.texts(tokens),
            encoder.pictures([picture, picture[:, ::-1].copy()]),
            encoder.attention(picture, None),
            encoder.attention(picture, tokens[0]),
        )

    on_cpu = Watched(folders["one"], 1, "cpu", "fp32")
    assert on_cpu.sizes == []
    assert on_cpu.device_bytes == 0
    expected = answers(on_cpu)
    with cuda_device():
        encoder = Watched(folders["one"], 1, "cuda", precision)
        assert encoder.sizes == [1, 64]
        assert encoder.device_bytes >= 0
        found = answers(encoder)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == np.float32
        np.testing.assert_allclose(one, other, atol=1e-5 if precision == "fp32" else 2e-2)


def test_a_replica_uses_the_gpu_that_was_reserved_for_it_and_no_other():
    with_gpu, without = ServingConfig("m", gpus=0.5), ServingConfig("m")
    assert without.device_for([]) == "cpu"
    assert with_gpu.device_for(["0"]) == "cuda"
    assert without.device_for(["0"]) == "cuda"  # by a config file of Serve's
    with pytest.raises(RuntimeError, match=r"gpus=0\.5, but Serve reserved none.*num_gpus"):
        with_gpu.device_for([])


def test_an_unknown_precision_is_refused(folders):
    with pytest.raises(UserError, match=r"precision='fp8': give one of \['fp32', 'tf32', 'bf16'"):
        config_of(ServeOptions(model=folders["one"], precision="fp8"))  # type: ignore[arg-type]
