"""The model card of an exported folder. Every value that a person or a page gave is escaped."""

from __future__ import annotations

import html
import re
from typing import Any

from lmcore.export.architectures import SINCE
from lmcore.models.config import DecoderConfig

_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+!|~$:@.-])")


def model_card(
    name: str,
    architecture: str,
    config: DecoderConfig,
    *,
    vocab_size: int,
    parameters: int,
    n_bytes: int,
    headline: dict[str, Any] | None,
) -> str:
    """README.md. `headline` is that of an evaluation.json; without one the card makes no claim of quality."""
    shape = {
        "architecture": f"{architecture} (transformers {SINCE[architecture]} or later)",
        "parameters": f"{parameters:,}",
        "size": f"{n_bytes / 1e6:.1f} MB, float32",
        "layers": str(config.n_layers),
        "width": str(config.d_model),
        "heads": f"{config.n_heads} of {config.head_width}, {config.kv_heads} for keys and values",
        "vocabulary": f"{vocab_size:,} tokens",
        "context": f"{config.context:,} tokens",
    }
    rows = "\n".join(f"| {key} | {value} |" for key, value in shape.items())
    return f"""---
library_name: transformers
pipeline_tag: text-generation
tags:
- collect-train
---

# {escape(name)}

A language model made with collect-train from the texts that its maker collected.

| | |
|---|---|
{rows}
{_quality(headline)}
## Use

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained(".")
tokenizer = AutoTokenizer.from_pretrained(".")
prompt = tokenizer(tokenizer.bos_token + "The", return_tensors="pt")
print(tokenizer.decode(model.generate(**prompt, max_new_tokens=50)[0], skip_special_tokens=True))
```

Every document it was trained on starts with `<|endoftext|>`, so start a prompt with it. A text that contains a marker
such as `<|user|>` is read as that marker by transformers: remove markers from text you do not trust.
`reference.json` of the export artifact holds prompts, token ids and log-probabilities to check a copy against.

## Limits

It has learned what its texts say, right or wrong, and makes things up. Judge it before you rely on it.
"""


def _quality(headline: dict[str, Any] | None) -> str:
    if headline is None:
        return ""
    low, high = headline["interval"]
    return f"""
## Quality

On {headline["documents"]:,} held-out documents ({headline["bytes"]:,} bytes) it needs
**{headline["bits_per_byte"]:.3f} bits per byte** (95 % interval {low:.3f} to {high:.3f}), a perplexity of
{headline["perplexity"]:.1f} per token of its own vocabulary.
"""


def escape(text: str) -> str:
    """`text` on one line with nothing that Markdown or HTML would act on."""
    return _MARKDOWN.sub(r"\\\1", html.escape(" ".join(text.split())))
