import pytest
import torch

from arcinvert.backbones.graph import IMAGE, Graph
from arcinvert.errors import CheckpointError
from arcinvert.formats.builder import Builder
from arcinvert.formats.finish import finish
from arcinvert.formats.scaling import take_scaling
from arcinvert.formats.values import BATCH, OTHER_BATCH


def rand(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(2)) - 0.5


def conv(builder: Builder, value: str = IMAGE, name: str = "c", outputs: int = 4) -> str:
    inputs = builder.shape(value)[1]
    settings = {"in_channels": inputs, "out_channels": outputs, "kernel_size": [4, 4], "stride": [4, 4], "bias": False}
    return builder.layer("conv", value, name, settings, weight=rand(outputs, inputs, 4, 4))


def pooled(builder: Builder, value: str) -> str:
    return builder.function("mean", [value], "pooled", axes=[2, 3], keepdims=False)


class TestSteps:
    def test_shapes_are_known_as_steps_are_added(self) -> None:
        builder = Builder((112, 112))
        assert builder.shape(IMAGE) == (BATCH, 3, 112, 112)
        assert builder.shape(conv(builder)) == (BATCH, 4, 28, 28)
        assert builder.shape(pooled(builder, "c")) == (BATCH, 4)
        assert [step["op"] for step in builder.steps] == ["conv", "mean"]

    def test_arithmetic_of_constants_is_done_at_once(self) -> None:
        builder = Builder()
        a, b = builder.constant(torch.tensor([2, 3])), builder.constant(torch.tensor([5, 7]))
        product = builder.function("mul", [a, b], "m")
        assert builder.numbers(product) == [10, 21]
        assert builder.steps == []

    @pytest.mark.parametrize(
        ("given", "kept"),
        [
            *((kind, torch.float32) for kind in (torch.float16, torch.float64, torch.bfloat16, torch.float32)),
            *((kind, torch.int64) for kind in (torch.int32, torch.uint8, torch.int64)),
            (torch.bool, torch.bool),
        ],
    )
    def test_constants_have_one_of_three_types(self, given: torch.dtype, kept: torch.dtype) -> None:
        builder = Builder()
        assert builder.known(builder.constant(torch.ones(2).to(given))).dtype == kept

    def test_what_depends_on_the_image_is_not_known(self) -> None:
        builder = Builder()
        with pytest.raises(CheckpointError, match="expected a stored tensor, but 'image' depends on the image"):
            builder.known(IMAGE)

    def test_names(self) -> None:
        builder = Builder()
        found = [builder.constant(torch.ones(1), name) for name in ("a.b/c", "a b:c", "", "é", "image", "keys", "keys")]
        assert found == ["a_b_c", "a_b_c_2", "step", "step_2", "image_2", "keys_2", "keys_3"]

    def test_a_layer_that_does_not_fit(self) -> None:
        builder = Builder()
        settings = {"num_features": 3}
        with pytest.raises(CheckpointError, match=r"the batch_norm layer 'n' does not fit: weight is \(4,\)"):
            builder.layer("batch_norm", IMAGE, "n", settings, weight=torch.ones(4))
        with pytest.raises(CheckpointError, match=r"does not fit: slope is \(3,\)"):
            builder.layer("batch_norm", IMAGE, "n", settings, slope=torch.ones(3))
        with pytest.raises(CheckpointError, match="does not fit"):
            builder.layer("batch_norm", IMAGE, "n", {"num_features": 4}, weight=torch.ones(4))
        assert builder.steps == []

    def test_too_large_is_refused_before_it_is_made(self) -> None:
        builder = Builder()
        huge = 10**7
        with pytest.raises(CheckpointError, match="more than an embedder"):
            builder.function("pad", [IMAGE], "p", before=[0, 0, huge, huge], after=[0] * 4, mode="constant", value=0.0)
        column, row = builder.constant(torch.ones(1 << 14, 1)), builder.constant(torch.ones(1, 1 << 14))
        with pytest.raises(CheckpointError, match="268435456 elements"):
            builder.function("add", [column, row], "a")


class TestReshape:
    @pytest.mark.parametrize(
        "shape", [[-1, 3136], [0, -1], [3, -1], [3, 3136], [0, 3136], [1, 3136], [-1, 4, 784], [0, 0, -1]]
    )
    def test_the_batch_stays_free(self, shape: list[int]) -> None:
        builder = Builder()
        # A computed shape has 5 where the second batch is.
        other = [OTHER_BATCH, *shape[1:]] if shape[0] == BATCH else shape
        value = builder.reshape(conv(builder), shape, "r", other=other)
        settings, weights = finish(builder, builder.function("flatten", [value], "f", axis=1))
        network = Graph(**settings)
        network.load_state_dict(weights)
        assert network(rand(5, 3, 112, 112)).shape == (5, 3136)

    def test_the_batch_of_the_file(self) -> None:
        builder = Builder()
        assert builder.shape(builder.reshape(conv(builder), [7, -1], "r", batch=7)) == (BATCH, 3136)
        assert builder.steps[-1]["settings"] == {"shape": [-1, 3136]}

    def test_a_computed_shape_in_a_file_of_one_image(self) -> None:
        """As Swin's windows: 48 of the example fit one image too, with another size of what remains."""
        builder = Builder()
        windows = builder.reshape(conv(builder), [16, 49, 4], "w", batch=1)
        shapes = [48, 49, -1], [80, 49, -1]
        assert builder.shape(builder.reshape(windows, shapes[0], "r", batch=1, other=shapes[1])) == (48, 49, 4)

    def test_what_does_not_fit(self) -> None:
        builder = Builder()
        for shape in ([-1, 3137], [0, 0, 0, 0, 0], [-1, -1], [-2, 4]):
            with pytest.raises(CheckpointError, match="the reshape step 'r' does not fit"):
                builder.reshape(conv(builder), shape, "r")


class TestScaling:
    @staticmethod
    def scaled(*steps: tuple[str, float]) -> tuple[Builder, float, float]:
        builder, value = Builder(), IMAGE
        for op, number in steps:
            value = builder.function(op, [value, builder.constant(torch.tensor(number))], "s")
        conv(builder, value)
        mean, std = take_scaling(builder)
        assert builder.steps[-1]["inputs"] == [IMAGE]
        return builder, mean, std

    @pytest.mark.parametrize(
        ("steps", "mean", "std"),
        [
            ((), 0, 1),
            ((("sub", 127.5), ("mul", 0.0078125)), 127.5, 128),
            ((("sub", 127.5), ("div", 127.5)), 127.5, 127.5),
            ((("div", 127.5), ("add", -1.0)), 127.5, 127.5),
            ((("mul", 2.0), ("sub", 6.0), ("div", 4.0), ("add", 1.0)), 1, 2),
        ],
    )
    def test_is_taken_out(self, steps: tuple[tuple[str, float], ...], mean: float, std: float) -> None:
        builder, found_mean, found_std = self.scaled(*steps)
        assert (found_mean, found_std) == (pytest.approx(mean), pytest.approx(std))
        settings, _ = finish(builder, pooled(builder, "c"))
        assert [step["op"] for step in settings["steps"]] == ["conv", "folded_norm", "mean"]

    @pytest.mark.parametrize("steps", [(("mul", -1.0),), (("mul", 0.0),), (("div", 0.0),), (("add", float("nan")),)])
    def test_no_scaling(self, steps: tuple[tuple[str, float], ...]) -> None:
        with pytest.raises(CheckpointError, match="expected an image contract"):
            self.scaled(*steps)

    def test_what_is_left_in(self) -> None:
        builder = Builder()
        each = builder.function("sub", [IMAGE, builder.constant(rand(3, 1, 1))], "s")
        turned = builder.function("sub", [builder.constant(torch.tensor(1.0)), IMAGE], "t")
        builder.function("add", [each, turned], "a")
        assert take_scaling(builder) == (0.0, 1.0)
        assert len(builder.steps) == 3


class TestFinish:
    def test_what_nobody_needs_is_left_out(self) -> None:
        builder = Builder()
        value = pooled(builder, conv(builder))
        conv(builder, name="unused")
        unused = builder.constant(rand(3), "unused constant")
        settings, weights = finish(builder, value)
        assert set(weights) == {"layers.c.weight"}
        assert unused not in str(settings)

    def test_constants_become_steps_where_they_are_used(self) -> None:
        builder = Builder()
        value = builder.function("add", [pooled(builder, conv(builder)), builder.constant(rand(4), "k")], "a")
        settings, weights = finish(builder, value)
        assert settings["steps"][0] == {
            "op": "constant",
            "inputs": [],
            "output": "k",
            "settings": {"shape": [4], "dtype": "float32"},
        }
        assert torch.equal(weights["layers.k.value"], rand(4))

    def test_a_norm_of_its_own_for_each_convolution_without_one(self) -> None:
        builder = Builder()
        first = conv(builder)
        normed = builder.layer("batch_norm", first, "n", {"num_features": 4}, weight=torch.ones(4))
        second = conv(builder, normed, "d")
        settings, _ = finish(builder, pooled(builder, second))
        found = {step["output"]: step["inputs"] for step in settings["steps"]}
        assert found == {"c": [IMAGE], "n": ["c"], "d": ["n"], "d_norm": ["d"], "pooled": ["d_norm"]}

    def test_one_vector_for_each_image(self) -> None:
        builder = Builder()
        value = conv(builder)
        for wrong in (
            value,
            builder.function("mean", [value], "m", axes=[1, 2, 3], keepdims=False),
            builder.constant(rand(3, 5)),
        ):
            with pytest.raises(CheckpointError, match="expected an output of one vector per image"):
                finish(builder, wrong)

    @pytest.mark.parametrize("axes", [[2, 3], [1, 3], [1, 2]])
    def test_dimensions_of_one_fall_away(self, axes: list[int]) -> None:
        builder = Builder()
        settings, weights = finish(builder, builder.function("mean", [conv(builder)], "m", axes=axes, keepdims=True))
        network = Graph(**settings)
        network.load_state_dict(weights)
        assert network(rand(2, 3, 112, 112)).shape == (2, 4 if axes == [2, 3] else 28)

    def test_weights_do_not_share_memory(self) -> None:
        builder = Builder()
        weight = rand(3, 3, 1, 1)
        settings = {"in_channels": 3, "out_channels": 3, "kernel_size": 1, "bias": False}
        value = builder.layer(
            "conv", builder.layer("conv", IMAGE, "a", settings, weight=weight), "b", settings, weight=weight
        )
        _, weights = finish(builder, pooled(builder, value))
        assert len({tensor.data_ptr() for tensor in weights.values()}) == 2
