"""The batch interface of the stub server: files go up, a batch is made of one, and its results are files again."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from . import stub


class BatchServer:
    """`answer(request)` gives the words for one request, None for no result, or an error's (status, body).

    A batch takes `looks` looks until it has ended as `status`; `before_answer` is called with the path of every call.
    """

    def __init__(self, answer: Callable[[dict[str, Any]], Any], status: str = "completed", looks: int = 2) -> None:
        self.answer, self.status, self.looks = answer, status, looks
        self.files: dict[str, str] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.before_answer: Callable[[str, str], None] = lambda *_: None
        self.after_create: Callable[[], Any] = lambda: None

    def __call__(self, method: str, path: str, body: bytes) -> Any:
        path = path.partition("?")[0].removeprefix("/v1")
        self.before_answer(method, path)
        if (method, path) == ("POST", "/files"):
            return self._upload(body)
        if (method, path) == ("POST", "/batches"):
            made = self._create(json.loads(body))
            return self.after_create() or (200, self._seen(made))
        if (method, path) == ("GET", "/batches"):
            data = [self._seen(batch) for batch in self.batches.values()]
            return 200, {"object": "list", "data": data, "has_more": False}
        if found := re.fullmatch(r"/batches/(\w+)", path):
            return 200, self._seen(self._look(self.batches[found[1]]))
        if found := re.fullmatch(r"/files/(\w+)/content", path):
            return 200, self.files[found[1]].encode()
        return 404, stub.error("no such thing")

    def _upload(self, body: bytes) -> Any:
        name = f"file{len(self.files)}"
        self.files[name] = "\n".join(re.findall(r'^\{"custom_id".*\}', body.decode(), re.M))
        return 200, {"id": name, "object": "file", "bytes": 1, "created_at": 1, "filename": "f", "purpose": "batch"}

    def _create(self, wanted: dict[str, Any]) -> dict[str, Any]:
        name = f"batch{len(self.batches)}"
        batch = {"id": name, "looks": 0, "status": "in_progress", **wanted}
        self.batches[name] = batch
        self.asked += [json.loads(line)["custom_id"] for line in self.files[wanted["input_file_id"]].splitlines()]
        return batch

    def _look(self, batch: dict[str, Any]) -> dict[str, Any]:
        batch["looks"] += 1
        if batch["looks"] >= self.looks and batch["status"] == "in_progress":
            batch["status"] = self.status
            if self.status != "failed":
                self._finish(batch)
        return batch

    def _finish(self, batch: dict[str, Any]) -> None:
        right: list[str] = []
        wrong: list[str] = []
        for line in self.files[batch["input_file_id"]].splitlines():
            row = json.loads(line)
            found = self.answer(row["body"])
            result: dict[str, Any] = {"id": "r", "custom_id": row["custom_id"], "error": None, "response": None}
            if found is None:
                result["error"] = {"code": "batch_expired", "message": "not in time"}
            elif isinstance(found, str):
                result["response"] = {"status_code": 200, "body": stub.completion(found)}
            else:
                result["response"] = {"status_code": found[0], "body": found[1]}
            (right if isinstance(found, str) else wrong).append(json.dumps(result))
        for key, lines in (("output_file_id", list(reversed(right))), ("error_file_id", wrong)):
            if lines:
                batch[key] = f"file{len(self.files)}"
                self.files[batch[key]] = "\n".join(lines) + "\n"

    def _seen(self, batch: dict[str, Any]) -> dict[str, Any]:
        errors = {"object": "list", "data": [{"code": "x", "message": "the model does not do batches"}]}
        return {
            **{key: value for key, value in batch.items() if key != "looks"},
            "object": "batch",
            "created_at": 1,
            "errors": errors if batch["status"] == "failed" else None,
        }
