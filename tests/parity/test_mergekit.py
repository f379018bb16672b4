"""The same mergekit YAML in both programs: equal where nothing is drawn, equally distributed where something is.

Where the two differ on purpose, a test shows the difference and says why. mergekit is an extra (`parity`); without it
this file is skipped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from della_bench.merge import bits
from della_bench.merge.drop import drop, keep_largest, rank_thresholds
from della_bench.merge.stream import Merge
from della_bench.merge.tensor import merge_tensor
from della_bench.spec import MergeSpec
from della_bench.spec.thresholds import ONE, keep_bounds, kept_count
from tests import tiny

REASON = "mergekit is not installed (the extra `parity`)"
sparsify = pytest.importorskip("mergekit.sparsify", reason=REASON, exc_type=ImportError)
api = pytest.importorskip("mergekit.merge_methods.api", reason=REASON, exc_type=ImportError)
runner = pytest.importorskip("mergekit.merge", reason=REASON, exc_type=ImportError)
configs = pytest.importorskip("mergekit.config", reason=REASON, exc_type=ImportError)
options = pytest.importorskip("mergekit.options", reason=REASON, exc_type=ImportError)

NAME = "model.layers.0.mlp.up_proj.weight"
SEEDS = 200
# Deviations are measured in standard errors. All draws are seeded, so that a test passes always or never; among the
# few hundred numbers compared, one that is 5 standard errors off by chance is less likely than one in a thousand.
ERRORS = 5


def config(
    method: str, models: dict[str, dict[str, Any]], shared: dict[str, Any] | None = None, *, base: str | None = "base"
) -> dict[str, Any]:
    """A mergekit configuration: the parameters of each model, and those of all."""
    made: dict[str, Any] = {
        "merge_method": method,
        "models": [{"model": name, "parameters": values} for name, values in models.items()],
        "parameters": shared or {},
    }
    return made | ({"base_model": base} if base else {})


def in_folder(made: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The same configuration with its models in a folder."""
    models = [item | {"model": str(folder / item["model"])} for item in made["models"]]
    base = {"base_model": str(folder / made["base_model"])} if "base_model" in made else {}
    return made | {"models": models} | base


def parse(made: dict[str, Any], folder: Path, **others: Any) -> MergeSpec:
    path = folder / "mergekit.yml"
    path.write_text(yaml.safe_dump(made), encoding="utf-8")
    return MergeSpec.parse({"config": str(path), **others})


def by_mergekit(made: dict[str, Any], tensors: dict[str, torch.Tensor], name: str = NAME) -> torch.Tensor:
    """mergekit's own merge of one tensor of each model."""
    listed = {item["model"]: item["parameters"] for item in made["models"]}
    base = made.get("base_model")
    ids = list(dict.fromkeys([*([base] if base else []), *listed]))
    each = {key for values in listed.values() for key in values}
    parameters = made["parameters"] | {key: {model: listed[model][key] for model in listed} for key in each}
    return api.merge_tensors(
        [tensors[model] for model in ids],
        made["merge_method"],
        ids=ids,
        base_index=ids.index(base) if base else None,
        parameters=parameters,
        name=name,
    )


def by_us(spec: MergeSpec, tensors: dict[str, torch.Tensor], name: str = NAME) -> torch.Tensor:
    return merge_tensor(spec, name, tensors[spec.base.place], [tensors[source.place] for source in spec.experts])


def random_tensors(shape: Sequence[int], *experts: str, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    base = torch.randn(*shape, generator=generator)
    noise = {name: torch.randn(*shape, generator=generator) * 0.2 for name in experts}
    return {"base": base} | {name: base + delta for name, delta in noise.items()}


def assert_close(ours: torch.Tensor, theirs: torch.Tensor, inputs: Sequence[torch.Tensor]) -> None:
    """Hold each element to 1e-6 of the largest value that it was computed from, some 8 roundings of float32."""
    assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
    scale = torch.stack([tensor.abs() for tensor in inputs]).amax(dim=0)
    assert ((ours - theirs).abs() <= 1e-6 * scale).all()


AB = {"a": {"weight": 0.3}, "b": {"weight": 0.9}}
PRUNED = {"a": {"weight": 0.3, "density": 0.55}, "b": {"weight": 0.9, "density": 0.4}}
DENSE = PRUNED | {"c": {"weight": 1.0, "density": 1}}
FIXED = [
    config("linear", AB, base=None),
    config("linear", AB, {"normalize": False}, base=None),
    config("linear", {"a": {"weight": 1.5}, "b": {"weight": -0.7}}, base=None),
    config("slerp", {"base": {}, "a": {}}, {"t": 0.4}),
    config("slerp", {"a": {}, "base": {}}, {"t": 0.9}),
    config("slerp", {"base": {}, "longer": {}}, {"t": 0.3}),
    config("slerp", {"base": {}, "opposite": {}}, {"t": 0.3}),
    config("task_arithmetic", AB),
    config("task_arithmetic", AB, {"normalize": True, "lambda": 1.3}),
    config("ties", DENSE),
    config("ties", DENSE, {"normalize": False, "int8_mask": True, "lambda": 0.6}),
    config("ties", DENSE, {"rescale": True}),
    # A density of 1, mergekit's default, draws nothing.
    config("della", AB),
    config("della_linear", AB),
    config("dare_ties", AB),
    config("dare_linear", AB, {"normalize": True}),
]


def label(made: dict[str, Any]) -> str:
    return "-".join([made["merge_method"], *(f"{key}={value}" for key, value in made["parameters"].items())])


@pytest.mark.parametrize("shape", [(31, 47), (301,), (3, 5, 8)], ids=str)
@pytest.mark.parametrize("made", FIXED, ids=label)
def test_without_a_draw_both_compute_the_same_values(made, shape, tmp_path):
    tensors = random_tensors(shape, "a", "b", "c")
    tensors |= {"longer": tensors["base"] * 1.5, "opposite": tensors["base"] * -0.8}
    ours, theirs = by_us(parse(made, tmp_path), tensors), by_mergekit(made, tensors)
    assert_close(ours, theirs, [*tensors.values(), ours])
    assert not any(torch.equal(ours, tensor) for tensor in tensors.values())


BY_NAME = [{"filter": "attn", "value": [0.1, 0.5, 0.9]}, {"filter": "mlp", "value": 0.25}, {"value": 0.7}]
WHOLE = {
    "linear": config("linear", AB, base=None),
    "linear_with_a_base_that_is_not_listed": config("linear", AB, {"weight": 0.5}),
    "slerp": config("slerp", {"base": {}, "a": {}}, {"t": 0.4}),
    "task_arithmetic": config("task_arithmetic", AB, {"lambda": 0.8}),
    "ties": config("ties", PRUNED),
    "ties_with_a_base_that_is_listed": config("ties", {"base": {}} | PRUNED),
    "gradients": config("task_arithmetic", {"a": {"weight": [0, 0.3, 1]}, "b": {"weight": 0.4}}, {"lambda": [1, 0.5]}),
    "filters": config(
        "ties", {"a": {"weight": BY_NAME, "density": [0.9, 0.2]}, "b": {}}, {"weight": [0.2, 0.7], "density": 0.6}
    ),
    "slerp_by_name": config("slerp", {"base": {}, "a": {}}, {"t": BY_NAME}),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for kind, make in (("llama", tiny.llama), ("gpt2", tiny.gpt2)):
        for seed, name in enumerate(("base", "a", "b")):
            # A difference of the order of the weights, so that the angle between two models is a real one.
            tiny.perturbed(make(0, layers=4), seed, scale=0.02).save_pretrained(root / kind / name)
    return root


@pytest.mark.parametrize(
    ("kind", "name"), [*(("llama", name) for name in WHOLE), ("gpt2", "ties"), ("gpt2", "filters")]
)
def test_a_whole_model_is_the_one_that_mergekit_writes(kind, name, folders, tmp_path):
    made = in_folder(WHOLE[name], folders / kind)
    choices = options.MergeOptions(copy_tokenizer=False, write_model_card=False, quiet=True)
    runner.run_merge(configs.MergeConfiguration.model_validate(made), str(tmp_path / "out"), choices)
    theirs = load_file(next((tmp_path / "out").glob("*.safetensors")))
    ours = dict(Merge(parse(made, tmp_path)).stream())
    assert ours.keys() == theirs.keys()
    sources = [load_file(folders / kind / source / "model.safetensors") for source in ("base", "a", "b")]
    for tensor, merged in ours.items():
        assert_close(merged, theirs[tensor], [merged, *(source[tensor] for source in sources)])
        assert not torch.equal(merged, sources[0][tensor])


DRAWN = [
    config("della", DENSE, {"rescale": True}),
    config("della", {"a": {"weight": 0.3, "density": 0.6, "epsilon": 0.35}}, {"rescale": False, "lambda": 1.1}),
    config("della_linear", DENSE, {"rescale": True, "normalize": True}),
    config("dare_linear", DENSE, {"rescale": True}),
    config("dare_ties", DENSE, {"rescale": True}),
    config("dare_ties", DENSE, {"rescale": False, "normalize": True}),
]


@pytest.mark.parametrize("made", DRAWN, ids=label)
def test_from_the_same_random_words_both_compute_the_same_values(made, tmp_path, monkeypatch):
    """mergekit's Bernoulli draws are replaced by ours; probabilities, rescaling and election remain its own."""
    tensors = random_tensors((24, 60), "a", "b", "c")
    spec = parse(made, tmp_path, seed=11)
    drawing = [expert for expert, density in enumerate(spec.at(NAME).density) if density < 1]
    left = list(drawing)

    def bernoulli(probabilities: torch.Tensor) -> torch.Tensor:
        words = bits.words(bits.tensor_key(spec.seed, left.pop(0), NAME), probabilities.numel())
        return (words.reshape(probabilities.shape) < probabilities.double() * ONE).to(probabilities.dtype)

    monkeypatch.setattr(torch, "bernoulli", bernoulli)
    theirs = by_mergekit(made, tensors)
    assert (bool(drawing), left) == (True, [])
    ours = by_us(spec, tensors)
    assert_close(ours, theirs, [*tensors.values(), ours])


def probabilities_of_mergekit(monkeypatch: pytest.MonkeyPatch, delta: torch.Tensor, **numbers: float) -> torch.Tensor:
    seen: list[torch.Tensor] = []

    def bernoulli(probabilities: torch.Tensor) -> torch.Tensor:
        seen.append(probabilities)
        return torch.ones_like(probabilities)

    monkeypatch.setattr(torch, "bernoulli", bernoulli)
    sparsify.della_magprune(delta, **numbers)
    return seen[0]


def our_probabilities(delta: torch.Tensor, density: float, epsilon: float) -> torch.Tensor:
    """As float64: they are multiples of 2^-32."""
    return rank_thresholds(delta.abs().float(), *keep_bounds(density, epsilon)).double() / ONE


def test_keep_probabilities_by_rank_are_mergekits(monkeypatch):
    delta = random_tensors((40, 333))["base"]
    theirs = probabilities_of_mergekit(monkeypatch, delta, density=0.6, epsilon=0.15)
    assert (our_probabilities(delta, 0.6, 0.15) - theirs).abs().max() < 1e-6


def many_by_mergekit(made: dict[str, Any], tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    """(seeds, elements) merged values."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torch.stack([by_mergekit(made, tensors).reshape(-1) for _ in range(SEEDS)]).double()


def many_by_us(spec: Callable[[int], MergeSpec], tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    """(seeds, elements) merged values."""
    return torch.stack([by_us(spec(seed), tensors).reshape(-1) for seed in range(SEEDS)]).double()


def standard_error(samples: torch.Tensor) -> torch.Tensor:
    """Of the mean over the first dimension, the seeds: they are independent, elements of one seed need not be."""
    return samples.std(dim=0) / math.sqrt(len(samples))


def deviations(ours: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    """The difference of two means over the seeds, in standard errors of that difference."""
    error = torch.hypot(standard_error(ours), standard_error(theirs))
    return (ours.mean(dim=0) - theirs.mean(dim=0)) / error


HALVES = {"a": {"weight": 0.8, "density": 0.5}, "b": {"weight": 0.5, "density": 0.6}}


@pytest.mark.parametrize("method", ["della", "dare_linear", "dare_ties"])
def test_merges_with_a_drop_have_the_same_mean_and_variance(method, tmp_path):
    made = config(method, HALVES)  # mergekit's default is rescaling to the L1 norm
    tensors = random_tensors((6, 24), "a", "b")
    theirs, ours = many_by_mergekit(made, tensors), many_by_us(lambda seed: parse(made, tmp_path, seed=seed), tensors)
    assert deviations(ours, theirs).abs().max() < ERRORS
    # One number a seed: the mean squared distance to the common mean.
    centre = torch.cat([ours, theirs]).mean(dim=0)
    spread = [(samples - centre).square().mean(dim=1) for samples in (ours, theirs)]
    assert deviations(*spread).abs() < ERRORS


@pytest.mark.parametrize(("kind", "epsilon"), [("magprune", 0.3), ("random", 0.0)])
def test_each_decile_of_ranks_is_kept_as_often(kind, epsilon):
    rows, n, density = 4, 200, 0.6
    delta = random_tensors((rows, n))["base"]

    def ours(seed: int) -> torch.Tensor:
        key = bits.tensor_key(seed, 0, NAME)
        kept = drop(delta, kind=kind, density=density, epsilon=epsilon, rescale="l1", key_dtype=torch.float32, key=key)
        return kept != 0

    def theirs() -> torch.Tensor:
        method = "della_magprune" if kind == "magprune" else "random"
        numbers = {"density": density, "epsilon": epsilon, "rescale_norm": sparsify.RescaleNorm.l1}
        return sparsify.sparsify(delta, method=sparsify.SparsificationMethod(method), **numbers) != 0

    order = delta.abs().argsort(dim=1)

    def shares(masks: Sequence[torch.Tensor]) -> torch.Tensor:  # (10,)
        kept = torch.stack([mask.gather(1, order) for mask in masks]).double()  # (seeds, rows, n)
        return kept.reshape(SEEDS * rows, 10, n // 10).mean(dim=(0, 2))

    with torch.random.fork_rng():
        torch.manual_seed(0)
        by_them = shares([theirs() for _ in range(SEEDS)])
    by_ours = shares([ours(seed) for seed in range(SEEDS)])
    ranks = torch.arange(n, dtype=torch.float64)
    wanted = (density - epsilon + 2 * epsilon * ranks / (n - 1)).reshape(10, -1).mean(dim=1)
    # The draws of a decile are independent; p (1 - p) of their mean p bounds their mean variance from above.
    error = (wanted * (1 - wanted) / (SEEDS * rows * n / 10)).sqrt()
    assert ((by_ours - wanted).abs() < ERRORS * error).all()
    assert ((by_ours - by_them).abs() < ERRORS * math.sqrt(2) * error).all()


def test_difference_equal_magnitudes_share_a_rank(monkeypatch):
    """mergekit ranks equal magnitudes by where a sort happens to leave them; ours are kept with one probability.

    Deltas of 16-bit checkpoints are full of equal magnitudes. By position, elements that nothing distinguishes would
    be kept 30 to 70 times in 100, and which of them would be the sort's choice and the device's.
    """
    delta = torch.tensor([[0.5, -0.5, 0.5, 0.5, -0.5]])
    theirs = probabilities_of_mergekit(monkeypatch, delta, density=0.5, epsilon=0.2)
    torch.testing.assert_close(theirs.sort().values, torch.tensor([[0.3, 0.4, 0.5, 0.6, 0.7]]))
    assert our_probabilities(delta, 0.5, 0.2).tolist() == [[0.5] * 5]


def test_difference_ranks_of_16_bit_models_are_whole_numbers(monkeypatch):
    """mergekit holds the ranks of a bf16 delta in bf16, which has no odd number above 256; ours are integers."""
    n = 1000
    delta = torch.arange(15000, 15000 + n, dtype=torch.int16).view(torch.bfloat16).reshape(1, n)  # all different
    theirs = probabilities_of_mergekit(monkeypatch, delta, density=0.5, epsilon=0.2)
    assert theirs.dtype == torch.bfloat16
    assert theirs.unique().numel() < n / 2
    ours = our_probabilities(delta, 0.5, 0.2)
    assert ours.unique().numel() == n
    assert (ours - torch.linspace(0.3, 0.7, n, dtype=torch.float64)).abs().max() < 1e-9


def test_difference_our_default_rescale_leaves_each_expectation_as_it_was(tmp_path):
    """The paper divides what is kept by its own keep probability: the expected delta is the delta, element by element.

    mergekit scales a tensor by one factor that restores its L1 norm. As large magnitudes are kept more often than
    small ones, the former then come out too large on average, the latter too small. A mergekit YAML gets mergekit's
    rule here, too; this is about the defaults of the two.
    """
    tensors = random_tensors((2, 40), "a")
    numbers = {"density": 0.5, "epsilon": 0.4}
    delta = (tensors["a"] - tensors["base"]).double().reshape(-1)
    base = tensors["base"].double().reshape(-1)

    def own(seed: int) -> MergeSpec:
        return MergeSpec.parse(base="base", experts="a", merge_method="della", seed=seed, **numbers)

    ours = many_by_us(own, tensors) - base
    theirs = many_by_mergekit(config("della", {"a": {"weight": 1.0, **numbers}}), tensors) - base
    # A kept value is delta / p, so that its variance is known: delta^2 (1 - p) / p.
    p = our_probabilities(delta.reshape(2, 40), 0.5, 0.4).reshape(-1)
    error = (delta.square() * (1 - p) / p / SEEDS).sqrt()
    assert ((ours.mean(dim=0) - delta).abs() < ERRORS * error).all()
    gain = theirs.mean(dim=0) / delta
    large, small = p > 0.8, p < 0.2
    assert gain[large].mean() > 1.2
    assert gain[small].mean() < 0.5


def test_difference_16_bit_models_are_merged_in_float32(tmp_path):
    """mergekit rounds each step to the models' dtype, unless its YAML asks for another; we round once, at the end."""
    made = config("task_arithmetic", AB | {"c": {"weight": 0.7}})
    tensors = {name: tensor.bfloat16() for name, tensor in random_tensors((50, 60), "a", "b", "c").items()}
    wide = {name: tensor.float() for name, tensor in tensors.items()}
    exact = by_mergekit(made, {name: tensor.double() for name, tensor in tensors.items()}).bfloat16()

    def unlike_exact(merged: torch.Tensor) -> float:
        return (merged != exact).double().mean().item()

    # What is left are values within float32's error of the middle of two bf16 numbers.
    assert unlike_exact(by_us(parse(made, tmp_path), tensors)) < 0.01
    assert unlike_exact(by_mergekit(made, wide).bfloat16()) < 0.01
    assert unlike_exact(by_mergekit(made, tensors)) > 0.1


@pytest.mark.parametrize(("density", "n", "theirs", "ours"), [(0.29, 100, 28, 29), (0.57, 100, 56, 57)])
def test_difference_a_density_is_the_decimal_number_that_was_written(density, n, theirs, ours):
    """0.29 * 100 in floating point is 28.999...; mergekit keeps 28 of 100 elements, we keep 29."""
    delta = random_tensors((n,))["base"]
    assert int((sparsify.magnitude(delta, density) != 0).sum()) == theirs
    kept = keep_largest(delta.abs().reshape(1, n), kept_count(density, n), torch.arange(n).reshape(1, n))
    assert int(kept.sum()) == ours


def test_difference_a_row_of_one_element_has_a_probability():
    """With one rank there is no lowest and highest; mergekit divides 0 by 0, ours is the density."""
    delta = torch.tensor([[0.5], [0.2]])
    with pytest.raises(RuntimeError):
        sparsify.della_magprune(delta, density=0.5, epsilon=0.2)
    assert our_probabilities(delta, 0.5, 0.2).tolist() == [[0.5], [0.5]]


def test_difference_the_largest_magnitude_may_be_kept_always():
    """A keep probability of 1 is a probability: density + epsilon may be 1; mergekit wants it to be less."""
    delta = random_tensors((4, 50))["base"]
    with pytest.raises(ValueError, match="Epsilon"):
        sparsify.della_magprune(delta, density=0.75, epsilon=0.25)
    assert our_probabilities(delta, 0.75, 0.25).amax(dim=1).tolist() == [1.0] * 4


def test_difference_a_mask_depends_on_nothing_that_was_merged_before(tmp_path):
    """mergekit draws from torch's global generator: a second merge of the same tensor is another one."""
    made = config("della", HALVES)
    tensors = random_tensors((6, 24), "a", "b")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        assert not torch.equal(by_mergekit(made, tensors), by_mergekit(made, tensors))
    spec = parse(made, tmp_path)
    assert torch.equal(by_us(spec, tensors), by_us(spec, tensors))
