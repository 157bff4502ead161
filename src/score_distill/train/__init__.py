"""LEARNS: one small training engine on DeepSpeed and transformers, two losses (SFT and GRPO).

It takes token rows and gives weights; it knows nothing of tasks, stores, clusters or servers.
"""
