"""Models that transformers itself made, read from their folders: equal logits, equal ids, and what is refused."""

from __future__ import annotations

import json

import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from lmcore.export.hf_import import import_hf
from lmcore.tokenizer import load_tokenizer
from storage.errors import RunError, UserError

LIMIT = 1e-4
TEXTS = ["The river sings.", "  two  spaces\n\n", "Kérem, jöjjön be!", "ሰላም ለዓለም", "🦆🦆 <|endoftext|> 1234", ""]


def vocabulary(size=320, specials=("<|endoftext|>",), **options):
    engine = Tokenizer(models.BPE())
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=options.get("add_prefix_space", False))
    engine.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=list(specials),
        show_progress=False,
    )  # fmt: skip
    engine.train_from_iterator([transformers.GPT2Config.__doc__, *["the river and the old bird"] * 50], trainer)
    assert engine.get_vocab_size() == size
    return engine


def tiny_gpt2(vocab, **options):
    torch.manual_seed(1)
    config = transformers.GPT2Config(
        vocab_size=vocab, n_positions=32, n_embd=48, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0, **options
    )
    return transformers.GPT2LMHeadModel(config)


def tiny_llama(vocab, **options):
    torch.manual_seed(1)
    shape = {"num_key_value_heads": 2, "rms_norm_eps": 1e-5} | options
    config = transformers.LlamaConfig(
        vocab_size=vocab, hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=32, bos_token_id=0, eos_token_id=0, **shape,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config)


def tiny_gpt(vocab, **options):
    torch.manual_seed(1)
    config = transformers.OpenAIGPTConfig(
        vocab_size=vocab, n_positions=32, n_embd=48, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0, **options
    )
    return transformers.OpenAIGPTLMHeadModel(config)


def shake(model):
    """Random everywhere, norms and biases too: nothing agrees by being zero or one."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + 0.3 * noise if parameter.ndim == 1 else 0.1 * noise)
    return model.eval()


@pytest.fixture
def folder(tmp_path):
    """Saves a model with transformers' own save_pretrained, and a tokenizer."""

    def save(model, engine=None, name="model", **options):
        path = tmp_path / name
        shake(model).save_pretrained(path, **options)
        fast = transformers.PreTrainedTokenizerFast(
            tokenizer_object=engine or vocabulary(), bos_token="<|endoftext|>", eos_token="<|endoftext|>"
        )
        fast.save_pretrained(path)
        return path

    return save


MADE = {
    "gpt2": lambda: tiny_gpt2(320),
    "gpt2 untied": lambda: tiny_gpt2(320, tie_word_embeddings=False),
    "gpt2 n_inner": lambda: tiny_gpt2(320, n_inner=100),
    "gpt2 relu": lambda: tiny_gpt2(320, activation_function="relu"),
    "gpt": lambda: tiny_gpt(320),
    "gpt relu untied": lambda: tiny_gpt(320, afn="relu", tie_word_embeddings=False),
    "llama": lambda: tiny_llama(320),
    "llama tied": lambda: tiny_llama(320, tie_word_embeddings=True),
    "llama every head": lambda: tiny_llama(320, num_key_value_heads=4),
    "llama one head": lambda: tiny_llama(320, num_key_value_heads=1, head_dim=16),
    "llama biases": lambda: tiny_llama(320, attention_bias=True),
    "llama rope": lambda: tiny_llama(320, rope_parameters={"rope_type": "default", "rope_theta": 5e5}),
    "llama eps": lambda: tiny_llama(320, rms_norm_eps=1e-6),
}


@pytest.mark.parametrize("made", MADE)
def test_logits_equal_those_of_transformers(folder, made):
    theirs = MADE[made]()
    found = import_hf(folder(theirs))
    ids = torch.randint(0, 320, (3, 32), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        wanted, ours = theirs(ids).logits, found.model(ids)
    assert wanted.std() > 0.1  # a comparison of near-zeros would prove nothing
    assert (ours - wanted).abs().max() < LIMIT
    assert found.notes == ()


def test_several_files_and_half_precision_are_read(folder):
    theirs = tiny_llama(320)
    path = folder(theirs.to(torch.bfloat16), max_shard_size="40kB")
    assert len(list(path.glob("*.safetensors"))) > 1
    ids = torch.randint(0, 320, (1, 32))
    theirs = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)  # rotary tables in float32
    with torch.no_grad():
        assert (import_hf(path).model(ids) - theirs(ids).logits).abs().max() < LIMIT


def test_gpt2_as_it_is_on_the_hub_without_the_prefix(folder):
    theirs = tiny_gpt2(320)
    path = folder(theirs)
    theirs.transformer.save_pretrained(path)
    ids = torch.randint(0, 320, (1, 32))
    with torch.no_grad():
        assert (import_hf(path).model(ids) - theirs(ids).logits).abs().max() < LIMIT


def test_the_vocabulary_has_the_ids_of_the_model(folder, tmp_path):
    path = folder(tiny_gpt2(320))
    found = import_hf(path).tokenizer
    (tmp_path / "again").mkdir()
    for name, content in found.files().items():
        (tmp_path / "again" / name).write_bytes(content)
    read = load_tokenizer(tmp_path / "again")
    theirs = transformers.AutoTokenizer.from_pretrained(path)
    for text in TEXTS:
        ids = read.encode(text)
        if "<|" not in text:  # markers typed inside a text are text here
            assert ids == theirs(text, add_special_tokens=False)["input_ids"]
        assert read.decode(ids) == text
        assert read.byte_length(torch.tensor(ids, dtype=torch.int64).numpy()).sum() == len(text.encode())
    assert read.encode("<|endoftext|>") != [read.bos_id]
    assert (read.vocab_size, read.bos_id, read.specials) == (320, 0, {"<|endoftext|>": 0})


def test_rows_of_padding_are_left_out_and_told(folder):
    theirs = tiny_llama(384)
    found = import_hf(folder(theirs))
    ids = torch.randint(0, 320, (1, 32))
    with torch.no_grad():
        assert (found.model(ids) - theirs(ids).logits[..., :320]).abs().max() < LIMIT
    assert found.model.vocab_size == 320
    assert found.notes == ("64 rows of padding beyond the vocabulary are left out",)


def test_pickled_weights_are_refused(folder):
    path = folder(tiny_gpt2(320))
    (path / "model.safetensors").rename(path / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"pytorch_model\.bin is pickled") as error:
        import_hf(path)
    assert "save_pretrained" in error.value.mend


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"model_type": "mamba"}, "model_type 'mamba'"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0}}, "rope scaling 'llama3'"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope scaling 'linear'"),
        ({"eos_token_id": 77}, "eos_token_id 77, which is no special token"),
    ],
)
def test_what_the_decoder_has_not_is_refused_by_name(folder, change, told):
    path = folder(tiny_llama(320))
    values = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(values | change))
    with pytest.raises(UserError, match=told):
        import_hf(path)


@pytest.mark.parametrize(
    "options",
    [{"activation_function": "silu"}, {"scale_attn_by_inverse_layer_idx": True}, {"scale_attn_weights": False}],
)
def test_gpt2_that_computes_otherwise_is_refused(folder, options):
    with pytest.raises(UserError, match=next(iter(options))):
        import_hf(folder(tiny_gpt2(320, **options)))


def test_a_first_gpt_that_computes_otherwise_is_refused(folder):
    with pytest.raises(UserError, match="afn 'silu'"):
        import_hf(folder(tiny_gpt(320, afn="silu")))


def test_a_tokenizer_that_does_not_match_is_refused(folder):
    with pytest.raises(UserError, match="has 320 tokens and the model beside it 300: they do not belong together"):
        import_hf(folder(tiny_llama(300)))
    with pytest.raises(UserError, match="they do not belong together"):
        import_hf(folder(tiny_llama(5000), name="large"))
    with pytest.raises(UserError, match="add_prefix_space"):
        import_hf(folder(tiny_llama(320), vocabulary(add_prefix_space=True), name="prefix"))


def test_a_tokenizer_of_another_kind_is_refused(folder):
    words = Tokenizer(models.WordLevel({"<|endoftext|>": 0, "a": 1}, unk_token="a"))
    with pytest.raises(UserError, match="no byte-level BPE"):
        import_hf(folder(tiny_llama(320), words))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_or_damaged_file_is_named(folder, name):
    path = folder(tiny_llama(320))
    whole = (path / name).read_bytes()
    (path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RunError, match=name):
        import_hf(path)
    (path / name).unlink()
    with pytest.raises(UserError, match=name):
        import_hf(path)
