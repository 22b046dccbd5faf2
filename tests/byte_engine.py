"""A tokenizer of single bytes as Hugging Face's library writes it, beside a model that transformers made."""

from __future__ import annotations

from tokenizers import Tokenizer, decoders, models, pre_tokenizers


def byte_engine(special):
    """The 256 bytes behind one special token of id 0."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    engine = Tokenizer(models.BPE({special: 0} | {letter: i + 1 for i, letter in enumerate(alphabet)}, []))
    engine.pre_tokenizer, engine.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    engine.add_special_tokens([special])
    return engine
