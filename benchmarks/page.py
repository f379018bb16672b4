"""The page of a large leaderboard: how long it takes to write, how large it is, how quickly it opens in Chromium.

    python benchmarks/page.py [--rows 50] [--items 2624] [--tasks 0] [--runs 5] [--keep FILE] [--json]

Makes run folders of made-up models on three benchmarks in the sizes of GSM8K, AlpacaEval and MBPP (scaled to --items),
with answers of some 700 characters and a judge's reasons, and writes the page. With --tasks each model has so many of
lm-eval's tasks instead, answered by choice, as the tables of MMLU and its like are.

Chromium opens the page afresh each time; opened means that table, plots and heat map are drawn and the browser has
painted them; the packed samples stand behind and are read to the end after that. Sorting is from a click on a column's
head until the browser has painted. Seconds of the browser are of the wall clock, the median of --runs; those of
reading and writing are of the processor too. Needs Chromium and playwright.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

SIZES = {"gsm8k": 1319, "alpaca_eval": 805, "mbpp": 500}
TASKS = {"gsm8k": "gsm8k_cot_zeroshot_alpaca", "alpaca_eval": "alpaca_eval", "mbpp": "mbpp_alpaca"}
METRICS = {"gsm8k": "accuracy", "alpaca_eval": "win_rate", "mbpp": "pass@1"}
JUDGES: dict[str, Any] = {
    "gsm8k": {"name": "gsm8k_gpt4", "version": "1", "model": "gpt-4-0613"},
    "alpaca_eval": {"name": "alpaca_eval_gpt4", "version": "0.6.6", "model": "gpt-4-0314"},
    "mbpp": {"name": "sandbox", "version": "1", "model": None},
}
EXPERTS = {
    "base": (0.17, 0.35, 0.18),
    "WizardLM-13B": (0.46, 0.81, 0.31),
    "WizardMath-13B": (0.635, 0.62, 0.20),
    "code-alpaca-13B": (0.29, 0.58, 0.27),
}
METHODS = {"della": 0.02, "dare_ties": 0.0, "ties": -0.01, "task_arithmetic": -0.08}


class Words:
    """Prose of made-up words in the frequencies of language, about as compressible as answers are."""

    def __init__(self, seed: int) -> None:
        """Draw a vocabulary of 8,000 words."""
        self.random = np.random.default_rng(seed)
        letters = np.array(list("eeettaaooinnsshhrrdlucmfwypvbgk"))
        words = ["".join(self.random.choice(letters, size=length)) for length in self.random.integers(2, 10, 8000)]
        self.words = np.array(words)
        frequency = 1 / np.arange(3, 8003)
        self.frequency = frequency / frequency.sum()

    def text(self, characters: int) -> str:
        """Return sentences of about so many characters."""
        words = self.random.choice(self.words, size=max(3, characters // 6), p=self.frequency).tolist()
        ends = set(range(9, len(words), 12))
        return " ".join(f"{word}." if index in ends else word for index, word in enumerate(words)).capitalize() + "."


def _models(rows: int) -> list[tuple[str, str, tuple[float, ...]]]:
    """Return (name, spec, share of right answers by benchmark)."""
    base = "base=meta-llama/Llama-2-13b-hf"
    out = []
    for name, shares in EXPERTS.items():
        source = "meta-llama/Llama-2-13b-hf" if name == "base" else f"example/{name}"
        out.append((name, f"{base},experts={source},merge_method=passthrough,name={name}", shares))
    random = np.random.default_rng(7)
    for index in range(rows - len(out)):
        method, gain = list(METHODS.items())[index % len(METHODS)]
        density = round(0.3 + 0.1 * (index // len(METHODS) % 7), 1)
        scale = round(1.0 + 0.1 * (index // (7 * len(METHODS))), 1)
        shares = tuple(min(0.95, max(0.02, s + gain + random.normal(0, 0.025))) for s in (0.61, 0.79, 0.29))
        name = f"{method}-d{density}-l{scale}"
        density_key = "" if method == "task_arithmetic" else f",density={density}"
        epsilon = ",epsilon=0.07" if method == "della" else ""
        spec = (
            f"{base},experts=WizardLM+WizardMath+code-alpaca,merge_method={method}{density_key}{epsilon},lambda={scale}"
        )
        out.append((name, spec, shares))
    return out[:rows]


def make_runs(folder: Path, rows: int, items: int) -> None:
    """Write `rows` run folders with `items` items each over the benchmarks."""
    words = Words(0)
    sizes = {name: max(2, round(size * items / sum(SIZES.values()))) for name, size in SIZES.items()}
    prompts = {name: [words.text(420) for _ in range(size)] for name, size in sizes.items()}
    hardness = {name: words.random.normal(0, 1, size) for name, size in sizes.items()}
    for number, (name, spec, shares) in enumerate(_models(rows)):
        run = folder / f"{name}-{number}"
        (run / "scores").mkdir(parents=True)
        for (benchmark, size), share in zip(sizes.items(), shares, strict=True):
            luck = hardness[benchmark] * 0.8 + words.random.normal(0, 0.6, size)
            values = (luck < np.quantile(luck, share)).astype(float)
            if benchmark == "alpaca_eval":
                values = np.round(np.clip(values * 0.96 + words.random.beta(1, 12, size) * (1 - 2 * values), 0, 1), 3)
            _write(run, benchmark, prompts[benchmark], values.tolist(), words)
        method = "passthrough" if name in EXPERTS else name.rsplit("-", 2)[0]
        ours = {"name": name, "spec": spec, "digest": f"{number:064x}", "fingerprint": f"{number * 7919 + 1:064x}"}
        config = {**ours, "engine": "hf", "keys": {"merge_method": method}}
        results: dict[str, Any] = {
            "results": {TASKS[each]: {"alias": each} for each in sizes},
            "config": {"model": "della_merged", "della_bench": config},
            "date": 1_780_000_000.0 + 3600 * number,
        }
        (run / "results_t.json").write_text(json.dumps(results))


def _write(run: Path, benchmark: str, prompts: list[str], values: list[float], words: Words) -> None:
    log = run / f"samples_{TASKS[benchmark]}_t.jsonl"
    scorer = JUDGES[benchmark]
    with log.open("w") as samples, (run / f"scores/{benchmark}.{scorer['name']}.items.jsonl").open("w") as scored:
        for index, (prompt, value) in enumerate(zip(prompts, values, strict=True)):
            right = value >= 0.5
            answer = words.text(700)
            ask = f"Below is an instruction that describes a task.\n\n### Instruction:\n{prompt}\n\n### Response:"
            key = {"doc_id": index, "doc_hash": f"{benchmark} {index}"}
            sample = {**key, "doc": {}, "target": words.text(20), "resps": [[answer]], "filter": "none"}
            samples.write(json.dumps({**sample, "arguments": {"gen_args_0": {"arg_0": ask}}}) + "\n")
            verdict = {"gsm8k": ("incorrect", "correct"), "alpaca_eval": ("lost", "won"), "mbpp": ("failed", "passed")}
            why = f"AssertionError in test {index % 3 + 1}" if benchmark == "mbpp" and not right else words.text(160)
            item = {"schema": 1, **key, "filter": "none", "value": value, "verdict": verdict[benchmark][right]}
            scored.write(json.dumps({**item, "answer": answer, "explanation": why}) + "\n")
    mean = 100 * sum(values) / len(values)
    half = 196 * (mean / 100 * (1 - mean / 100) / len(values)) ** 0.5
    score = {
        "schema": 1, "benchmark": benchmark, "metric": METRICS[benchmark], "value": mean,
        "interval": [max(0.0, mean - half), min(100.0, mean + half)], "n": len(values), "unscored": 0, "scorer": scorer,
        "detail": {"samples": log.name},
    }  # fmt: skip
    (run / f"scores/{benchmark}.{scorer['name']}.json").write_text(json.dumps(score))


def make_wide_runs(folder: Path, rows: int, tasks: int, items: int) -> None:
    """Write `rows` run folders as lm-eval does, with `items` items each over so many tasks of multiple choice."""
    random = np.random.default_rng(11)
    each = max(2, items // tasks)
    names = [f"task_{number:03d}" for number in range(tasks)]
    ease = {name: random.normal(0.5, 1, each) for name in names}
    for number, (name, spec, shares) in enumerate(_models(rows)):
        run = folder / f"{name}-{number}"
        run.mkdir(parents=True)
        results = {}
        for task in names:
            right = (random.random(each) < 1 / (1 + np.exp(-ease[task] - shares[0]))).astype(float)
            error = right.std(ddof=1) / each**0.5
            results[task] = {"alias": task, "acc,none": right.mean(), "acc_stderr,none": error}
            with (run / f"samples_{task}_t.jsonl").open("w") as samples:
                for index, value in enumerate(right):
                    choices = {
                        f"gen_args_{one}": {"arg_0": f"Question {index} of {task}", "arg_1": f" {one}"}
                        for one in "0123"
                    }
                    row = {"doc_id": index, "doc_hash": f"{task} {index}", "doc": {}, "target": "0", "filter": "none",
                           "arguments": choices, "resps": [[["-1.5", "False"]]] * 4,
                           "filtered_resps": [["-1.5", "False"]] * 4, "metrics": ["acc"], "acc": value}  # fmt: skip
                    samples.write(json.dumps(row) + "\n")
        ours = {"name": name, "spec": spec, "digest": f"{number:064x}", "fingerprint": f"{number * 7919 + 1:064x}"}
        config = {**ours, "engine": "hf", "keys": {"merge_method": "passthrough"}}
        whole: dict[str, Any] = {
            "results": results,
            "n-samples": {task: {"original": each, "effective": each} for task in names},
            "config": {"model": "della_merged", "della_bench": config},
            "date": 1_780_000_000.0 + 3600 * number,
        }
        (run / "results_t.json").write_text(json.dumps(whole))


def opening_seconds(page: Path, runs: int, chromium: str) -> tuple[float, ...]:
    """Return median seconds: until `page` is painted, is read to its end, is sorted; from a click to samples."""
    from playwright.sync_api import sync_playwright

    painted = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
    sort = f"""async () => {{
        const heads = [...document.querySelectorAll("#leaderboard thead th[data-key]:not([hidden]) button")];
        const start = performance.now();
        heads.at(-1).click();
        await ({painted})();
        return performance.now() - start;
    }}"""
    opened, loaded, sorted_, unpacked = [], [], [], []
    with sync_playwright() as playwright:
        for _ in range(runs):
            browser = playwright.chromium.launch(
                executable_path=chromium, args=["--no-sandbox", "--disable-gpu", "--no-first-run"]
            )
            tab = browser.new_page(viewport={"width": 1400, "height": 900})
            start = time.perf_counter()
            tab.goto(page.as_uri(), wait_until="commit", timeout=120_000)
            tab.wait_for_selector("html[data-ready=true]", timeout=120_000)
            tab.evaluate(painted)
            opened.append(time.perf_counter() - start)
            tab.wait_for_load_state("load", timeout=120_000)
            loaded.append(time.perf_counter() - start)
            sorted_.append(tab.evaluate(sort) / 1000)
            start = time.perf_counter()
            tab.locator("button.cell").first.click()
            tab.wait_for_selector("#item pre")
            tab.evaluate(painted)
            unpacked.append(time.perf_counter() - start)
            browser.close()
    return tuple(map(statistics.median, (opened, loaded, sorted_, unpacked)))


def main() -> None:
    """Run the benchmark and print its numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=50)
    parser.add_argument("--items", type=int, default=sum(SIZES.values()), help="items a row, over all benchmarks")
    parser.add_argument("--tasks", type=int, default=0, help="of lm-eval, in the place of the three benchmarks")
    parser.add_argument("--runs", type=int, default=5, help="times that the page is opened; 0: not at all")
    parser.add_argument("--keep", type=Path, help="write the page here and leave it")
    parser.add_argument("--chromium", default=shutil.which("chromium"))
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()

    from della_bench.results.leaderboard import build_table
    from della_bench.results.page import write_page

    with tempfile.TemporaryDirectory() as name:
        if args.tasks:
            make_wide_runs(Path(name) / "runs", args.rows, args.tasks, args.items)
        else:
            make_runs(Path(name) / "runs", args.rows, args.items)
        start, processor = time.perf_counter(), time.process_time()
        table = build_table([Path(name) / "runs"])
        read, read_processor = time.perf_counter() - start, time.process_time() - processor
        page = args.keep or Path(name) / "page.html"
        start, processor = time.perf_counter(), time.process_time()
        write_page(table, page)
        written, written_processor = time.perf_counter() - start, time.process_time() - processor
        found: dict[str, Any] = {
            "rows": args.rows,
            "items": args.items,
            "tasks": args.tasks or len(SIZES),
            "megabytes": page.stat().st_size / 1e6,
            "read_seconds": read,
            "read_processor_seconds": read_processor,
            "write_seconds": written,
            "write_processor_seconds": written_processor,
        }
        if args.runs:
            if args.chromium is None:
                parser.error("no chromium found: name it with --chromium, or give --runs 0")
            names = ("open_seconds", "load_seconds", "sort_seconds", "samples_seconds")
            found |= dict(zip(names, opening_seconds(page, args.runs, args.chromium), strict=True))
    if args.json:
        print(json.dumps(found))
    else:
        print("\n".join(f"{key:16} {value:.2f}" for key, value in found.items()))


if __name__ == "__main__":
    main()
