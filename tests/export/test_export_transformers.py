"""The exported folder opened by the real transformers library, with no network: equal numbers, tokens and chat."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
import torch
import transformers
from jinja2.exceptions import TemplateError

from lmcore.export.stage import ExportParams, ExportRuntime, export
from lmcore.generate.chat import marked_ids
from lmcore.generate.load import load
from lmcore.progress import silent

transformers.logging.disable_progress_bar()
TEXTS = [
    "The hero went home again",
    " two  spaces\n\n\nlines\r\n\ttab ",
    "Őszi szél, jó reggelt kívánok! it's I'LL 1234567",
    "ሰላም እንዴት ነህ? 物語🙂🎉 \u00a0\u200b",
    "",
]
CONVERSATION = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Szia! <b>1 < 2</b> {{ x }}"},
    {"role": "assistant", "content": "ሰላም\n"},
    {"role": "user", "content": "Go on"},
]


@pytest.fixture(scope="session")
def exported(shape, make_trained, tmp_path_factory):
    """(architecture, our model, the exported folder, transformers' model and what it says of loading it)."""
    architecture, options = shape
    trained = make_trained(**options)
    work = tmp_path_factory.mktemp("export")
    export(work, trained, params=ExportParams(), runtime=ExportRuntime(), report=silent)
    folder = work / "out" / "hf"
    theirs, loading = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    return architecture, load(trained), folder, theirs.eval(), loading


def test_every_weight_finds_its_place(exported):
    architecture, _, _, theirs, loading = exported
    assert type(theirs).__name__ == architecture
    assert theirs.dtype == torch.float32
    assert not any(loading.values()), loading


def test_log_probabilities_are_equal(exported):
    _, ours, _, theirs, _ = exported
    ids = torch.randint(
        0, ours.model.vocab_size, (3, ours.model.config.context), generator=torch.Generator().manual_seed(3)
    )
    with torch.no_grad():
        mine, wanted = ours.model(ids).log_softmax(-1), theirs(ids).logits.log_softmax(-1)
    assert wanted.std() > 0.1  # a comparison of near-zeros would prove nothing
    assert (mine - wanted).abs().max() <= 1e-5


def test_greedy_generation_is_equal(exported, read_json):
    """Their generate() gives the tokens of reference.json, to the end of the document or of the reference."""
    _, ours, folder, theirs, _ = exported
    for one in read_json(folder.parent / "reference.json")["prompts"]:
        ids = torch.tensor([one["ids"]])
        found = theirs.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=len(one["greedy"]), do_sample=False
        )
        found = found[0, len(one["ids"]) :].tolist()
        ends = {ours.tokenizer.bos_id, ours.tokenizer.specials["<|end|>"]}
        assert found == one["greedy"][: len(found)]
        assert len(found) == len(one["greedy"]) or found[-1] in ends


def test_padding_on_the_left_changes_no_generation(exported):
    architecture, _, folder, theirs, _ = exported
    if architecture == "OpenAIGPTLMHeadModel":
        pytest.skip("transformers' first GPT gives places to padding too (docs/export.md)")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, padding_side="left")
    both = tokenizer(["The hero went", "The hero went home again and sang"], return_tensors="pt", padding=True)
    assert set(both) == {"input_ids", "attention_mask"}
    together = theirs.generate(**both, max_new_tokens=8, min_new_tokens=8)
    for row, text in enumerate(["The hero went", "The hero went home again and sang"]):
        alone = theirs.generate(**tokenizer(text, return_tensors="pt"), max_new_tokens=8, min_new_tokens=8)
        assert together[row, -8:].tolist() == alone[0, -8:].tolist()


@pytest.fixture(scope="module")
def hf(make_trained, tmp_path_factory):
    """(our model, the exported folder) of the default shape."""
    trained = make_trained()
    work = tmp_path_factory.mktemp("export")
    export(work, trained, params=ExportParams(), runtime=ExportRuntime(), report=silent)
    return load(trained), work / "out" / "hf"


def test_token_ids_are_equal(hf):
    ours, folder = hf
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    assert len(theirs) == ours.tokenizer.vocab_size
    for text in TEXTS:
        ids = theirs(text)["input_ids"]
        assert ids == ours.tokenizer.encode(text)
        assert theirs.decode(ids) == text
    together = "\n".join(TEXTS * 200)
    assert theirs(together)["input_ids"] == ours.tokenizer.encode(together)


def test_specials_are_known(hf):
    ours, folder = hf
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    specials = ours.tokenizer.specials
    assert {name: theirs.convert_tokens_to_ids(name) for name in specials} == specials
    assert theirs("a<|user|>b<|end|>")["input_ids"][1::2] == [specials["<|user|>"], specials["<|end|>"]]
    assert (theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id) == (0, 0, 1)
    assert theirs.decode(list(specials.values()), skip_special_tokens=True) == ""
    assert set(specials) <= {token.content for token in theirs.added_tokens_decoder.values() if token.special}
    assert theirs.model_max_length == ours.model.config.context


def test_chat_template_gives_the_ids_of_our_chat(hf):
    ours, folder = hf
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    rendered = theirs.apply_chat_template(CONVERSATION, add_generation_prompt=True, tokenize=False)
    assert rendered == (
        "<|endoftext|><|system|>Be brief.<|end|><|user|>Szia! <b>1 < 2</b> {{ x }}<|end|>"
        "<|assistant|>ሰላም\n<|end|><|user|>Go on<|end|><|assistant|>"
    )
    ids = theirs.apply_chat_template(CONVERSATION, add_generation_prompt=True, return_dict=True)["input_ids"]
    assert ids == marked_ids(CONVERSATION, ours.tokenizer)
    answered = [*CONVERSATION, {"role": "assistant", "content": "Yes."}]
    assert theirs.apply_chat_template(answered, tokenize=False) == rendered + "Yes.<|end|>"


def test_chat_template_is_in_both_places(hf, read_json):
    _, folder = hf
    template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    assert read_json(folder / "tokenizer_config.json")["chat_template"] == template


def test_an_unknown_role_is_refused(hf):
    theirs = transformers.AutoTokenizer.from_pretrained(hf[1])
    with pytest.raises(TemplateError, match="unknown role wizard"):
        theirs.apply_chat_template([{"role": "wizard", "content": "x"}], tokenize=False)


def test_generation_ends_with_document_or_turn(hf):
    config = transformers.GenerationConfig.from_pretrained(hf[1])
    assert config.eos_token_id == [0, 5]
    assert (config.bos_token_id, config.pad_token_id, config.do_sample) == (0, 1, False)


def test_the_cards_example_runs(hf, monkeypatch, capsys):
    card = (hf[1] / "README.md").read_text(encoding="utf-8")
    example = card.partition("```python\n")[2].partition("```")[0]
    monkeypatch.chdir(hf[1])
    exec(compile(example, "README.md", "exec"), {})
    assert "The" in capsys.readouterr().out
