#!/usr/bin/python3
"""Writes golden cases with krasserm/perceiver-io 0.11.0 (needs it, transformers 4.30, torch, einops, numpy):

    make_krasserm.py [CASE...]

What the package needs for training and for media only is not loaded: empty modules stand in.
"""

import json
import pathlib
import sys
import tempfile
import types

import numpy as np
import torch


def stand_in(name, **what):
    module = types.ModuleType(name)
    module.__dict__.update(what)
    sys.modules[name] = module


stand_in("fairscale")
stand_in("fairscale.nn", checkpoint_wrapper=None)
stand_in("perceiver.data.vision")
stand_in("perceiver.data.vision.optical_flow", OpticalFlowProcessor=None, render_optical_flow=None)
for task, names in {"text.mlm": ["LitMaskedLanguageModel"], "text.classifier": ["LitTextClassifier"],
                    "vision.image_classifier": ["LitImageClassifier"]}.items():
    stand_in(f"perceiver.model.{task}.lightning", **dict.fromkeys(names))
stand_in("perceiver.model.text.mlm.utils", MaskFiller=None)

# The stand-ins must be there first.
from perceiver.model.core import ClassificationDecoderConfig  # noqa: E402
from perceiver.model.text import classifier as text  # noqa: E402
from perceiver.model.text import mlm  # noqa: E402
from perceiver.model.text.common import TextEncoderConfig  # noqa: E402
from perceiver.model.vision import image_classifier as image  # noqa: E402
from perceiver.model.vision import optical_flow as flow  # noqa: E402
from perceiver.model.vision.optical_flow.huggingface import (  # noqa: E402
    OpticalFlowPerceiver, OpticalFlowPerceiverConfig)

import cases  # noqa: E402

TEXT = {"vocab_size": 262, "max_seq_len": 30, "num_input_channels": 18}


def padded(name, *shape):
    mask = np.ones(shape, np.int64)
    mask[:, -1 - cases.integers(name, 8, 1)[0]:] = 0
    mask[:, 3:5] = 0
    return mask


def ids(name, *shape):
    return cases.integers(name, 262, *shape)


def image_classifier(name, cross_shared, block_shared, channels):
    encoder = image.ImageEncoderConfig(
        image_shape=(9, 12, channels), num_frequency_bands=5, num_cross_attention_heads=1,
        num_cross_attention_layers=2, first_cross_attention_layer_shared=cross_shared,
        num_self_attention_heads=4, num_self_attention_layers_per_block=2,
        num_self_attention_blocks=3, first_self_attention_block_shared=block_shared)
    decoder = ClassificationDecoderConfig(num_classes=10, num_output_query_channels=14,
                                          num_cross_attention_heads=2)
    config = image.ImageClassifierConfig(encoder, decoder, num_latents=8, num_latent_channels=16)
    return (image.PerceiverImageClassifier(image.PerceiverImageClassifierConfig(
        config, id2label={i: i for i in range(10)})),
        [{"inputs": cases.numbers(f"{name}/{i}", 1 + i, 9, 12, channels)} for i in range(2)])


def text_classifier(name):
    encoder = TextEncoderConfig(
        num_cross_attention_heads=2, num_cross_attention_qk_channels=12,
        num_cross_attention_v_channels=20, num_self_attention_heads=2,
        num_self_attention_qk_channels=8, num_self_attention_v_channels=20,
        num_self_attention_layers_per_block=2, self_attention_widening_factor=2, **TEXT)
    decoder = ClassificationDecoderConfig(num_classes=3, num_output_query_channels=10,
                                          num_cross_attention_heads=1)
    config = text.TextClassifierConfig(encoder, decoder, num_latents=7, num_latent_channels=20)
    return text.PerceiverTextClassifier(text.PerceiverTextClassifierConfig(config)), [
        {"input_ids": ids(f"{name}/0", 2, 17)},
        {"input_ids": ids(f"{name}/1", 1, 30), "attention_mask": padded(f"{name}/m", 1, 30)}]


def language_model(name, tied):
    encoder = TextEncoderConfig(
        num_cross_attention_heads=2, num_self_attention_heads=2, num_self_attention_blocks=2,
        num_self_attention_layers_per_block=1, cross_attention_widening_factor=2, **TEXT)
    decoder = mlm.TextDecoderConfig(
        vocab_size=262, max_seq_len=32, num_output_query_channels=None if tied else 12,
        num_cross_attention_heads=3, num_cross_attention_qk_channels=6,
        num_cross_attention_v_channels=18, cross_attention_residual=not tied)
    config = mlm.MaskedLanguageModelConfig(encoder, decoder, num_latents=6, num_latent_channels=16)
    return mlm.PerceiverMaskedLanguageModel(mlm.PerceiverMaskedLanguageModelConfig(config)), [
        {"input_ids": ids(f"{name}/0", 1, 13)},
        {"input_ids": ids(f"{name}/1", 1, 22), "attention_mask": padded(f"{name}/m", 1, 22)}]


def optical_flow(name):
    encoder = flow.OpticalFlowEncoderConfig(
        image_shape=(10, 14), num_patch_input_channels=27, num_patch_hidden_channels=12,
        num_frequency_bands=3, num_cross_attention_heads=1, num_self_attention_heads=2,
        num_self_attention_layers_per_block=2)
    decoder = flow.OpticalFlowDecoderConfig(
        image_shape=(10, 14), num_cross_attention_heads=1, num_cross_attention_qk_channels=16,
        num_cross_attention_v_channels=16, cross_attention_residual=False)
    config = flow.OpticalFlowConfig(encoder, decoder, num_latents=9, num_latent_channels=16)
    return OpticalFlowPerceiver(OpticalFlowPerceiverConfig(config)), [
        {"inputs": cases.numbers(f"{name}/{i}", 1, 2, 27, 10, 14)} for i in range(2)]


CASES = {
    "krasserm-image-classifier": lambda n: image_classifier(n, False, False, 1),
    "krasserm-image-classifier-shared": lambda n: image_classifier(n, True, True, 3),
    "krasserm-text-classifier": text_classifier,
    "krasserm-masked-lm": lambda n: language_model(n, True),
    "krasserm-masked-lm-untied": lambda n: language_model(n, False),
    "krasserm-optical-flow": optical_flow,
}


def run(model, call):
    seen = {}
    encoder = model.backend_model.encoder

    def keep(name, value):
        seen.setdefault(f"stage.{name}", value)

    hooks = [
        encoder.input_adapter.register_forward_hook(lambda m, a, out: keep("adapted_inputs", out)),
        encoder.cross_attn_1.register_forward_hook(
            lambda m, a, out: keep("latents_after_encode", out.last_hidden_state)),
        encoder.register_forward_hook(lambda m, a, out: keep(
            "latents_after_process", out[0] if isinstance(out, tuple) else out))]
    out = model(**{k: torch.from_numpy(v) for k, v in call.items()})
    for hook in hooks:
        hook.remove()
    return {f"in.{k}": v for k, v in call.items()} | \
        {k: np.asarray(v) for k, v in {"out.logits": out.logits, **seen}.items()}


def make(name):
    model, calls = CASES[name](name)
    model.eval()
    state = model.state_dict()
    buffers = dict(model.named_buffers())
    table = cases.rules({k: tuple(v.shape) for k, v in state.items()}, {})
    weights = {k: torch.from_numpy(v) for k, v in cases.weights(table).items()}
    for key in buffers:
        weights[key] = state[key]
    model.load_state_dict(weights)
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        done = [run(model, call) for call in calls]
        model.config.save_pretrained(folder)
        config = json.loads((pathlib.Path(folder) / "config.json").read_text())
    cases.write(name, config, table, done,
                {"upstream": "krasserm/perceiver-io 0.11.0", "class": type(model).__name__})


if __name__ == "__main__":
    if set(sys.argv[1:]) - CASES.keys():
        sys.exit(__doc__ + "\n" + "\n".join(f"    {name}" for name in CASES))
    for case in sys.argv[1:] or CASES:
        make(case)
