"""Pretrained models of antibody sequences that two Python wheels carry, and sequences sampled from them.

Both wheels are under the MIT licence, and neither is needed by the package:
`pip install --no-deps --target DIR sapiens==1.0.5` (two RoBERTa of 0.57 million weights, heavy and light chains) and
`pip install --no-deps --target DIR antiberty==0.1.3` (a BERT of 25.8 million weights). Later releases carry no weights.
They are found where Python finds modules, or in the directories that the environment variable PPL_HMM_WHEELS names.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
from pathlib import Path

import torch
from torch import Tensor

from ppl_hmm import from_masked_lm

RESIDUES = "ACDEFGHIKLMNPQRSTVWY"
#: What residues are like: hydrophobic, polar, charged.
KINDS = {"hydrophobic": "ACFGILMPVWY", "polar": "HNQST", "charged": "DEKR"}
_LONGEST = 130  # residues of a variable domain
_RENAMED = {
    "sentence_encoder.embed_tokens": "roberta.embeddings.word_embeddings",
    "sentence_encoder.embed_positions": "roberta.embeddings.position_embeddings",
    "sentence_encoder.emb_layer_norm": "roberta.embeddings.LayerNorm",
    "sentence_encoder.layers": "roberta.encoder.layer",
    "self_attn.q_proj": "attention.self.query",
    "self_attn.k_proj": "attention.self.key",
    "self_attn.v_proj": "attention.self.value",
    "self_attn.out_proj": "attention.output.dense",
    "self_attn_layer_norm": "attention.output.LayerNorm",
    "fc1": "intermediate.dense",
    "fc2": "output.dense",
    "final_layer_norm": "output.LayerNorm",
    "lm_head.weight": "lm_head.decoder.weight",
}


def folder_of(wheel: str) -> Path | None:
    """Return where a wheel is unpacked; None where it is not."""
    for entry in filter(None, os.environ.get("PPL_HMM_WHEELS", "").split(os.pathsep)):
        if (Path(entry) / wheel / "__init__.py").exists():
            return Path(entry) / wheel
    found = importlib.util.find_spec(wheel)
    return Path(found.submodule_search_locations[0]) if found and found.submodule_search_locations else None


def sapiens(chain: str):
    """Return Sapiens under our protocol, for chain 'vh' or 'vl': ids 4..23 are the residues, laws are of these."""
    from transformers import RobertaConfig, RobertaForMaskedLM

    path = folder_of("sapiens") / "models" / "v1" / f"checkpoint_{chain}.pt"
    with torch.serialization.safe_globals([argparse.Namespace]):
        weights = torch.load(path, weights_only=True, map_location="cpu")["model"]
    config = RobertaConfig(
        vocab_size=25,
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=8,
        intermediate_size=256,
        max_position_embeddings=len(weights["decoder.sentence_encoder.embed_positions.weight"]),
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        pad_token_id=1,
    )
    model = RobertaForMaskedLM(config)
    renamed = {_renamed(name): value for name, value in weights.items()}
    renamed["lm_head.decoder.bias"] = renamed["lm_head.bias"]
    renamed["roberta.embeddings.token_type_embeddings.weight"] = torch.zeros(1, 128)  # fairseq has none
    model.load_state_dict(renamed)
    return from_masked_lm(model, label_words=range(4, 24), mask_token_id=24, begin=[0], end=[2])


def antiberty():
    """Return AntiBERTy under our protocol: ids 5..24 are the residues, laws are of these."""
    from transformers import BertConfig, BertForMaskedLM

    folder = folder_of("antiberty") / "trained_models" / "AntiBERTy_md_smooth"
    weights = torch.load(folder / "pytorch_model.bin", weights_only=True, map_location="cpu")
    model = BertForMaskedLM(BertConfig.from_json_file(folder / "config.json"))
    known = model.state_dict().keys()
    model.load_state_dict({name: value for name, value in weights.items() if name in known})
    return from_masked_lm(model, label_words=range(5, 25), mask_token_id=4, begin=[2], end=[3])


def carried() -> dict[str, list[str]]:
    """Return the variable domains in the wheels' descriptions, by chain."""
    found: dict[str, list[str]] = {"vh": [], "vl": []}
    for wheel in ("sapiens", "antiberty"):
        folder = folder_of(wheel)
        for file in [] if folder is None else sorted(folder.parent.glob(f"{wheel}-*.dist-info/METADATA")):
            for text in re.findall(rf"\b[{RESIDUES}]{{100,{_LONGEST}}}\b", file.read_text()):
                chain = "vh" if text.endswith(("VSS", "VS")) else "vl"
                if text not in found[chain]:
                    found[chain].append(text)
    return found


def residues(texts: list[str], first: int) -> list[list[int]]:
    """Return ids of residues, the first of which has id ``first``."""
    return [[first + RESIDUES.index(letter) for letter in text] for text in texts]


def sampled(lm, texts: list[list[int]], n_steps: int, stream: torch.Generator, share: float = 0.15) -> Tensor:
    """Return texts (B,T) of one length that drift from given ones: a share of the sites is drawn again at every step.

    Sites are hidden together and drawn from the model's laws, each given all that is not hidden.
    """
    tokens = torch.tensor(texts)
    begin, end = (each.expand(len(tokens), -1) for each in (lm.begin, lm.end))
    for _ in range(n_steps):
        hidden = torch.rand(tokens.shape, generator=stream) < share
        read = torch.cat([begin, torch.where(hidden, lm.mask, tokens), end], dim=1)
        with torch.no_grad():
            scores = lm.model(input_ids=read).logits[:, begin.shape[1] : begin.shape[1] + tokens.shape[1]]
        laws = scores[..., lm.label_words].softmax(-1)
        drawn = torch.multinomial(laws.flatten(0, 1), 1, generator=stream).reshape(tokens.shape)
        tokens = torch.where(hidden, lm.label_words[drawn], tokens)
    return tokens


def _renamed(name: str) -> str:
    name = name.removeprefix("decoder.")
    for theirs, ours in _RENAMED.items():
        name = name.replace(theirs, ours)
    return name
