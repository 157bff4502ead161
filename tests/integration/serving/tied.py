"""The quickstart's student with tied embeddings and sampling settings of its own, which it has not."""

import json
import shutil
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

STUDENT = Path(__file__).parents[3] / "examples" / "ledger" / "models" / "student"


def write_tied(folder: Path, dtype: torch.dtype = torch.float32, shard: str = "5GB") -> Path:
    config = AutoConfig.from_pretrained(STUDENT, tie_word_embeddings=True)
    model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    trained = AutoModelForCausalLM.from_pretrained(STUDENT, dtype=dtype).state_dict()
    del trained["lm_head.weight"]
    model.load_state_dict(trained, strict=False)
    model.save_pretrained(folder, max_shard_size=shard)
    AutoTokenizer.from_pretrained(STUDENT).save_pretrained(folder)
    shutil.copy(STUDENT / "chat_template.jinja", folder)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 579, "repetition_penalty": 1.5}))
    return folder
