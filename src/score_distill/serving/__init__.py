"""What every executor needs to serve a model with vLLM: how it is started, and how weights are loaded and verified."""
