"""The code sandbox: model-written Python runs in forked, confined interpreters; a state after a step is a process."""
