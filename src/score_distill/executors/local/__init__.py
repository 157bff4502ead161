"""RUNS a plan on one machine: each step a process, models and sandbox as servers of the run, a folder as the store."""
