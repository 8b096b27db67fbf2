"""oneDNN's linear layers give PyTorch's numbers, and their gradients."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from torch_radar.checkpoints import Checkpoint
from torch_radar.linear import OneDNNLinear, use_onednn
from torch_radar.loading import LazyModel
from torch_radar.templates import QUERY_DOCUMENT

pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available() or "AVX512" not in torch.backends.cpu.get_cpu_capability(),
    reason="float32 products by oneDNN are for CPUs with AVX-512",
)


@settings(max_examples=40, deadline=None)
@given(
    shape=st.lists(st.integers(1, 9), min_size=0, max_size=3),
    sizes=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    bias=st.booleans(),
    trained=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_products_and_gradients_are_those_of_a_plain_layer(
    shape: list[int], sizes: tuple[int, int], bias: bool, trained: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    plain = nn.Linear(*sizes, bias=bias).requires_grad_(trained)
    ours = nn.Sequential(nn.Linear(*sizes, bias=bias)).requires_grad_(trained)
    ours[0].load_state_dict(plain.state_dict())
    use_onednn(ours)
    assert type(ours[0]) is OneDNNLinear
    x = torch.randn(*shape, sizes[0])
    inputs = [x.clone().requires_grad_(), x.clone().requires_grad_()]
    outputs = [plain(inputs[0]), ours(inputs[1])]
    torch.testing.assert_close(outputs[1], outputs[0], atol=1e-5, rtol=1e-5)
    with torch.inference_mode():
        torch.testing.assert_close(ours(x), outputs[0].detach(), atol=1e-5, rtol=1e-5)
    for output in outputs:
        output.square().sum().backward()
    torch.testing.assert_close(inputs[1].grad, inputs[0].grad, atol=1e-4, rtol=1e-4)
    for mine, theirs in zip(ours.parameters(), plain.parameters(), strict=True):
        assert (mine.grad is None) == (theirs.grad is None) == (not trained)
        if trained:
            torch.testing.assert_close(mine.grad, theirs.grad, atol=1e-4, rtol=1e-4)


def test_other_precisions_and_empty_batches_take_the_plain_way() -> None:
    layer = nn.Sequential(nn.Linear(8, 3))
    use_onednn(layer)
    assert layer(torch.empty(0, 8)).shape == (0, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(torch.randn(2, 8)).dtype == torch.bfloat16
    assert layer.double()(torch.randn(2, 8).double()).dtype == torch.float64


def test_a_loaded_model_uses_them_and_saves_as_before(tiny_qwen2: Path, tmp_path: Path) -> None:
    checkpoint = Checkpoint(str(tiny_qwen2), "retriever", QUERY_DOCUMENT, "last_token", 512)
    model = LazyModel(checkpoint, device="cpu", dtype="float32").loaded.model
    assert {type(m) for m in model.modules() if isinstance(m, nn.Linear)} == {OneDNNLinear}
    model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").stat().st_size == (tiny_qwen2 / "model.safetensors").stat().st_size
