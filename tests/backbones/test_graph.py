import json
import math
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from arcinvert.backbones import build_backbone
from arcinvert.backbones.graph import Graph, graph
from arcinvert.backbones.operations import FUNCTIONS, LAYERS
from arcinvert.backbones.sizes import most_elements
from arcinvert.errors import InputError


def step(op: str, inputs: list[str], output: str, **settings: Any) -> dict[str, Any]:
    return {"op": op, "inputs": inputs, "output": output} | ({"settings": settings} if settings else {})


def run(op: str, *values: Tensor, **settings: Any) -> Tensor:
    """One function, with what JSON leaves of its settings."""
    return FUNCTIONS[op](*values, **json.loads(json.dumps(settings)))


def pictures(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0)) * 4 - 2


X = pictures(2, 3, 4, 6)
Y = pictures(2, 3, 4, 6).flip(0)
ROW = X[0, 0, 0].double()

# op -> settings, inputs, and the result at [0, 0, 0] by plain Python from ROW (and the row of Y).
SCALARS: dict[str, tuple[dict[str, Any], Any]] = {
    "relu": ({}, lambda x: max(x, 0.0)),
    "leaky_relu": ({"negative_slope": 0.3}, lambda x: x if x > 0 else 0.3 * x),
    "elu": ({"alpha": 0.7}, lambda x: x if x > 0 else 0.7 * (math.exp(x) - 1)),
    "sigmoid": ({}, lambda x: 1 / (1 + math.exp(-x))),
    "tanh": ({}, math.tanh),
    "hard_sigmoid": ({"alpha": 0.4, "beta": 0.5}, lambda x: min(1.0, max(0.0, 0.4 * x + 0.5))),
    "hard_swish": ({}, lambda x: x * min(1.0, max(0.0, x / 6 + 0.5))),
    "softplus": ({}, lambda x: math.log(1 + math.exp(x))),
    "sin": ({}, math.sin),
    "cos": ({}, math.cos),
    "gelu": ({}, lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2),
    "erf": ({}, math.erf),
    "exp": ({}, math.exp),
    "abs": ({}, abs),
    "neg": ({}, lambda x: -x),
    "reciprocal": ({}, lambda x: 1 / x),
    "clip": ({"low": -0.5, "high": None}, lambda x: max(x, -0.5)),
}
PAIRS: dict[str, Any] = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / y,
    "max": max,
    "min": min,
}


class TestFunctions:
    @pytest.mark.parametrize("op", SCALARS)
    def test_of_one_number(self, op: str) -> None:
        settings, expected = SCALARS[op]
        found = run(op, X, **settings)
        assert found.shape == X.shape
        assert found[0, 0, 0].tolist() == pytest.approx([expected(x) for x in ROW.tolist()], abs=1e-5, rel=1e-4)

    @pytest.mark.parametrize("op", PAIRS)
    def test_of_two_numbers(self, op: str) -> None:
        expected = [PAIRS[op](x, y) for x, y in zip(ROW.tolist(), Y[0, 0, 0].tolist(), strict=True)]
        assert run(op, X, Y)[0, 0, 0].tolist() == pytest.approx(expected, rel=1e-5)
        assert run(op, X, Y[:1, :, :1, :1]).shape == X.shape

    def test_of_positive_numbers(self) -> None:
        positive = X.abs() + 0.1
        for op, expected in {"log": math.log, "sqrt": math.sqrt}.items():
            wanted = [expected(x) for x in positive[0, 0, 0].tolist()]
            assert run(op, positive)[0, 0, 0].tolist() == pytest.approx(wanted, abs=1e-6)
        assert run("pow", positive, torch.tensor(3.0))[0, 0, 0, 0].item() == pytest.approx(
            positive[0, 0, 0, 0].item() ** 3
        )

    def test_reductions(self) -> None:
        rows = X[0, 1].tolist()
        flat = [x for row in rows for x in row]
        assert run("mean", X, axes=[2, 3], keepdims=True).shape == (2, 3, 1, 1)
        assert run("mean", X, axes=[2, 3], keepdims=False)[0, 1].item() == pytest.approx(sum(flat) / 24, abs=1e-6)
        assert run("sum", X, axes=[-1], keepdims=False)[0, 1].tolist() == pytest.approx(
            [sum(r) for r in rows], abs=1e-5
        )
        assert run("reduce_max", X, axes=[2, 3], keepdims=False)[0, 1].item() == max(flat)
        length = math.sqrt(sum(x * x for x in flat))
        assert run("norm", X, axes=[2, 3], keepdims=False)[0, 1].item() == pytest.approx(length)

    def test_shapes(self) -> None:
        assert torch.equal(run("reshape", X, shape=[0, -1, 12]), X.reshape(2, 6, 12))
        assert torch.equal(run("flatten", X, axis=1), X.reshape(2, 72))
        assert torch.equal(run("flatten", X, axis=2), X.reshape(6, 24))
        assert torch.equal(run("flatten", X, axis=-1), X.reshape(24, 6))
        assert torch.equal(run("flatten", X, axis=0), X.reshape(1, 144))
        assert torch.equal(run("transpose", X, perm=[0, 2, 3, 1]), X.movedim(1, 3))
        assert run("squeeze", X[:, :1, :, :1], axes=[1, -1]).shape == (2, 4)
        assert run("unsqueeze", X, axes=[-1, 0]).shape == (1, 2, 3, 4, 6, 1)
        assert torch.equal(run("concat", X, Y, axis=1)[:, 3:], Y)

    def test_slices_count_as_in_onnx(self) -> None:
        assert torch.equal(run("slice", X, starts=[1, -3], ends=[1 << 62, -1], axes=[2, -1]), X[:, :, 1:, -3:-1])
        assert run("slice", X, starts=[5], ends=[2], axes=[3]).shape == (2, 3, 4, 0)
        assert torch.equal(run("slice", X, starts=[-99], ends=[99], axes=[1]), X)

    def test_padding(self) -> None:
        found = run("pad", X, before=[0, 1, 0, 2], after=[0, 0, 3, 0], mode="constant", value=7.0)
        assert found.shape == (2, 4, 7, 8)
        assert torch.equal(found[:, 1:, :4, 2:], X)
        assert found.eq(7).sum() == found.numel() - X.numel()
        mirrored = run("pad", X, before=[0, 0, 1, 0], after=[0, 0, 0, 2], mode="reflect", value=0.0)
        assert torch.equal(mirrored[:, :, 0, :6], X[:, :, 1])
        assert torch.equal(mirrored[:, :, 1:, 7], X[:, :, :, 3])
        repeated = run("pad", X, before=[0, 0, 1, 0], after=[0, 0, 0, 0], mode="replicate", value=0.0)
        assert torch.equal(repeated[:, :, 0], X[:, :, 0])

    def test_windows(self) -> None:
        windows = {"kernel_size": [2, 3], "stride": [2, 3]}
        assert run("max_pool", X, **windows)[1, 2, 1, 1] == X[1, 2, 2:, 3:].max()
        assert run("average_pool", X, **windows)[1, 2, 1, 1].item() == pytest.approx(X[1, 2, 2:, 3:].mean().item())

    def test_the_rest(self) -> None:
        assert torch.allclose(run("softmax", X, dim=1).sum(1), torch.ones(2, 4, 6))
        assert torch.allclose(run("matmul", X, Y.mT)[0, 0, 1, 2], (X[0, 0, 1] * Y[0, 0, 2]).sum())
        normed = run("layer_norm", X, torch.full((6,), 2.0), torch.ones(6), eps=1e-9)
        assert torch.allclose(normed.mean(-1), torch.ones(2, 3, 4), atol=1e-5)
        assert torch.allclose(normed.var(-1, correction=0), torch.full((2, 3, 4), 4.0), rtol=1e-3)

    def test_repeat_expand_take_and_where(self) -> None:
        x = torch.arange(6.0).reshape(1, 2, 3)
        assert torch.equal(FUNCTIONS["repeat"](x, torch.zeros(4, 3, 8, 8), axis=0), torch.cat([x] * 4))
        assert torch.equal(FUNCTIONS["expand"](x, shape=[5, -1, -1]), torch.cat([x] * 5))
        assert torch.equal(FUNCTIONS["take"](x, indices=[2, -3], axis=2), torch.stack([x[..., 2], x[..., 0]], 2))
        assert FUNCTIONS["where"](x > 2, x, -x).tolist() == [[[0.0, -1.0, -2.0], [3.0, 4.0, 5.0]]]

    def test_quantize(self) -> None:
        x = torch.tensor([-9.0, 0.24, 0.26, 1.0, 99.0], requires_grad=True)
        found = FUNCTIONS["quantize"](x, torch.tensor(0.5), torch.tensor(3.0), low=0, high=15)
        assert found.tolist() == [0, 3, 4, 5, 15]
        assert torch.autograd.grad(found.sum(), x)[0].tolist() == [0, 2, 2, 2, 0]

    def test_dynamic_scale_and_zero(self) -> None:
        x = torch.tensor([[[-1.0, 4.1]], [[0.5, 5.1]], [[-3.0, -5.1]], [[0.0, 0.0]]])  # 0 counts as one of the values
        scale = FUNCTIONS["dynamic_scale"](x, rows=1)
        torch.testing.assert_close(scale.flatten(), torch.tensor([0.02, 0.02, 0.02, 1.0]))
        assert FUNCTIONS["dynamic_zero"](x, scale, rows=1).flatten().tolist() == [50, 0, 255, 0]
        pairs = FUNCTIONS["dynamic_scale"](x, rows=2)  # two rows are an image
        torch.testing.assert_close(pairs.flatten(), torch.tensor([6.1, 6.1, 5.1, 5.1]) / 255)

    def test_none_is_left_untested(self) -> None:
        elsewhere = {"dynamic_scale", "dynamic_zero", "repeat", "expand", "take", "where", "quantize"}  # above
        elsewhere |= {"resize", "instance_norm", "group_norm"}  # against onnxruntime, in test_onnx_file.py
        rest = {"log", "sqrt", "pow", "mean", "sum", "reduce_max", "norm", "reshape", "flatten", "transpose", "squeeze"}
        rest |= {"unsqueeze", "concat", "slice", "pad", "max_pool", "average_pool", "softmax", "matmul", "layer_norm"}
        assert {*SCALARS, *PAIRS, *rest, *elsewhere} == set(FUNCTIONS)


LAYER_SETTINGS: dict[str, tuple[dict[str, Any], tuple[int, ...], type[nn.Module]]] = {
    "conv": ({"in_channels": 3, "out_channels": 5, "kernel_size": [3, 1], "padding": [1, 0]}, (2, 5, 4, 6), nn.Conv2d),
    "batch_norm": ({"num_features": 3, "eps": 1e-3}, (2, 3, 4, 6), nn.BatchNorm2d),
    "prelu": ({"num_parameters": 3}, (2, 3, 4, 6), nn.PReLU),
    "linear": ({"in_features": 6, "out_features": 5, "bias": False}, (2, 3, 4, 5), nn.Linear),
    "folded_norm": ({}, (2, 3, 4, 6), LAYERS["folded_norm"]),  # type: ignore[dict-item]
}


class TestLayers:
    @pytest.mark.parametrize("op", LAYER_SETTINGS)
    def test_each(self, op: str) -> None:
        settings, shape, kind = LAYER_SETTINGS[op]
        network = Graph(steps=[step(op, ["image"], "a", **settings)], output="a")
        assert isinstance(network.layers["a"], kind)
        assert network(X).shape == shape
        assert {name.rpartition(".")[0] for name in network.state_dict()} <= {"layers.a"}

    def test_vectors_have_a_norm_of_their_own(self) -> None:
        steps = [step("flatten", ["image"], "v", axis=1), step("batch_norm_1d", ["v"], "n", num_features=72)]
        network = Graph(steps=steps, output="n").eval()
        assert type(network.layers["n"]) is nn.BatchNorm1d
        assert torch.allclose(network(X), X.flatten(1), atol=1e-4)

    @pytest.mark.parametrize("dtype", ["float32", "int64", "bool"])
    def test_a_constant_is_a_buffer(self, dtype: str) -> None:
        steps = [step("constant", [], "c", shape=[1, 3, 1, 1], dtype=dtype), step("mul", ["image", "c"], "m")]
        network = Graph(steps=steps, output="m")
        assert not list(network.parameters())
        assert network.state_dict()["layers.c.value"].dtype == getattr(torch, dtype)
        network.load_state_dict({"layers.c.value": torch.tensor([1, 0, 3]).view(1, 3, 1, 1).to(getattr(torch, dtype))})
        assert torch.equal(network(X)[:, 1], torch.zeros(2, 4, 6))

    def test_a_folded_norm_changes_nothing_and_stores_nothing(self) -> None:
        layer = LAYERS["folded_norm"]()
        assert layer(X) is X
        assert not layer.state_dict()

    def test_none_is_left_untested(self) -> None:
        assert {*LAYER_SETTINGS, "batch_norm_1d", "constant"} == set(LAYERS)


SMALL = {
    "steps": [
        step("conv", ["image"], "c", in_channels=3, out_channels=4, kernel_size=[7, 7], stride=[7, 7]),
        step("folded_norm", ["c"], "c_norm"),
        step("constant", [], "k", shape=[4, 1, 1], dtype="float32"),
        step("add", ["c_norm", "k"], "s"),
        step("pad", ["s"], "p", before=[0, 0, 0, 0], after=[0, 0, 0, 1], mode="constant", value=-1.5),
        step("clip", ["p"], "q", low=None, high=2.0),
        step("mean", ["q"], "m", axes=[2, 3], keepdims=False),
    ],
    "output": "m",
}


class TestGraph:
    def test_its_settings_survive_json(self) -> None:
        image = pictures(2, 3, 112, 112)
        network = build_backbone("graph", **SMALL).eval()
        other = build_backbone("graph", **json.loads(json.dumps(SMALL))).eval()
        other.load_state_dict(network.state_dict())
        assert network(image).shape == (2, 4)
        assert torch.equal(network(image), other(image))

    def test_it_is_the_same_as_the_modules(self) -> None:
        network = graph(**SMALL).eval()
        network.layers["k"].value.fill_(0.25)
        image = pictures(2, 3, 112, 112)
        conv = nn.functional.conv2d(image, network.layers["c"].weight, network.layers["c"].bias, stride=7)
        expected = nn.functional.pad(conv + 0.25, (0, 1), value=-1.5).clamp(max=2.0).mean((2, 3))
        torch.testing.assert_close(network(image), expected)

    def test_gradients_flow(self) -> None:
        image = pictures(1, 3, 112, 112).requires_grad_()
        graph(**SMALL)(image).square().sum().backward()
        assert image.grad is not None
        assert image.grad.isfinite().all()
        assert image.grad.abs().sum() > 0

    def test_a_step_that_is_the_output_and_an_input(self) -> None:
        steps = [step("relu", ["image"], "a"), step("neg", ["a"], "b")]
        assert torch.equal(Graph(steps=steps, output="a")(X), X.relu())

    def test_one_value_twice(self) -> None:
        assert torch.equal(Graph(steps=[step("add", ["image", "image"], "a")], output="a")(X), 2 * X)

    def test_spent_values_are_let_go(self) -> None:
        steps = [step("neg", ["image"], "a"), step("exp", ["a"], "dead"), step("neg", ["a"], "b")]
        steps += [step("neg", [last], name) for last, name in zip("bcd", "cde", strict=True)]
        alive: list[int] = []
        seen: list[weakref.ref[Tensor]] = []
        with torch.no_grad():
            for _, value in Graph(steps=steps, output="e").values(X):
                seen.append(weakref.ref(value))
                del value
                alive.append(sum(one() is not None for one in seen))
        # A value, and the one it is made of; nobody asks for "dead".
        assert alive == [1, 2, 2, 2, 2, 2]

    @pytest.mark.parametrize(
        ("steps", "output", "found"),
        [
            ([step("relu", ["b"], "a"), step("relu", ["image"], "b")], "b", "step 'a' is out of order"),
            ([step("relu", ["a"], "a")], "a", "step 'a' is out of order"),
            ([step("relu", ["image"], "a"), step("relu", ["image"], "a")], "a", "step 'a' is out of order"),
            ([step("relu", ["image"], "image")], "image", "step 'image' is out of order"),
            ([step("relu", ["image"], "a")], "b", "no step computes the output 'b'"),
            ([step("dropout", ["image"], "a")], "a", "'dropout' is not an operation"),
            ([step("__class__", ["image"], "a")], "a", "'__class__' is not an operation"),
            ([step("relu", ["image"], "a", inplace=True)], "a", "settings that do not fit"),
        ],
    )
    def test_order_and_names(self, steps: list[dict[str, Any]], output: str, found: str) -> None:
        with pytest.raises(ValueError, match=found):
            Graph(steps=steps, output=output)

    def test_no_setting_of_the_caller_is_changed(self) -> None:
        before = json.dumps(SMALL)
        graph(**SMALL)
        assert json.dumps(SMALL) == before


POOLED = step("mean", ["a"], "b", axes=[2, 3], keepdims=False)
BIG = 10**9


def conv(**changed: Any) -> dict[str, Any]:
    return step("conv", ["image"], "a", **{"in_channels": 3, "out_channels": 4, "kernel_size": [3, 3], **changed})


class TestHostileSettings:
    """What a file may say of itself: refused in one line, without the memory it asks for."""

    @pytest.mark.parametrize(
        "settings",
        [
            {},
            {"steps": []},
            {"output": "a"},
            {"steps": [], "output": "image"},
            {"steps": None, "output": "a"},
            {"steps": 7, "output": "a"},
            {"steps": "relu", "output": "a"},
            {"steps": {"op": "relu"}, "output": "a"},
            {"steps": [[]], "output": "a"},
            {"steps": [{}], "output": "a"},
            {"steps": [{"op": "relu", "inputs": ["image"]}], "output": "a"},
            {"steps": [{"op": ["relu"], "inputs": ["image"], "output": "a"}], "output": "a"},
            {"steps": [{"op": "relu", "inputs": 3, "output": "a"}], "output": "a"},
            {"steps": [{"op": "relu", "inputs": [["image"]], "output": "a"}], "output": "a"},
            {"steps": [{"op": "relu", "inputs": ["image"], "output": 3}], "output": 3},
            {"steps": [{"op": "relu", "inputs": ["image"], "output": {}}], "output": "a"},
            {"steps": [step("relu", ["image"], "a")], "output": ["a"]},
            {"steps": [step("relu", ["image"], "a")], "output": "a"},
            {"steps": [step("relu", ["image"], "a")], "output": "a", "width": 1},
            {"steps": [{"op": "relu", "inputs": ["image"], "output": "a", "settings": 3}], "output": "a"},
            {"steps": [{"op": "relu", "inputs": ["image"], "output": "a", "settings": ["x"]}], "output": "a"},
            {"steps": [{"op": "relu", "inputs": ["image"], "output": "a", "settings": None}], "output": "a"},
            *(
                {"steps": [step(op, ["image"], "a"), POOLED], "output": "b"}
                for op in ("__class__", "forward", "", "op")
            ),
            *(
                {"steps": [{**conv(), "output": name}, {**POOLED, "inputs": [name]}], "output": "b"}
                for name in ("a.b", "", "keys", "forward")
            ),
            *(
                {"steps": [conv(**changed), POOLED], "output": "b"}
                for changed in (
                    {"out_channels": BIG},
                    {"in_channels": BIG, "out_channels": BIG},
                    {"out_channels": 10**30},
                    {"kernel_size": [BIG, BIG]},
                    {"padding": BIG},
                    {"padding": [50_000, 50_000]},
                    {"padding": -99},
                    {"out_channels": 0},
                    {"out_channels": -4},
                    {"in_channels": 4},
                    {"out_channels": "a", "in_channels": BIG},
                    {"out_channels": 4.5},
                    {"out_channels": True},
                    {"out_channels": None},
                    {"out_channels": [4]},
                    {"kernel_size": []},
                    {"kernel_size": [3, 3, 3]},
                    {"kernel_size": "33"},
                    {"stride": 0},
                    {"groups": 0},
                    {"groups": 3},
                    {"groups": "3"},
                    {"dilation": 10**6},
                    {"device": "cuda"},
                    {"device": "meta"},
                    {"dtype": "float16"},
                    {"padding_mode": "none"},
                    {"weight": 3},
                )
            ),
            *(
                {"steps": [changed, POOLED], "output": "b"}
                for changed in (
                    step("batch_norm", ["image"], "a", num_features=BIG),
                    step("batch_norm", ["image"], "a", num_features=4),
                    step("batch_norm", ["image"], "a", num_features=3, eps="small"),
                    step("prelu", ["image"], "a", num_parameters=2),
                    step("linear", ["image"], "a", in_features=112, out_features=BIG),
                    step("linear", ["image"], "a", in_features=112),
                    step("constant", [], "a", shape=[BIG, BIG]),
                    step("constant", [], "a", shape=[-1]),
                    step("constant", [], "a", shape=[2], dtype="__class__"),
                    step("constant", [], "a", shape="11"),
                    step("constant", [], "a", shape=7),
                    step("pad", ["image"], "a", before=[0, 0, BIG, BIG], after=[0] * 4, mode="constant", value=0.0),
                    step("pad", ["image"], "a", before=[0], after=[0] * 4, mode="constant", value=0.0),
                    step("pad", ["image"], "a", before=[0] * 4, after=[0] * 4, mode="oblique", value=0.0),
                    step("pad", ["image"], "a", before=["1"] * 4, after=[0] * 4, mode="constant", value=0.0),
                    step("reshape", ["image"], "a"),
                    step("reshape", ["image"], "a", shape=[-1, -1]),
                    step("reshape", ["image"], "a", shape=[0, 0, 0, 0, 0]),
                    step("transpose", ["image"], "a", perm=[0, 0, 1, 2]),
                    step("slice", ["image"], "a", starts=[0], ends=[1, 2], axes=[0]),
                    step("slice", ["image"], "a", starts=[0], ends=[1], axes=[9]),
                    step("flatten", ["image"], "a", axis="1"),
                    step("mean", ["image"], "a", axes=[9], keepdims=True),
                    step("mean", ["image"], "a", axes=None, keepdims=True),
                    step("max_pool", ["image"], "a", kernel_size=[BIG, BIG]),
                    step("max_pool", ["image"], "a", kernel_size=[0, 0]),
                    step("average_pool", ["image"], "a", kernel_size=[2, 2], stride=[0, 0]),
                    step("softmax", ["image"], "a", dim="a"),
                    step("softmax", ["image"], "a", out=3),
                    step("add", ["image"], "a"),
                    step("add", ["image", "image", "image"], "a"),
                    step("relu", [], "a"),
                    step("concat", [], "a", axis=0),
                    step("concat", ["image"], "a", axis=0.5),
                    step("matmul", ["image", "image"], "a", x=1),
                )
            ),
        ],
    )
    def test_is_an_input_error(self, settings: dict[str, Any]) -> None:
        with pytest.raises(InputError, match="backbone 'graph' refuses its settings") as caught:
            build_backbone("graph", **settings)
        assert "\n" not in str(caught.value)

    def test_doubling_again_and_again(self) -> None:
        steps = [step("concat", ["image", "image"], "n0", axis=1)]
        steps += [step("concat", [f"n{i}"] * 2, f"n{i + 1}", axis=1) for i in range(70)]
        steps += [step("mean", ["n70"], "b", axes=[2, 3], keepdims=False)]
        with pytest.raises(InputError, match=r"'n9' has 77070336 elements"):
            build_backbone("graph", steps=steps, output="b")

    def test_the_small_one_is_taken(self) -> None:
        assert build_backbone("graph", steps=[conv(), POOLED], output="b")(pictures(5, 3, 112, 112)).shape == (5, 4)


class TestMostNumbers:
    @pytest.mark.parametrize(
        ("op", "settings", "values"),
        [
            ("conv", {"out_channels": 7, "in_channels": 3, "kernel_size": [3, 3], "padding": [2, 1]}, [X]),
            ("conv", {"out_channels": 7, "in_channels": 3, "kernel_size": 3, "stride": 2, "padding": 1}, [X]),
            ("linear", {"in_features": 6, "out_features": 50}, [X]),
            ("pad", {"before": [0, 1, 2, 3], "after": [0, 0, 5, 6], "mode": "constant", "value": 0.0}, [X]),
            ("concat", {"axis": 1}, [X, Y, X]),
            ("matmul", {}, [X, Y.mT]),
            ("matmul", {}, [X, Y[0, 0, 0]]),
            ("matmul", {}, [ROW.float(), Y.mT]),
            ("mul", {}, [X[:, :1], Y[0, :, :1]]),
            ("relu", {}, [X]),
            ("constant", {"shape": [3, 5]}, []),
        ],
    )
    def test_is_never_too_few(self, op: str, settings: dict[str, Any], values: list[Tensor]) -> None:
        made = LAYERS[op](**settings)(*values) if op in LAYERS else FUNCTIONS[op](*values, **settings)
        told = most_elements(op, settings, [value.shape for value in values])
        assert made.numel() <= told <= 4 * made.numel()
