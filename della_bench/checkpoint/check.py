"""Whether base and experts fit together, found out from the headers before any weight is merged."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

from della_bench.checkpoint.architecture import Architectures
from della_bench.checkpoint.canonical import EMBEDDING, HEAD, is_tied, parameters, vocab_size
from della_bench.checkpoint.config_shapes import shape_faults
from della_bench.checkpoint.differences import some, warn_of_fit, warn_of_source
from della_bench.checkpoint.fit import Fit
from della_bench.checkpoint.model import ModelFolder
from della_bench.checkpoint.pairing import Pairing, pair
from della_bench.checkpoint.quantised import quantised_fault
from della_bench.errors import CheckpointError
from della_bench.spec import MergeSpec

__all__ = ["check_fit"]

log = logging.getLogger(__name__)

_FACTOR = re.compile(r"\.lora_(embedding_)?[AB](\.|$)")


def check_fit(
    base: ModelFolder, experts: Sequence[ModelFolder], spec: MergeSpec | None = None, others: Sequence[str] = ()
) -> list[Fit]:
    """Return how each expert fits the base.

    spec: of the merge, whose settings warnings speak of. others: faults that were found before, to be told with these.

    Raises CheckpointError that lists every mismatch of every expert: another architecture, quantised weights, missing,
    unexpected or differently shaped parameters that the model needs. Differences that a merge survives (dtype, config,
    tokenizer, vocabulary rows, tensors that the model does not need) are logged as warnings, once each.
    """
    unusable = {
        source: fault
        for source in dict.fromkeys([base, *experts])
        if (fault := quantised_fault(source) or _empty_fault(source) or _unmerged_fault(source))
    }
    faults = [*others, *unusable.values()]
    known = Architectures(base)
    if base not in unusable:
        faults += _own_faults(base, known) or shape_faults(base, known)
    for source in dict.fromkeys([base, *experts]):
        if needed := _absent(source, known)[0]:
            faults.append(f"{source.label}: its index names {some(needed)} that no shard holds and the model needs")
    pairings: dict[ModelFolder, Pairing] = {}
    for expert in dict.fromkeys(experts):
        if base not in unusable and expert not in unusable:  # all its parameters would only hide the reason
            pairings[expert] = pair(base, expert, known)
            faults += pairings[expert].faults
    if faults:
        raise CheckpointError("base and experts do not fit together:\n" + "\n".join(faults))
    fits = _fits(base, pairings)
    for source in dict.fromkeys([base, *experts]):
        warn_of_source(source)
        if other := _absent(source, known)[1]:
            log.warning("%s: its index names %s that no shard holds: left out", source.label, some(other))
    for fit in fits.values():
        warn_of_fit(fit, spec)
    return [fits[expert] for expert in experts]


def _empty_fault(source: ModelFolder) -> str:
    """Return why a source is no whole model: weights without elements; empty where it has none."""
    empty = [name for name, info in source.tensors.items() if info.is_float and 0 in info.shape]
    if not empty:
        return ""
    return (
        f"{source.label}: {some(empty)} without elements: so DeepSpeed's ZeRO-3 saves weights that were not gathered; "
        "make whole ones by the zero_to_fp32.py that it writes beside its checkpoints"
    )


def _unmerged_fault(source: ModelFolder) -> str:
    """Return why a whole model that was saved with an adapter around its layers is none; empty where it was not."""
    factors = [name for name in source.tensors if _FACTOR.search(name)]
    if not factors:
        return ""
    return (
        f"{source.label}: {some(factors)} are a LoRA adapter's, saved within the whole model, which does not say how "
        "it is scaled: save the model after peft's merge_and_unload(), or the adapter alone by its save_pretrained()"
    )


def _own_faults(base: ModelFolder, known: Architectures) -> list[str]:
    """Return why the base, and so any merge, is no model by itself: transformers would make up or refuse a weight."""
    faults = []
    named = (base.config.get("architectures") or ["Model"])[0]
    has_head = any(map(HEAD.search, base.tensors))
    if not has_head and not named.endswith("Model") and not is_tied(base):
        architecture = known.of(base)
        has_head = architecture is not None and any(map(architecture.is_head, base.tensors))  # of another name
        if architecture and (head := architecture.head) and not has_head:
            faults.append(
                f"{base.label}: {head} is missing: config.json names a {named} whose head is not tied to the embedding "
                "(tie_word_embeddings), and a model loaded from it would have a random one"
            )
    size = vocab_size(base.config)
    for name, info in base.tensors.items():
        if EMBEDDING.search(name) and size and info.shape[0] != size:
            architecture = known.of(base)
            if architecture and architecture.is_embedding(name) and architecture.shape(name) != info.shape:
                faults.append(
                    f"{base.label}: {name} is {info}, but config.json says vocab_size {size}: no engine loads it; "
                    f"set vocab_size to {info.shape[0]}"
                )
    return faults


def _absent(source: ModelFolder, known: Architectures) -> tuple[list[str], list[str]]:
    """Return what an index names and no shard holds: tensors that the model needs, and others."""
    absent = [name for name in source.absent if not (HEAD.search(name) and is_tied(source))]
    architecture = known.of(source) if absent else None
    needed = [name for name in absent if architecture is None or architecture.needs(name)]
    return needed, [name for name in absent if name not in needed]


def _fits(base: ModelFolder, pairings: dict[ModelFolder, Pairing]) -> dict[ModelFolder, Fit]:
    """Return the fits, all with the same parameters: a head that one expert has is the embedding in those without."""
    wanted = parameters(base)
    head, embedding = next(
        (pairing.head for expert, pairing in pairings.items() if pairing.head and expert.concerns(pairing.head[0])),
        ("", ""),
    )
    if head:
        wanted[head] = wanted[embedding]
    fits = {}
    for expert, pairing in pairings.items():
        names = {name: own for name, own in pairing.names.items() if name in wanted}
        if head and (own := pairing.head[0] if pairing.head else names.get(embedding)):
            names[head] = own
        fits[expert] = Fit(expert, names, base, wanted, {head: embedding} if head else {}, pairing.left_out)
    return fits
