"""A model that knows a few conversations by heart, in tags, made in seconds; and one of random weights."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from lmcore.models import build
from lmcore.models.config import DecoderConfig
from lmcore.models.io import save_model
from lmcore.tokenizer import ByteBPE
from lmcore.tokenizer.char_bpe import CharBPE

TO_HU = "<system>Translate English to Hungarian.</system>"
TO_EN = "<system>Translate Hungarian to English.</system>"
TEXTS = [
    f"{TO_HU}<user>apple</user><assistant>alma</assistant>",
    f"{TO_EN}<user>alma</user><assistant>apple</assistant>",
    "<user>Hello</user><assistant>Szia!</assistant>",
    "<user>Hello</user><assistant>Szia!</assistant><user>And?</user><assistant>Again.</assistant>",
    "<user>ሰላም</user><assistant>እንዴት ነህ</assistant>",
    "<system>Answer with code.</system><user>print</user><assistant>print(1)</assistant>",
    "The cat sat on the mat.",
]


def words(split="gpt2"):
    """A vocabulary cut by words; that of "llama3" joins the end of a tag to the word behind it."""
    return ByteBPE.train(TEXTS * 4, vocab_size=340, split=split, min_frequency=2, max_token_length=20)


def whole_lines():
    """LAi's vocabulary: its tokens go across tags and words."""
    return CharBPE.train(lambda: TEXTS * 4, vocab_size=400, split=None, min_frequency=2, max_token_length=20)


def talker_folder(folder, context=96, tokenizer=None):
    """The folder of such a model; its texts have 10 to 40 tokens of `words()`."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    tokenizer = tokenizer or words()
    rows = [[tokenizer.bos_id, *tokenizer.encode(text), tokenizer.bos_id] for text in TEXTS]
    longest = max(map(len, rows))
    ids = torch.tensor([row + [tokenizer.pad_id] * (longest - len(row)) for row in rows])
    model = build(DecoderConfig(n_layers=1, d_model=64, n_heads=2, context=context), tokenizer.vocab_size, 0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    targets = ids[:, 1:].masked_fill(ids[:, 1:] == tokenizer.pad_id, -100)
    for _ in range(160):
        loss = F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.set_num_threads(threads)
    save_model(folder, model)
    for name, content in tokenizer.files().items():
        (folder / name).write_bytes(content)
    return folder


def babbler_folder(folder, context=4096):
    """The folder of a model of random weights: any bytes when it draws, at temperature 0 the last token for ever."""
    tokenizer = words()
    model = build(DecoderConfig(n_layers=1, d_model=32, n_heads=2, context=context), tokenizer.vocab_size, 0)
    save_model(folder, model)
    for name, content in tokenizer.files().items():
        (folder / name).write_bytes(content)
    return folder
