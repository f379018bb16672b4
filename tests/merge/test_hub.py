"""The card and the push of a merge; the hub is a stand-in at the border, HfApi."""

from __future__ import annotations

from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import ModelCard
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

from della_bench.cli import main
from della_bench.errors import MergeError, UsageError
from della_bench.merge.card import make_card, scores_of
from della_bench.merge.fingerprint import Inputs
from della_bench.merge.hub import check_pushable, push_folder
from della_bench.merge.stream import Merge
from della_bench.spec import MergeSpec
from tests.results.making import plain_folder

SPEC = "base=zoo:base,experts=zoo:math+zoo:code,merge_method=ties,density=0.5"


class Hub:
    """What HfApi is asked for here; remembers what it was told."""

    def __init__(self):
        self.told, self.files, self.fault = [], {}, None

    def __call__(self):
        return self

    def whoami(self):
        if self.fault is not None:
            raise self.fault
        return {"name": "me"}

    def repo_exists(self, name):
        return name in self.files

    def list_repo_files(self, name):
        return self.files[name]

    def create_repo(self, name, *, private, exist_ok):
        self.told.append((name, private))
        return f"https://huggingface.co/{name}"

    def upload_folder(self, *, repo_id, folder_path, commit_message):
        self.told.append((repo_id, sorted(path.name for path in folder_path.iterdir())))


@pytest.fixture
def hub(monkeypatch):
    made = Hub()
    monkeypatch.setattr(huggingface_hub, "HfApi", made)
    return made


@pytest.fixture
def runs(tmp_path):
    folder = plain_folder(tmp_path / "runs", "ties", {"zoo_math": [1.0, 0.0, 1.0, 1.0]}, spec=SPEC)
    (results,) = folder.glob("results_*.json")
    results.write_text(results.read_text().replace("ties" + "x" * 60, Inputs(Merge(MergeSpec.parse(SPEC))).fingerprint))
    return folder


def test_a_card_names_its_sources_with_their_licences_and_has_the_scores_in_the_hubs_metadata(runs):
    merge = Merge(MergeSpec.parse(SPEC))
    card: Any = ModelCard(make_card(merge, scores_of(merge, [runs])))
    (result,) = card.data.eval_results
    assert (result.dataset_name, result.metric_type, result.metric_value) == ("Zoo: math", "exact_match", 75.0)
    low, high = result.metric_args["interval"]
    assert low < 75 < high
    assert card.data.license == "apache-2.0"
    assert "| `zoo:math` | expert | apache-2.0 |" in card.text
    assert "| Zoo: math | 75.0 [" in card.text


def test_scores_of_another_spec_or_of_other_input_files_are_refused(runs, tmp_path):
    other = Merge(MergeSpec.parse(SPEC.replace("0.5", "0.6")))
    with pytest.raises(UsageError, match="no run of this merge"):
        scores_of(other, [runs])
    stale = plain_folder(tmp_path / "stale", "ties", {"zoo_math": [1.0]}, spec=SPEC)
    with pytest.raises(UsageError, match="of other input files"):
        scores_of(Merge(MergeSpec.parse(SPEC)), [stale])


def test_a_merge_is_pushed_whole_into_a_private_repository_unless_public_is_asked_for(hub, runs, tmp_path, capsys):
    options = ["--push", "me/ties", "--runs", str(runs)]
    for number, (more, private) in enumerate((([], True), (["--public"], False))):
        with pytest.raises(SystemExit) as ended:
            main(["merge", SPEC, "-o", str(tmp_path / f"merged{number}"), *options, *more])
        assert ended.value.code == 0
        created, (repository, files) = hub.told[-2:]
        assert created == ("me/ties", private)
        assert repository == "me/ties"
        assert {"README.md", "config.json", "model.safetensors", "tokenizer.json"} <= set(files)
    assert "https://huggingface.co/me/ties" in capsys.readouterr().out
    assert "model-index" in (tmp_path / "merged0" / "README.md").read_text()


def test_what_keeps_a_push_from_working_is_told_before_merging(hub, tmp_path, capsys):
    hub.files = {"me/full": [".gitattributes", "README.md", "model.safetensors"], "me/empty": [".gitattributes"]}
    with pytest.raises(SystemExit) as ended:
        main(["merge", SPEC, "-o", str(tmp_path / "merged"), "--push", "me/full"])
    assert ended.value.code == 2
    assert "--push: me/full: holds 1 files" in capsys.readouterr().err
    assert not (tmp_path / "merged").exists()
    check_pushable("me/empty", overwrite=False)
    check_pushable("me/full", overwrite=True)
    for name in ("ties", "me/ti es", "a/b/c"):
        with pytest.raises(UsageError, match="push: "):
            check_pushable(name, overwrite=False)
    hub.fault = LocalTokenNotFoundError("no token")
    with pytest.raises(UsageError, match="log in to the hub first"):
        check_pushable("me/ties", overwrite=False)


@pytest.mark.parametrize("fault", [OSError("no such host"), "http", "no connection"])
def test_a_hub_that_refuses_or_is_not_there_is_one_message_without_the_token(hub, tmp_path, monkeypatch, fault):
    httpx = pytest.importorskip("httpx2")

    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    if fault == "http":
        fault = HfHubHTTPError(
            "403 for hf_secret", response=httpx.Response(403, request=httpx.Request("GET", "http://x"))
        )
    if fault == "no connection":
        fault = httpx.ConnectError("refused")
    hub.create_repo = lambda *args, **options: (_ for _ in ()).throw(fault)
    with pytest.raises(MergeError, match="me/ties: the hub") as caught:
        push_folder(tmp_path, "me/ties")
    assert "hf_secret" not in str(caught.value)
