"""What the operator tells Prometheus, of itself and of each run's progress. No run's name is on a counter."""

from prometheus_client import Counter, Gauge, Histogram

RECONCILE = Histogram("score_operator_reconcile_seconds", "Seconds of one pass over a run")
WRITES = Counter("score_operator_api_writes_total", "Writes to the API server", ["verb", "kind"])
ERRORS = Counter("score_operator_reconcile_errors_total", "Passes that failed", ["error"])
QUEUE = Gauge("score_operator_queue_depth", "Runs that wait for a pass")
LATE = Gauge("score_operator_objects_late", "Objects of which the watch brought no news for a minute", ["kind"])
LEADS = Gauge("score_operator_leads", "1 while this operator holds the Lease and acts")
STEP_DONE = Gauge("score_run_step_done", "Units of a step that are done", ["namespace", "run", "step"])
STEP_TOTAL = Gauge("score_run_step_total", "Units of a step", ["namespace", "run", "step"])
TOKENS = Gauge("score_run_tokens", "Tokens that a run has spent", ["namespace", "run", "role"])
GPU_SECONDS = Gauge("score_run_gpu_seconds", "GPUs times seconds of a run's pods", ["namespace", "run"])
SCORE = Gauge("score_run_score_ratio", "Share of right answers", ["namespace", "run", "model", "eval"])
