"""The solve of many small duals as one program a problem, for an accelerator."""
