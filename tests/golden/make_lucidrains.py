#!/usr/bin/python3
"""Writes golden cases with lucidrains/perceiver-pytorch (needs it, torch, einops and numpy):

    make_lucidrains.py CASE...

The package changed the names of its tensors; a case says which version of it computes it.
"""

import importlib.metadata
import sys

import numpy as np
import torch
from perceiver_pytorch import Perceiver, PerceiverIO, PerceiverLM

import cases

CLASSES = {"Perceiver": Perceiver, "PerceiverIO": PerceiverIO, "PerceiverLM": PerceiverLM}
SMALL = {"num_latents": 12, "latent_dim": 20, "latent_heads": 2, "latent_dim_head": 6}


def holes(name, *shape):
    """A mask that leaves some tokens out, the first among them."""
    mask = cases.integers(name, 4, *shape) > 0
    mask[:, :1] = False
    return mask


def calls_lm(name):
    yield {"x": cases.integers(f"{name}/0", 37, 2, 20)}
    yield {"x": cases.integers(f"{name}/1", 37, 1, 24), "mask": holes(f"{name}/1m", 1, 24)}


def calls_image(name):
    yield {"data": cases.numbers(f"{name}/0", 2, 6, 5, 3)}
    yield {"data": cases.numbers(f"{name}/1", 1, 4, 9, 3), "mask": holes(f"{name}/1m", 1, 4, 9)}


def calls_video(name):
    yield {"data": cases.numbers(f"{name}/0", 1, 3, 4, 5, 2)}
    yield {"data": cases.numbers(f"{name}/1", 2, 2, 3, 7, 2), "mask": holes(f"{name}/1m", 2, 2, 3, 7)}


def calls_axes(name):
    yield {"data": cases.numbers(f"{name}/0", 1, 2, 3, 2, 4, 3, 2)}
    yield {"data": cases.numbers(f"{name}/1", 1, 3, 2, 4, 2, 3, 2),
           "mask": holes(f"{name}/1m", 1, 3, 2, 4, 2, 3)}


def calls_io(name):
    yield {"data": cases.numbers(f"{name}/0", 2, 15, 10), "queries": cases.numbers(f"{name}/0q", 9, 4)}
    yield {"data": cases.numbers(f"{name}/1", 1, 30, 10), "mask": holes(f"{name}/1m", 1, 30),
           "queries": cases.numbers(f"{name}/1q", 140, 4)}


CASES = {
    "lucidrains-perceiver-lm": ("0.8.8", "PerceiverLM", calls_lm, {
        "dim": 16, "num_tokens": 37, "max_seq_len": 24, "depth": 3, "cross_heads": 2,
        "cross_dim_head": 5, "weight_tie_layers": True, **SMALL}),
    "lucidrains-perceiver-video": ("0.8.8", "Perceiver", calls_video, {
        "num_freq_bands": 4, "depth": 2, "max_freq": 7.5, "input_channels": 2, "input_axis": 3,
        "num_classes": 5, "cross_heads": 2, "cross_dim_head": 5, "self_per_cross_attn": 2, **SMALL}),
    "lucidrains-perceiver-axes": ("0.8.8", "Perceiver", calls_axes, {
        "num_freq_bands": 2, "depth": 1, "max_freq": 4, "input_channels": 2, "input_axis": 5,
        "num_classes": 3, "cross_dim_head": 8, **SMALL}),
    "lucidrains-perceiver-blocks": ("0.11.0", "Perceiver", calls_image, {
        "num_freq_bands": 3, "depth": 4, "max_freq": 9.0, "input_channels": 3, "cross_dim_head": 8,
        "weight_tie_layers": True, "final_classifier_head": False, **SMALL}),
    "lucidrains-perceiver-io-blocks": ("0.11.0", "PerceiverIO", calls_io, {
        "depth": 2, "dim": 10, "queries_dim": 4, "cross_heads": 1, "cross_dim_head": 16, **SMALL}),
}


def watch(model, seen):
    """What the encoder attends to, and latents before the first self-attention."""
    modules = dict(model.named_modules())
    cross = next(m for n, m in modules.items()
                 if getattr(m, "norm_context", None) is not None and "decoder" not in n)
    # Layers in order of use; the first that has queries and no context is a self-attention.
    self_attention = next(m for m in modules.values()
                          if hasattr(getattr(m, "fn", None), "to_q") and m.norm_context is None)
    def see_tokens(_, __, kwargs):
        seen.setdefault("stage.adapted_inputs", kwargs["context"])

    def see_latents(_, args):
        seen.setdefault("stage.latents_after_encode", args[0])

    cross.register_forward_pre_hook(see_tokens, with_kwargs=True)
    self_attention.register_forward_pre_hook(see_latents)


def latents_of(model, inputs):
    if isinstance(model, Perceiver):
        return model(inputs["data"], mask=inputs.get("mask"), return_embeddings=True)
    if isinstance(model, PerceiverIO):
        return model(inputs["data"], mask=inputs.get("mask"))
    at = torch.arange(inputs["x"].shape[1])
    return model.perceiver_io(model.token_emb(inputs["x"]) + model.pos_emb(at),
                              mask=inputs.get("mask"))


def run(model, call):
    inputs = {k: torch.from_numpy(v) for k, v in call.items()}
    seen = {}
    latents = latents_of(model, inputs)
    watch(model, seen)
    out = model(**inputs)
    result = {f"in.{k}": v for k, v in call.items()}
    head = not isinstance(model, Perceiver) or not isinstance(model.to_logits, torch.nn.Identity)
    result["out.logits" if head else "out.latents"] = out
    seen["stage.latents_after_process"] = latents
    return result | seen


def make(name):
    version, cls, calls, arguments = CASES[name]
    if importlib.metadata.version("perceiver-pytorch") != version:
        sys.exit(f"{name} wants perceiver-pytorch {version}")
    model = CLASSES[cls](**arguments).eval()
    state = model.state_dict()
    first, same_as = {}, {}
    for key, tensor in state.items():
        if first.setdefault(tensor.data_ptr(), key) != key:
            same_as[key] = first[tensor.data_ptr()]
    table = cases.rules({k: tuple(v.shape) for k, v in state.items()}, same_as)
    model.load_state_dict({k: torch.from_numpy(v) for k, v in cases.weights(table).items()})
    done = []
    with torch.no_grad():
        for call in calls(name):
            fresh = CLASSES[cls](**arguments).eval()
            fresh.load_state_dict(model.state_dict())
            done.append({k: np.asarray(v) for k, v in run(fresh, call).items()})
    cases.write(name, {"class": cls, **arguments}, table, done,
                {"upstream": f"lucidrains/perceiver-pytorch {version}", "class": cls})


if __name__ == "__main__":
    if not sys.argv[1:] or set(sys.argv[1:]) - CASES.keys():
        sys.exit(__doc__ + "\n" + "\n".join(f"    {k}: version {v[0]}" for k, v in CASES.items()))
    torch.manual_seed(0)
    for case in sys.argv[1:]:
        make(case)
