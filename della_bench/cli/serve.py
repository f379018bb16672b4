"""`della-bench serve`: vLLM's own server on a merge."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from della_bench.cli.spec import SpecArgument

if TYPE_CHECKING:
    from collections.abc import Mapping

    from della_bench.merge.stream import Merge

__all__ = ["PASS_ON", "check_address", "check_order", "run_to_its_end", "serve", "server_command", "with_own"]

PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True}

# Options of vLLM that the spec decides.
_DECIDED = ("--model", "--tokenizer", "--dtype", "--load-format", "--model-loader-extra-config", "--revision",
            "--tokenizer-revision", "--chat-template")  # fmt: skip


def serve(
    context: typer.Context,
    text: SpecArgument,
    host: Annotated[str, typer.Option(help="Address to listen on; this machine alone by default.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8000,
    resident: Annotated[str, typer.Option(help="Where the sources stay: disk, cpu or gpu.")] = "disk",
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run a repository's own Python code.")
    ] = False,
) -> None:
    """Start vLLM's OpenAI-compatible server on a merge made in its memory.

    Further options are vLLM's own (see: vllm serve --help): della-bench serve SPEC --max-model-len 4096
    """
    import os
    import sys

    from della_bench.cli.console import show_warnings
    from della_bench.merge.stream import Merge
    from della_bench.models.vllm_engine.requirements import require_vllm
    from della_bench.spec import MergeSpec

    show_warnings()
    check_order(text, context.args)
    spec = MergeSpec.parse(text)
    require_vllm()
    if not {"--uds", "--headless"} & {_name(option) for option in context.args}:
        check_address(host, port)
    merge = Merge(spec, trust_remote_code=trust_remote_code)
    command = server_command(
        merge,
        [*context.args, "--host", host, "--port", str(port)],
        resident=resident,
        trust_remote_code=trust_remote_code,
    )
    sys.stdout.flush()
    if merge.vocabulary is not None and merge.vocabulary.is_made:
        raise typer.Exit(run_to_its_end(command))  # this process stays, to remove the tokenizer's folder
    os.execv(command[0], command)


def check_order(text: str, options: list[str]) -> None:
    """Raise UsageError where the spec does not come first, or something else than an option comes behind it."""
    from della_bench.errors import UsageError

    if text.startswith("--"):
        raise UsageError(f"{text}: the spec comes first, and vLLM's options behind it: della-bench serve SPEC {text}")
    if options and not options[0].startswith("-"):
        raise UsageError(f"{options[0]}: one spec is served, and what comes behind it are vLLM's options")


def check_address(host: str, port: int) -> None:
    """Raise UsageError where nobody can listen there, before an engine is started for it."""
    import socket

    from della_bench.errors import UsageError

    try:
        wanted = socket.AF_INET6 if ":" in host else socket.AF_INET  # as vLLM does
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, wanted, socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(address)
    except OSError as error:
        raise UsageError(f"--host {host} --port {port}: cannot be listened on ({error.strerror or error})") from error


def run_to_its_end(command: list[str]) -> int:
    """Run a command until it ends by itself, by Ctrl-C or by this process's SIGTERM; return its exit status."""
    import signal
    import subprocess

    with subprocess.Popen(command) as server:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C reaches the server, too
        signal.signal(signal.SIGTERM, lambda number, _: server.send_signal(number))
        return server.wait()


def server_command(merge: Merge, options: list[str], *, resident: str, trust_remote_code: bool) -> list[str]:
    """Return the command that serves a merge; `options` are vLLM's own.

    Raises SpecError where an option contradicts the spec, or vLLM cannot run the model.
    """
    import json
    import sys

    from della_bench.errors import SpecError
    from della_bench.merge.config import config_changes, dtype_of
    from della_bench.merge.templates import chosen_template
    from della_bench.merge.vocabulary import generation_changes
    from della_bench.models.residency import check_place
    from della_bench.models.vllm_engine import versions
    from della_bench.models.vllm_engine.plugin import LOAD_FORMAT
    from della_bench.models.vllm_engine.requirements import plugin_fault, require_architecture
    from della_bench.models.vllm_engine.settings import Settings

    spec = merge.spec
    given = {_name(option) for option in options if option.startswith("--")}
    faults = [f"{option}: the spec decides it" for option in _DECIDED if option in given]
    if fault := plugin_fault():
        faults.append(fault)
    if faults:
        raise SpecError(faults)
    require_architecture(merge)
    check_place(resident, versions.device())
    settings = Settings.read({"spec": spec, "resident": resident}).as_config()
    command = [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", str(merge.base.folder)]
    command += ["--load-format", LOAD_FORMAT, "--model-loader-extra-config", json.dumps(settings)]
    command += ["--dtype", dtype_of(merge), "--tokenizer", str(merge.tokenizer_folder)]
    if spec.chat_template is not None:
        template = chosen_template(merge).content
        if isinstance(template, dict):
            raise SpecError(
                f"chat_template={spec.chat_template}: it has several templates, and vLLM's server takes one"
            )
        if template:
            command += ["--chat-template", template]
    options = with_own(options, "--hf-overrides", config_changes(merge))
    options = with_own(options, "--override-generation-config", generation_changes(merge.vocabulary, merge.base))
    if "--served-model-name" not in given:
        command += ["--served-model-name", spec.display_name]
    if trust_remote_code:
        command.append("--trust-remote-code")
    return [*command, *options]


def with_own(options: list[str], name: str, own: Mapping[str, object]) -> list[str]:
    """Return options of vLLM with `own` in the JSON object of one of them; what stands there already is kept.

    vLLM also takes single keys (`--hf-overrides.vocab_size 300`), but only where the object is not given beside them.
    """
    import json

    if not own:
        return options
    if any(_name(option).startswith(f"{name}.") for option in options):
        return [*(word for key, value in own.items() for word in (f"{name}.{key}", json.dumps(value))), *options]
    # vLLM takes the last
    place = max((place for place, option in enumerate(options) if _name(option) == name), default=None)
    if place is None:
        return [name, json.dumps(own), *options]
    _, joined, text = options[place].partition("=")
    if not joined:
        text = options[place + 1] if place + 1 < len(options) else ""
    try:
        given = json.loads(text)
    except ValueError:
        return options  # vLLM says what is wrong with it
    if not isinstance(given, dict):
        return options
    return [*options[:place], name, json.dumps({**own, **given}), *options[place + (1 if joined else 2) :]]


def _name(option: str) -> str:
    """Return an option without its value, in the one of its two spellings that vLLM's help has."""
    return option.partition("=")[0].replace("_", "-")
