"""The quickstart's tokenizer, read by us and by transformers: the same ids for the same conversation."""

from datetime import date
from pathlib import Path

from examples.ledger.tokenizer import save
from transformers import AutoTokenizer

from score_distill.agent.chat import ChatFormat, encode
from score_distill.agent.chat_template import ChatTemplate
from score_distill.agent.trajectory import Step


def test_same_ids_as_transformers(tmp_path: Path):
    save(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    opening = [{"role": "user", "content": "How many cups does Mia have at the end?"}]
    messages, steps = list(opening), []
    for code, observation in [("print(read())", "Mia has 42 cups."), ("x = 42\nprint(read())", "NameError: no é\n")]:
        text = f"<thought>read</thought><code>{code}</code>"
        steps.append(Step(author="teacher", text=text, thought="read", code=code, observation=observation))
        messages += [
            {"role": "assistant", "content": text},
            {"role": "user", "content": f"Observation: {observation}"},
        ]
    chat = ChatFormat(tmp_path)
    ours = encode(chat, chat.opening(opening), steps)
    assert list(ours.ids) == tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)


DATED = """{%- set today = strftime_now('%d %B %Y') -%}
{%- if tools is not none or documents is not none %}tools{% endif %}
{{ {'b': [1, 2], 'a': 'é<&'} | tojson(indent=2) }}{{ ['x'] | tojson }}
{%- for m in messages -%}{%- if loop.index > 5 %}{% break %}{% endif -%}
<|im_start|>{{ m.role }} {{ today }}
{{ m.content }}<|im_end|>
{% endfor -%}{% if add_generation_prompt %}<|im_start|>assistant{% endif %}"""


def test_a_template_renders_as_in_transformers(tmp_path: Path):
    """Dates, indented JSON and loop controls, which SmolLM3, Granite 3 and Mistral Small 3 use."""
    save(tmp_path)
    (tmp_path / "chat_template.jinja").write_text(DATED)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    messages = [{"role": "system", "content": "Solve."}, {"role": "user", "content": "How many?"}]

    def theirs() -> str:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

    before, ours, after = theirs(), ChatTemplate(tmp_path).render(messages), theirs()
    assert ours in (before, after)  # midnight may pass between them
    then = ChatTemplate(tmp_path, date(2024, 2, 29)).render(messages)
    assert "<|im_start|>user 29 February 2024\nHow many?<|im_end|>" in then
