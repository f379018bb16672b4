import pytest

from della_bench.zoo import NAMES

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from della_bench.zoo import train, training  # noqa: E402
from della_bench.zoo.tokenizer import make  # noqa: E402


@pytest.fixture(scope="module")
def tokenizer():
    return make(items_per_skill=50)


def test_building_a_model_depends_on_its_seed_alone_and_leaves_global_random_state(tokenizer):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = training.build(tokenizer, seed=5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    second = training.build(tokenizer, seed=5)
    other = training.build(tokenizer, seed=6)
    assert torch.equal(first.model.embed_tokens.weight, second.model.embed_tokens.weight)
    assert not torch.equal(first.model.embed_tokens.weight, other.model.embed_tokens.weight)


def test_examples_keep_prompt_and_answer_apart_and_end_the_answer(tokenizer):
    example = training.encode(tokenizer, "Q: Tom\nA:", " 3")
    assert example.prompt == tokenizer.encode("Q: Tom\nA:")
    assert example.answer == [*tokenizer.encode(" 3"), tokenizer.eos_token_id]


def test_batches_lose_no_example_and_label_answers_only():
    examples = [training.Example([7] * (n % 5 + 1), [n + 10, 2]) for n in range(37)]
    seen = []
    for ids, labels in training._batches(iter(examples), 4):
        assert ids.shape == labels.shape
        for row, targets in zip(ids.tolist(), labels.tolist(), strict=True):
            answer = [t for t in targets if t != -100]
            prompt = [t for t, target in zip(row, targets, strict=True) if target == -100 and t != 0]
            seen.append(training.Example(prompt, answer))
    assert sorted(seen, key=lambda e: e.answer) == sorted(examples, key=lambda e: e.answer)


def test_padding_on_the_right_does_not_change_the_loss(tokenizer):
    model = training.build(tokenizer, seed=0)
    ids = torch.tensor([[5, 6, 7, 8]])
    labels = torch.tensor([[-100, -100, 7, 8]])
    padded = torch.nn.functional.pad(ids, (0, 3)), torch.nn.functional.pad(labels, (0, 3), value=-100)
    torch.testing.assert_close(training._loss(model, ids, labels), training._loss(model, *padded))


def test_the_loss_equals_that_of_transformers(tokenizer):
    model = training.build(tokenizer, seed=0)
    ids = torch.tensor([[5, 6, 7, 8], [9, 8, 7, 6]])
    labels = torch.tensor([[-100, -100, 7, 8], [-100, 8, 7, 6]])
    torch.testing.assert_close(training._loss(model, ids, labels), model(input_ids=ids, labels=labels).loss)


def test_training_lowers_the_loss(tokenizer):
    model = training.build(tokenizer, seed=0)
    losses: list[float] = []
    example = training.encode(tokenizer, "Q: Tom\nA:", " 3 apples")
    schedule = training.Schedule(steps=20, batch=2, learning_rate=1e-3, warmup=1)
    outcome = training.fit(model, iter([example] * 40), schedule, lambda _, loss: losses.append(loss), every=1)
    assert losses[-1] < losses[0] / 2
    assert outcome.loss == losses[-1]
    assert outcome.tokens == 40 * len(example.answer)


@pytest.mark.slow
def test_a_quick_training_writes_four_models_with_cards(tmp_path):
    threads = torch.get_num_threads()
    try:
        train.main(["--quick", "--out", str(tmp_path)])
    finally:
        torch.set_num_threads(threads)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(NAMES)
    for name in NAMES:
        assert (tmp_path / name / "model.safetensors").stat().st_size > 1_000_000
        assert f"# zoo/{name}\n" in (tmp_path / name / "README.md").read_text(encoding="utf-8")
