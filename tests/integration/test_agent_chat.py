"""The quickstart's tokenizer, read by us and by transformers: the same ids for the same conversation."""

from pathlib import Path

from examples.ledger.tokenizer import save
from transformers import AutoTokenizer

from score_distill.agent.chat import ChatFormat, encode
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
