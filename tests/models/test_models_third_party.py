"""Our shapes against transformers' models with the same weights: equal logits, so that an export is stock."""

import model_checks
import pytest
import torch
import transformers

from lmcore.models.config import DecoderConfig

VOCAB = 300
LIMIT = 1e-5


def shaken(config):
    return model_checks.shaken(config, VOCAB)


def decoder_state(model, mlp):
    """transformers' names for a Llama-like model's weights."""
    c, own = model.config, model.state_dict()
    state = {"model.embed_tokens.weight": own["embed.weight"], "model.norm.weight": own["norm.weight"]}
    state["lm_head.weight"] = own.get("head.weight", own["embed.weight"])
    for i in range(c.n_layers):
        ours, theirs = f"blocks.{i}.", f"model.layers.{i}."
        for kind in ("weight", "bias"):
            if f"{ours}attn.qkv.{kind}" in own:
                parts = own[f"{ours}attn.qkv.{kind}"].split(c.qkv_rows)
                state |= {f"{theirs}self_attn.{x}_proj.{kind}": part for x, part in zip("qkv", parts, strict=True)}
                state[f"{theirs}self_attn.o_proj.{kind}"] = own[f"{ours}attn.o.{kind}"]
                state |= {f"{theirs}mlp.{part}_proj.{kind}": own[f"{ours}mlp.{part}.{kind}"] for part in mlp}
        state[f"{theirs}input_layernorm.weight"] = own[f"{ours}attn_norm.weight"]
        state[f"{theirs}post_attention_layernorm.weight"] = own[f"{ours}mlp_norm.weight"]
        if c.qk_norm:
            state |= {f"{theirs}self_attn.{x}_norm.weight": own[f"{ours}attn.{x}_norm.weight"] for x in "qk"}
    return state


def largest_difference(model, theirs, state):
    missing, unexpected = theirs.load_state_dict(state, strict=False)
    assert not unexpected
    assert not [name for name in missing if not name.endswith(("attn.bias", "masked_bias"))]
    ids = torch.randint(0, VOCAB, (3, model.config.context), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        wanted = theirs.eval()(ids).logits
        ours = model(ids)
    assert wanted.std() > 0.1  # a comparison of near-zeros would prove nothing
    return (ours - wanted).abs().max()


def stock(c, **more):
    return {
        "vocab_size": VOCAB,
        "hidden_size": c.d_model,
        "intermediate_size": c.ff_width,
        "num_hidden_layers": c.n_layers,
        "num_attention_heads": c.n_heads,
        "num_key_value_heads": c.kv_heads,
        "head_dim": c.head_width,
        "max_position_embeddings": c.context,
        "rms_norm_eps": c.norm_eps,
        "rope_parameters": {"rope_type": "default", "rope_theta": c.rope_theta},
        "tie_word_embeddings": c.tie_embeddings,
        "attention_bias": c.bias,
        **more,
    }


SMALL = {"n_layers": 3, "d_model": 64, "n_heads": 4, "context": 48}


@pytest.mark.parametrize(
    "options",
    [
        {"n_kv_heads": 2},
        {"tie_embeddings": False},
        {"head_dim": 24, "rope_theta": 5e5},
        {"bias": True, "n_kv_heads": 1, "d_ff": 100},
    ],
)
def test_llama_shape_equals_llama(options):
    model = shaken(DecoderConfig(**SMALL, qk_norm=False, **options))
    c = model.config
    theirs = transformers.LlamaForCausalLM(transformers.LlamaConfig(**stock(c, mlp_bias=c.bias)))
    assert largest_difference(model, theirs, decoder_state(model, ("gate", "up", "down"))) < LIMIT


@pytest.mark.parametrize("options", [{}, {"n_kv_heads": 2, "head_dim": 32}, {"tie_embeddings": False}])
def test_default_shape_equals_qwen3(options):
    model = shaken(DecoderConfig(**SMALL, **options))
    theirs = transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**stock(model.config)))
    assert largest_difference(model, theirs, decoder_state(model, ("gate", "up", "down"))) < LIMIT


def test_relu2_without_qk_norm_equals_arcee():
    model = shaken(DecoderConfig(**SMALL, qk_norm=False, mlp="relu2", n_kv_heads=2))
    theirs = transformers.ArceeForCausalLM(transformers.ArceeConfig(**stock(model.config, mlp_bias=False)))
    assert largest_difference(model, theirs, decoder_state(model, ("up", "down"))) < LIMIT


def test_gpt2_shape_equals_gpt2():
    config = DecoderConfig(**SMALL, norm="layer", position="learned", mlp="gelu", bias=True, qk_norm=False)
    model = shaken(config)
    own = model.state_dict()
    theirs = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=VOCAB, n_positions=48, n_embd=64, n_layer=3, n_head=4, layer_norm_epsilon=config.norm_eps
        )
    )
    state = {"transformer.wte.weight": own["embed.weight"], "lm_head.weight": own["embed.weight"]}
    state["transformer.wpe.weight"] = own["position.weight"]
    names = {"attn_norm": "ln_1", "mlp_norm": "ln_2", "attn.qkv": "attn.c_attn", "attn.o": "attn.c_proj"}
    names |= {"mlp.up": "mlp.c_fc", "mlp.down": "mlp.c_proj"}
    for kind in ("weight", "bias"):
        state[f"transformer.ln_f.{kind}"] = own[f"norm.{kind}"]
        for i in range(3):
            for ours, name in names.items():
                tensor = own[f"blocks.{i}.{ours}.{kind}"]
                state[f"transformer.h.{i}.{name}.{kind}"] = tensor.T if tensor.ndim == 2 else tensor  # Conv1D
    assert largest_difference(model, theirs, state) < LIMIT
