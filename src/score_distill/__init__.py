"""SCoRe: distil a large agent model into a small one by correction (arXiv 2509.14257)."""
